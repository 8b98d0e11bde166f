"""What a sweep tells a tracker, and what a tracker gives back: the only view of MLflow that a driver has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from segsweep.records import CostReport, Evaluation, Objective, Point, Score, TrialStatus

ParamValue = str | float | int


@dataclass(frozen=True, kw_only=True)
class SweepInfo:
    """What is known of a sweep before its first trial.

    Attributes:
        sweep_id: Unique; a resumed sweep has the same one and goes on in the same runs.
        name: Name of the parent run.
        method: Method that is searched, for example ``"eseg"``.
        objectives: What is optimised; the first is the y axis of every front.
        params: Conditions of the sweep: seed, sampler, budget, data set, device.
        artifacts: File name -> text: the space, the job, the environment.
        reference: Fixed corner of the hypervolume by metric. A cost that is left out gets twice the
            largest cost told when the first trial completes: fixed from then on, so that the curve
            never jumps, but then two sweeps are comparable only if it is given.
    """

    sweep_id: str
    name: str
    method: str
    objectives: tuple[Objective, ...]
    params: dict[str, ParamValue] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MlflowLink:
    """Where the runs are, and what is not there (yet).

    Attributes:
        tracking_uri: Store that was written.
        experiment_id: Empty if the store was never reached.
        parent_run_id: Run of the sweep (or of the training); empty if it was never created.
        url: Deep link that opens the comparison in the UI; empty if the store was never reached.
        lost: Number of records and entries that the store will never get.
        waiting: Number of records that are on disk and not in the store yet.
        problem: What is lost or waits, why, and what to do; empty if all is well.
    """

    tracking_uri: str
    experiment_id: str
    parent_run_id: str
    url: str
    lost: int = 0
    waiting: int = 0
    problem: str = ""


class Tracker(Protocol):
    """The events of a sweep, in the order in which they happen."""

    def start_sweep(self, info: SweepInfo) -> None:
        """Open the sweep's run, or the one that an interrupted sweep with the same id left."""

    def trial_started(self, trial_id: str, number: int, point: Point, source: str) -> None:
        """Open the run of a trial."""

    def trial_cost(self, trial_id: str, cost: CostReport) -> None:
        """Record what the trial's model costs."""

    def trial_score(self, trial_id: str, score: Score) -> None:
        """Record one validation of a trial."""

    def trial_finished(self, evaluation: Evaluation) -> None:
        """Record how a trial ended."""

    def front_updated(self, evaluations: Sequence[Evaluation]) -> None:
        """Record front, ranks and hypervolume of all trials that ended so far, in order of their end."""

    def sweep_finished(
        self, evaluations: Sequence[Evaluation], figures: Mapping[str, Path], *, interrupted: bool = False
    ) -> None:
        """Record the front and attach figures (name in the run -> file on disk).

        An ``interrupted`` sweep has all that a complete one has of the trials that ended, and says so.
        """

    def close(self) -> MlflowLink:
        """Write what is left and say where it is."""


class RunLogger(Protocol):
    """One run outside a sweep: what ``segsweep train`` records."""

    def start_run(
        self,
        name: str,
        *,
        params: Mapping[str, ParamValue],
        tags: Mapping[str, str],
        artifacts: Mapping[str, str],
    ) -> None:
        """Open the run; ``artifacts`` is file name -> text."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one epoch."""

    def attach(self, files: Mapping[str, Path]) -> None:
        """Attach files (path in the run -> file on disk)."""

    def finish(self, status: TrialStatus, reason: str = "") -> None:
        """Record how the training ended."""

    def close(self) -> MlflowLink:
        """Write what is left and say where it is."""
