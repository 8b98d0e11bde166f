"""Trackers that never keep a sweep waiting: one thread writes to MLflow in the order of the calls."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from segsweep.priority import this_thread_may_wait
from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus
from segsweep.tracking.tracker import MlflowLink, ParamValue, RunLogger, SweepInfo, Tracker

CAPACITY = 100_000  # calls that may wait; beyond that they are counted as lost instead of filling the memory
BATCH = 512
ATTEMPTS = 3
BACKOFF_S = 0.2
LINGER_S = 3.0  # a call to MLflow costs tens of ms of CPU whatever it carries, and trials train beside it
PAUSE_S = 5.0  # after the second call in a row that failed
GIVE_UP_AFTER = 3  # calls in a row that failed, once the tracker is being closed


class Buffered(Protocol):
    """What the thread needs of a tracker besides its events."""

    def at(self, timestamp_ms: int | None) -> None:
        """State when the next events happened."""

    def flush(self) -> None:
        """Write what is collected."""

    @property
    def pending(self) -> int:
        """Number of entries that are not written yet."""

    def link(self) -> MlflowLink:
        """Where the run is, as far as it is known."""

    def close(self) -> MlflowLink:
        """Write what is left."""


class BufferedTracker(Buffered, Tracker, Protocol):
    """A sweep tracker that collects calls until it is flushed."""


class BufferedRunLogger(Buffered, RunLogger, Protocol):
    """A run logger that collects calls until it is flushed."""


Target = TypeVar("Target", bound=Buffered)


@dataclass(frozen=True, slots=True)
class _Call(Generic[Target]):
    at_ms: int
    run: Callable[[Target], None]
    replaces: str = ""  # of several waiting calls with this name only the last is made
    heals: bool = False  # it writes again whatever earlier calls lost


class Drain(Generic[Target]):
    """A queue of calls to a target that is made, used and closed in one thread.

    Errors never reach the caller: a call is tried a few times, then counted as lost and the last error is
    kept for ``close``. While the store is down the thread tries one call every few seconds and the others
    wait, so that an outage costs little; ``close`` does not wait for a store that stays down.
    """

    def __init__(self, make_target: Callable[[], Target]) -> None:
        self._make_target = make_target
        self._waiting: deque[_Call[Target]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._failures = 0
        self._lost = 0
        self._error = ""
        self._link: MlflowLink | None = None
        self._thread: threading.Thread | None = None  # started by the first call

    def submit(self, run: Callable[[Target], None], *, replaces: str = "", heals: bool = False) -> None:
        """Queue a call; returns at once."""
        call = _Call(time.time_ns() // 1_000_000, run, replaces, heals)
        with self._wake:
            if self._closing or len(self._waiting) >= CAPACITY:
                self._lost += 1
                self._error = (
                    "called after close" if self._closing else f"more than {CAPACITY} calls were waiting"
                )
                return
            self._waiting.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="segsweep-mlflow", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self, timeout_s: float) -> MlflowLink:
        """Wait until everything is written, at most ``timeout_s`` seconds, and say where it is."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
        link = self._link or MlflowLink(tracking_uri="", experiment_id="", parent_run_id="", url="")
        lost = self._lost + len(self._waiting)
        if self._thread is not None and self._thread.is_alive():
            problem = f"MLflow was not done after {timeout_s:g} s, {lost} calls were not written"
            return dataclasses.replace(link, lost=max(lost, 1), problem=problem + self._because())
        if lost:
            problem = f"{lost} calls were not written to MLflow"
            return dataclasses.replace(link, lost=lost, problem=problem + self._because())
        return link

    def _because(self) -> str:
        return f"; the last error was: {self._error}" if self._error else ""

    def _work(self) -> None:
        this_thread_may_wait()
        target: Target | None = None
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if not self._waiting and self._closing:
                    break
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            target = target or self._made()
            if target is None:
                self._lost += len(batch)
                continue
            self._make_calls(target, batch)
            with self._wake:  # what comes within the next seconds goes with one call for each run
                self._wake.wait_for(lambda: self._closing, timeout=LINGER_S)
        if target is not None:
            self._end(target)

    def _made(self) -> Target | None:
        try:
            return self._make_target()
        except Exception as error:  # a sweep must survive whatever its tracker does; close() tells
            self._error = _first_line(error)
            return None

    def _make_calls(self, target: Target, batch: Sequence[_Call[Target]]) -> None:
        last = {call.replaces: index for index, call in enumerate(batch) if call.replaces}
        for index, call in enumerate(batch):
            if call.replaces and last[call.replaces] != index:
                continue
            target.at(call.at_ms)
            if self._given_up() and not call.heals:
                self._lost += 1
            elif not self._tried(lambda call=call: call.run(target)):  # type: ignore[misc]
                self._lost += 1
                self._pause()
            elif call.heals:
                self._lost = 0
        target.at(None)
        if not self._given_up() and not self._tried(target.flush):
            self._pause()
        self._link = target.link()

    def _end(self, target: Target) -> None:
        self._tried(target.close)
        self._lost += target.pending
        self._link = target.link()

    def _given_up(self) -> bool:
        return self._closing and self._failures >= GIVE_UP_AFTER

    def _pause(self) -> None:
        """Leave a store that is down alone for a while: what waits in the queue is not lost."""
        if self._failures > 1:
            with self._wake:
                self._wake.wait_for(lambda: self._closing, timeout=PAUSE_S)

    def _tried(self, act: Callable[[], object]) -> bool:
        attempts = ATTEMPTS if self._failures == 0 else 1
        for attempt in range(attempts):
            try:
                act()
            except Exception as error:  # as above: remembered and told at close, never raised
                self._error = _first_line(error)
                if attempt + 1 < attempts:
                    time.sleep(BACKOFF_S * 2**attempt)
            else:
                self._failures = 0
                return True
        self._failures += 1
        return False


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}"


class BackgroundTracker:
    """A ``Tracker`` whose calls return at once."""

    def __init__(self, make_tracker: Callable[[], BufferedTracker]) -> None:
        self._drain = Drain(make_tracker)

    def start_sweep(self, info: SweepInfo) -> None:
        """Queue the call."""
        self._drain.submit(lambda tracker: tracker.start_sweep(info))

    def trial_started(self, trial_id: str, number: int, point: Point, source: str) -> None:
        """Queue the call."""
        self._drain.submit(lambda tracker: tracker.trial_started(trial_id, number, point, source))

    def trial_cost(self, trial_id: str, cost: CostReport) -> None:
        """Queue the call."""
        self._drain.submit(lambda tracker: tracker.trial_cost(trial_id, cost))

    def trial_score(self, trial_id: str, score: Score) -> None:
        """Queue the call."""
        self._drain.submit(lambda tracker: tracker.trial_score(trial_id, score))

    def trial_finished(self, evaluation: Evaluation) -> None:
        """Queue the call."""
        self._drain.submit(lambda tracker: tracker.trial_finished(evaluation))

    def front_updated(self, evaluations: Sequence[Evaluation]) -> None:
        """Queue the call; of several that wait together only the last is made, it covers the others."""
        snapshot = tuple(evaluations)
        self._drain.submit(lambda tracker: tracker.front_updated(snapshot), replaces="front")

    def sweep_finished(self, evaluations: Sequence[Evaluation], figures: Mapping[str, Path]) -> None:
        """Queue the call; it also writes again what earlier calls lost."""
        snapshot, files = tuple(evaluations), dict(figures)
        self._drain.submit(lambda tracker: tracker.sweep_finished(snapshot, files), heals=True)

    def close(self, timeout_s: float = 60.0) -> MlflowLink:
        """Wait until everything is written; the link says what was not."""
        return self._drain.close(timeout_s)


class BackgroundRunLogger:
    """A ``RunLogger`` whose calls return at once."""

    def __init__(self, make_logger: Callable[[], BufferedRunLogger]) -> None:
        self._drain = Drain(make_logger)

    def start_run(
        self,
        name: str,
        *,
        params: Mapping[str, ParamValue],
        tags: Mapping[str, str],
        artifacts: Mapping[str, str],
    ) -> None:
        """Queue the call."""
        kept_params, kept_tags, kept_artifacts = dict(params), dict(tags), dict(artifacts)
        self._drain.submit(
            lambda logger: logger.start_run(
                name, params=kept_params, tags=kept_tags, artifacts=kept_artifacts
            )
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue the call."""
        values = dict(metrics)
        self._drain.submit(lambda logger: logger.log(step, values))

    def attach(self, files: Mapping[str, Path]) -> None:
        """Queue the call."""
        paths = dict(files)
        self._drain.submit(lambda logger: logger.attach(paths))

    def finish(self, status: TrialStatus, reason: str = "") -> None:
        """Queue the call."""
        self._drain.submit(lambda logger: logger.finish(status, reason))

    def close(self, timeout_s: float = 60.0) -> MlflowLink:
        """Wait until everything is written; the link says what was not."""
        return self._drain.close(timeout_s)
