"""Ray Tune's side of the controller: a Searcher that proposes and a TrialScheduler that stops.

Ray's own ``OptunaSearch`` tells a trial that was stopped early as complete, leaves others running for
ever and knows no constraints; its schedulers take one metric. These two only translate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from segsweep.distributed.controller import SweepController
from segsweep.distributed.trainable import EVENTS, assignment
from segsweep.records import Evaluation


class ControlledSearcher(Searcher):  # type: ignore[misc]
    """Proposes what the controller proposes, and tells it how trials ended."""

    def __init__(self, controller: SweepController) -> None:
        super().__init__()
        self._controller = controller
        self.numbers: dict[str, int] = {}  # Tune's trial id -> number of the trial
        self.error: Exception | None = None  # Tune would wrap it in a traceback: the sweep raises it instead

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, ``None`` to be asked again later, or ``FINISHED``."""
        try:
            stub = None if self.error else self._controller.next_trial()
        except Exception as error:
            self.error = error
        if self.error:
            return str(Searcher.FINISHED)
        if stub is None:
            return str(Searcher.FINISHED) if self._controller.finished else None
        self.numbers[trial_id] = stub.number
        return assignment(stub)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Close a trial that the scheduler stopped or whose worker died; others are closed already."""
        number = self.numbers[trial_id]
        if self.error or not self._controller.is_running(number):
            return
        try:
            if error or result is None:
                self._controller.fail(number, "the worker that ran the trial died twice; see the logs folder")
            else:
                self._controller.stop(number)
        except Exception as failure:
            self.error = failure

    def save(self, checkpoint_path: str) -> None:
        """Tune wants a file; the journal is the truth."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Resuming replays the journal instead."""


class ParetoScheduler(FIFOScheduler):  # type: ignore[misc]
    """Stops a trial at a rung when the controller's promotion rule says so."""

    def __init__(self, controller: SweepController, searcher: ControlledSearcher) -> None:
        super().__init__()
        self._controller = controller
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Hand the events to the controller; continue or stop as it decides."""
        go = self._take(trial, result)
        return str(TrialScheduler.CONTINUE if go else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The last result of a trial carries its evaluation; one that was stopped has been taken in."""
        if result.get("done"):
            self._take(trial, result)

    def _take(self, trial: Any, result: dict[str, Any]) -> bool:
        number = self._searcher.numbers[trial.trial_id]
        if self._searcher.error:
            return False
        if not self._controller.is_running(number):
            return True
        try:
            return self._observe(number, result)
        except Exception as error:
            self._searcher.error = error
            return False

    def _observe(self, number: int, result: dict[str, Any]) -> bool:
        events = json.loads(result[EVENTS])
        go = self._controller.observe(number, events)
        if events[-1]["event"] == "evaluation":
            self._controller.finish(Evaluation.from_json(events[-1]["evaluation"]))
        return go
