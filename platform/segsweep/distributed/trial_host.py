"""The actor's side of a fork host: begin a trial, read its events, tell it to go on or to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from segsweep.distributed.fork_protocol import GO, STOP, Request
from segsweep.errors import SegsweepError
from segsweep.records import CostReport, Evaluation, Score, TrialStatus

START_MODULE = "segsweep.distributed.fork_host"
PATIENCE_S = (
    3.0  # a result costs Tune and the driver CPU that the trial could use: short epochs travel together
)


class TrialHost:
    """Owns one warm process; one trial at a time.

    Args:
        log: File that receives what the host itself prints.
    """

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", START_MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self._log = log
        self._trial: _RunningTrial | None = None
        self._ready = False

    def begin(self, stub: Evaluation, task: bytes, *, log: Path) -> None:
        """Fork a trial of a pickled ``TrialTask``; one that still waits at a rung is stopped first."""
        self.stop()
        if not self._ready:
            self._expect("ready")
            self._ready = True
        self._write(Request(stub, task, log).encode())
        self._trial = _RunningTrial(stub, log)

    def next_events(self) -> list[dict[str, Any]]:
        """Block until a rung, the end of the trial, or the first score after ``PATIENCE_S``.

        Returns:
            All events since the last call. The last one is a ``score``, or an ``evaluation`` when the trial
            has ended.
        """
        begin = time.monotonic()
        trial = self._running()
        if trial.waits_at_rung:
            self._write(GO)
            trial.waits_at_rung = False
        events: list[dict[str, Any]] = []
        while True:
            event = self._read()
            trial.events.append(event)
            if event["event"] == "exit":
                events.append({"event": "evaluation", "evaluation": trial.outcome(event["code"]).to_json()})
                self._trial = None
                return events
            if event["event"] == "evaluation":
                continue  # returned with the exit that follows at once
            events.append(event)
            if event["event"] == "score":
                trial.waits_at_rung = event["score"]["is_rung"]
                if trial.waits_at_rung or time.monotonic() - begin >= PATIENCE_S:
                    return events

    def stop(self) -> None:
        """End a trial that waits at a rung; kill one that trains."""
        if self._trial is None:
            return
        if not self._trial.waits_at_rung:
            raise SegsweepError(f"trial {self._trial.stub.trial_id} still trains; only a rung may stop it")
        self._write(STOP)
        while self._read()["event"] != "exit":
            pass
        self._trial = None

    def close(self) -> None:
        """End the process and, through it, its trial."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _running(self) -> _RunningTrial:
        if self._trial is None:
            raise SegsweepError("no trial runs in this host; call begin first")
        return self._trial

    def _expect(self, name: str) -> None:
        event = self._read()
        if event["event"] != name:
            raise SegsweepError(f"the fork host sent {event['event']!r}, expected {name!r}; see {self._log}")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            try:
                event: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line that a killed child left half written
            return event
        raise SegsweepError(f"the fork host ended with code {self._process.wait()}; see {self._log}")


class _RunningTrial:
    """What is known of the trial that runs now."""

    def __init__(self, stub: Evaluation, log: Path) -> None:
        self.stub = stub
        self.log = log
        self.events: deque[dict[str, Any]] = deque()
        self.waits_at_rung = False

    def outcome(self, code: int) -> Evaluation:
        """The evaluation that the child sent, or a failed one if it died before."""
        costs, scores = [], []
        for event in self.events:
            match event["event"]:
                case "evaluation":
                    return Evaluation.from_json(event["evaluation"])
                case "cost":
                    costs.append(CostReport.from_json(event["cost"]))
                case "score":
                    scores.append(Score(**event["score"]))
        how = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = (
            " (the kernel kills with 9 when memory runs out: lower recipe.batch_size)" if code == -9 else ""
        )
        return Evaluation(
            trial_id=self.stub.trial_id,
            number=self.stub.number,
            point=self.stub.point,
            source=self.stub.source,
            status=TrialStatus.FAILED,
            reason=f"the trial's process was {how}{hint}; its log: {self.log}",
            cost=costs[-1] if costs else None,
            scores=tuple(scores),
            seconds=scores[-1].seconds if scores else 0.0,
        )
