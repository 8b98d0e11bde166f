"""The driver's state of a sweep: asks the study, obeys the rungs, writes the journal, tells listeners.

Knows neither Ray nor MLflow, so a sweep can be replayed in a test. The journal is the truth: replaying
it rebuilds sampler and rungs exactly, because both are deterministic in the sequence of events.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from segsweep.errors import DataError
from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus
from segsweep.search.journal import Journal
from segsweep.search.strategy import PromotionRule
from segsweep.search.study import SpaceExhausted, Study


class SweepListener(Protocol):
    """Something that watches a sweep: a tracker, a progress display."""

    def trial_started(self, stub: Evaluation) -> None:
        """A point was proposed and is about to run."""

    def trial_cost(self, stub: Evaluation, cost: CostReport) -> None:
        """The trial's cost is known, or known better."""

    def trial_score(self, stub: Evaluation, score: Score) -> None:
        """The trial was validated."""

    def trial_finished(self, evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> None:
        """The trial ended; with all evaluations up to now."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a sweep ends.

    Attributes:
        trials: Trials to train; infeasible ones do not count.
        max_infeasible: Infeasible proposals after which the sweep gives up.
        max_minutes: Wall time after which no new trial begins; ``None`` for no limit.
    """

    trials: int
    max_infeasible: int = 200
    max_minutes: float | None = None


def stub_of(number: int, point: Point, source: str) -> Evaluation:
    """The record of a trial before it has run."""
    return Evaluation(
        trial_id=f"{number:04d}-{point.key}",
        number=number,
        point=point,
        source=source,
        status=TrialStatus.FAILED,
        reason="did not end",
    )


@dataclass
class _Running:
    stub: Evaluation
    started: float
    cost: CostReport | None = None
    scores: list[Score] = field(default_factory=list)
    decisions: dict[int, bool] = field(default_factory=dict)


class SweepController:
    """Owns every decision of a sweep; called from the driver's thread only."""

    def __init__(
        self,
        study: Study,
        rule: PromotionRule,
        journal: Journal,
        *,
        budget: Budget,
        workers: int = 1,
        listeners: Sequence[SweepListener] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study, self._rule, self._journal = study, rule, journal
        self._budget, self._workers, self._listeners = budget, workers, tuple(listeners)
        self._clock, self._started = clock, clock()
        self._running: dict[int, _Running] = {}
        self._interrupted: list[Evaluation] = []
        self.evaluations: list[Evaluation] = []
        self.exhausted = False

    @property
    def running(self) -> int:
        """Number of trials in flight."""
        return len(self._running)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing more will be proposed."""
        return not self._running and not self._interrupted and not self._budget_left()

    def next_trial(self) -> Evaluation | None:
        """The next trial to start, or ``None`` if none may start now (see ``finished``)."""
        if len(self._running) >= self._workers:
            return None
        if self._interrupted:
            stub = self._interrupted.pop(0)
        elif not self._budget_left():
            return None
        else:
            try:
                suggestion = self._study.ask()
            except SpaceExhausted:
                self.exhausted = True
                return None
            stub = stub_of(suggestion.number, suggestion.point, suggestion.source)
            self._journal.append(
                {"type": "ask", "number": stub.number, "point": stub.point.as_dict(), "source": stub.source}
            )
        self._running[stub.number] = _Running(stub, self._clock())
        for listener in self._listeners:
            listener.trial_started(stub)
        return stub

    def observe(self, number: int, events: Sequence[Mapping[str, Any]]) -> bool:
        """Take in a running trial's events; returns whether it may go on."""
        trial = self._running[number]
        go = True
        for event in events:
            match event["event"]:
                case "cost":
                    self._take_cost(trial, CostReport.from_json(event["cost"]))
                case "score":
                    go = self._take_score(trial, Score(**event["score"]))
                case "mark":
                    self._journal.append(
                        {"type": "mark", "number": number, "name": event["name"], "at": event["at"]}
                    )
        return go

    def stop(self, number: int) -> None:
        """Close a trial that the rungs stopped."""
        trial = self._running[number]
        score = trial.scores[-1]
        self.finish(
            dataclasses.replace(
                trial.stub,
                status=TrialStatus.STOPPED,
                reason=f"stopped at fidelity {score.fidelity:.3g} with mIoU {score.miou:.4f}: "
                f"others there were better",
                cost=trial.cost,
                scores=tuple(trial.scores),
                seconds=self._clock() - trial.started,
            )
        )

    def fail(self, number: int, reason: str) -> None:
        """Close a trial whose worker died."""
        trial = self._running[number]
        self.finish(
            dataclasses.replace(
                trial.stub,
                status=TrialStatus.FAILED,
                reason=reason,
                cost=trial.cost,
                scores=tuple(trial.scores),
                seconds=self._clock() - trial.started,
            )
        )

    def is_running(self, number: int) -> bool:
        """Whether the trial is in flight."""
        return number in self._running

    def finish(self, evaluation: Evaluation) -> None:
        """Journal an evaluation, tell the study, and tell the listeners."""
        del self._running[evaluation.number]
        self._journal.append({"type": "finish", "evaluation": evaluation.to_json()})
        self._close(evaluation)
        for listener in self._listeners:
            listener.trial_finished(evaluation, self.evaluations)

    def restore(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Replay the journal of an interrupted sweep; trials in flight will start again.

        Raises:
            DataError: If the study proposes other points than the journal records, because the space,
                the seed or the version changed.
        """
        finished = {
            event["evaluation"]["number"]: Evaluation.from_json(event["evaluation"])
            for event in events
            if event["type"] == "finish"
        }
        asked: dict[int, Evaluation] = {}
        for event in events:
            match event["type"]:
                case "ask":
                    asked[event["number"]] = self._ask_again(event)
                case "cost" if event["number"] in finished:
                    asked[event["number"]] = dataclasses.replace(
                        asked[event["number"]], cost=CostReport.from_json(event["cost"])
                    )
                case "score" if event["number"] in finished:
                    self._decide(asked[event["number"]], Score(**event["score"]))
                case "finish":
                    self._close(finished[event["evaluation"]["number"]])
        self._interrupted = [stub for number, stub in asked.items() if number not in finished]

    def _ask_again(self, event: Mapping[str, Any]) -> Evaluation:
        suggestion = self._study.ask()
        if suggestion.number != event["number"] or suggestion.point != Point(event["point"]):
            raise DataError(
                f"cannot resume: trial {event['number']} was {event['point']}, the study now proposes "
                f"{suggestion.point.as_dict()}; the space, the seed or the version changed. Start a new sweep"
            )
        return stub_of(suggestion.number, suggestion.point, suggestion.source)

    def _take_cost(self, trial: _Running, cost: CostReport) -> None:
        trial.cost = cost
        self._journal.append({"type": "cost", "number": trial.stub.number, "cost": cost.to_json()})
        for listener in self._listeners:
            listener.trial_cost(trial.stub, cost)

    def _take_score(self, trial: _Running, score: Score) -> bool:
        if score.epoch in trial.decisions:  # a trial that Tune restarted after its worker died
            return trial.decisions[score.epoch]
        trial.scores.append(score)
        self._journal.append({"type": "score", "number": trial.stub.number, "score": score.to_json()})
        for listener in self._listeners:
            listener.trial_score(trial.stub, score)
        go = self._decide(dataclasses.replace(trial.stub, cost=trial.cost), score)
        trial.decisions[score.epoch] = go
        return go

    def _decide(self, stub: Evaluation, score: Score) -> bool:
        if not score.is_rung:
            return True
        return self._rule.decide(stub.trial_id, score.fidelity, {**stub.metrics(), "miou": score.miou})

    def _close(self, evaluation: Evaluation) -> None:
        complete = evaluation.status is TrialStatus.COMPLETE
        self._study.tell(
            evaluation.number,
            status=evaluation.status,
            values=evaluation.metrics() if complete else None,
        )
        self.evaluations.append(evaluation)

    def _budget_left(self) -> bool:
        trained = sum(item.status is not TrialStatus.INFEASIBLE for item in self.evaluations)
        infeasible = len(self.evaluations) - trained
        minutes = (self._clock() - self._started) / 60
        in_time = self._budget.max_minutes is None or minutes < self._budget.max_minutes
        return (
            in_time
            and not self.exhausted
            and trained + len(self._running) < self._budget.trials
            and infeasible < self._budget.max_infeasible
        )
