"""What a finished job gives back: records, an Arrow table, one JSON document."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segsweep.records import CostReport, Evaluation, Objective, Point, Score, TrialStatus
from segsweep.tracking.tracker import MlflowLink

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """A sweep's outcome.

    Attributes:
        sweep_id: Name of the sweep; ``--resume`` takes it.
        folder: Journal, logs, ``evaluations.parquet``, ``front.md``, ``pareto.png``.
        evaluations: Every trial in order of its end.
        front: Complete trials that no other dominates.
        hypervolume: Of the front, at ``reference``.
        reference: Reference point by metric.
        interrupted: Whether Ctrl-C ended it early.
        exhausted: Whether the space had no new point left before ``trials`` were trained.
        mlflow: Where the runs are.
    """

    sweep_id: str
    folder: Path
    objectives: tuple[Objective, ...]
    evaluations: tuple[Evaluation, ...]
    front: tuple[Evaluation, ...]
    hypervolume: float
    reference: dict[str, float]
    interrupted: bool
    exhausted: bool
    mlflow: MlflowLink
    figure: Path | None

    def count(self, status: TrialStatus) -> int:
        """Number of trials that ended so."""
        return Counter(item.status for item in self.evaluations)[status]

    def table(self) -> pa.Table:
        """All evaluations as an Arrow table with one column per axis and metric."""
        from segsweep.reporting.tables import evaluations_table

        return evaluations_table(self.evaluations)

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "sweep_id": self.sweep_id,
            "trials": {str(status): self.count(status) for status in TrialStatus},
            "front": [_front_entry(item) for item in self.front],
            "hypervolume": self.hypervolume,
            "reference": self.reference,
            "interrupted": self.interrupted,
            "exhausted": self.exhausted,
            "failures": [
                {"trial_id": item.trial_id, "reason": item.reason}
                for item in self.evaluations
                if item.status is TrialStatus.FAILED
            ],
            "folder": str(self.folder),
            "figure": str(self.figure) if self.figure else None,
            "mlflow": _mlflow_entry(self.mlflow),
        }


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A full training's outcome.

    Attributes:
        run_id: Name of the training; ``--resume`` takes it.
        folder: Holds ``checkpoint.pt`` of the last epoch.
        scores: All epochs, those before a resume included.
        workers: Workers that trained together.
    """

    run_id: str
    folder: Path
    method: str
    point: Point
    cost: CostReport
    scores: tuple[Score, ...]
    checkpoint: Path
    workers: int
    mlflow: MlflowLink

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "run_id": self.run_id,
            "method": self.method,
            "point": self.point.as_dict(),
            "miou": self.scores[-1].miou if self.scores else None,
            "cost": self.cost.to_json(),
            "scores": [score.to_json() for score in self.scores],
            "checkpoint": str(self.checkpoint),
            "folder": str(self.folder),
            "workers": self.workers,
            "mlflow": _mlflow_entry(self.mlflow),
        }


def _front_entry(item: Evaluation) -> dict[str, Any]:
    metrics = item.metrics()
    return {
        "trial_id": item.trial_id,
        "point": item.point.as_dict(),
        "miou": item.miou,
        "macs": item.cost.macs if item.cost else None,
        "num_params": item.cost.num_params if item.cost else None,
        "images_per_second": metrics.get("images_per_second"),
    }


def _mlflow_entry(link: MlflowLink) -> dict[str, Any]:
    return {
        "tracking_uri": link.tracking_uri,
        "experiment_id": link.experiment_id,
        "parent_run_id": link.parent_run_id,
        "url": link.url,
        "problem": link.problem,
    }
