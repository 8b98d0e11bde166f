"""A sweep's events as records of a spool, and back as calls to a tracker."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from segsweep.records import CostReport, Evaluation, Objective, Point, Score
from segsweep.tracking.pump import COVERED
from segsweep.tracking.replay import FINISHED, START, Buffered
from segsweep.tracking.run_events import portable, refuse_missing, split_files
from segsweep.tracking.spool import Record
from segsweep.tracking.tracker import SweepInfo, Tracker

SWEEP = "sweep"  # kind of the spool
TRIAL_STARTED = "trial_started"
TRIAL_COST = "trial_cost"
TRIAL_SCORE = "trial_score"
TRIAL_FINISHED = "trial_finished"
EVALUATION = "evaluation"  # a trial that ended before this spool began; only remembered
FRONT = COVERED


class BufferedTracker(Buffered, Tracker, Protocol):
    """A sweep tracker that collects calls until it is flushed."""

    def recall(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn how trials ended whose events it was not told, in order of their end."""


def start_fields(info: SweepInfo) -> dict[str, object]:
    """The fields of the record that opens a sweep."""
    return {"sweep": dataclasses.asdict(info)}


def finished_fields(
    order: list[str] | int, figures: Mapping[str, Path], *, folder: Path, interrupted: bool
) -> dict[str, object]:
    """The fields of the record that ends a sweep; ``order``: ids of trials, or how many from the first on."""
    paths = {name: portable(path, folder) for name, path in figures.items()}
    return {"trials": order, "figures": paths, "interrupted": interrupted}


class SweepEvents:
    """Turns records into calls; remembers evaluations by trial id, in order of their end.

    Args:
        folder: Folder of the spool: figures inside it are found although the folder has moved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._evaluations: dict[str, Evaluation] = {}

    @property
    def ended(self) -> tuple[str, ...]:
        """Ids of the trials that ended, in order."""
        return tuple(self._evaluations)

    def take(self, record: Record) -> None:
        """Remember evaluations."""
        event = record.get("do")
        if event == START:
            _info(record["sweep"])
        elif event in (TRIAL_FINISHED, EVALUATION):
            evaluation = Evaluation.from_json(record["evaluation"])
            self._evaluations[evaluation.trial_id] = evaluation

    def restore(self, target: BufferedTracker) -> None:
        """Tell a new tracker how the trials ended whose events it was not told."""
        target.recall(tuple(self._evaluations.values()))

    def tell(self, target: BufferedTracker, record: Record) -> None:
        """Call the tracker."""
        event = record["do"]
        if event == START:
            target.start_sweep(_info(record["sweep"]))
        elif event == TRIAL_STARTED:
            point = Point(record["point"])
            target.trial_started(record["trial"], record["number"], point, record["source"])
        elif event == TRIAL_COST:
            target.trial_cost(record["trial"], CostReport.from_json(record["cost"]))
        elif event == TRIAL_SCORE:
            target.trial_score(record["trial"], Score(**record["score"]))
        elif event == TRIAL_FINISHED:
            target.trial_finished(Evaluation.from_json(record["evaluation"]))
        elif event == FRONT:
            target.front_updated(self._told(record["trials"]))
        elif event == FINISHED:
            figures, gone = split_files(record["figures"], self._folder)
            is_interrupted = bool(record.get("interrupted", False))
            target.sweep_finished(self._told(record["trials"]), figures, interrupted=is_interrupted)
            refuse_missing(gone)

    def _told(self, trials: list[str] | int) -> Sequence[Evaluation]:
        if isinstance(trials, int):
            return list(self._evaluations.values())[:trials]
        return [self._evaluations[trial_id] for trial_id in trials]


def readable_trials(records: Iterable[Record]) -> dict[str, None]:
    """Ids of the trials that ``SweepEvents`` remembers of these records, in order."""
    events = SweepEvents(Path())
    for record in records:
        with suppress(TypeError, ValueError, LookupError, AttributeError):
            events.take(record)
    return dict.fromkeys(events.ended)


def _info(document: Record) -> SweepInfo:
    objectives = tuple(Objective(**objective) for objective in document["objectives"])
    return SweepInfo(**{**document, "objectives": objectives})
