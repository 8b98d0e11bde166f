"""Finished sweeps on disk told to an MLflow store once more, as the sweep itself told it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segsweep.jobs.finished_sweep import FinishedSweep, open_sweep
from segsweep.jobs.published import published_artifacts
from segsweep.jobs.spec import SweepJob
from segsweep.jobs.sweep_report import write_sweep_report
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.tracker import MlflowLink, SweepInfo


def record_again(folders: Sequence[Path], uri: str, *, experiment: str, scratch: Path) -> MlflowLink:
    """Write the sweeps into one experiment, in the order given, and say where it is."""
    for folder in folders:
        sweep = open_sweep(folder)
        tracker = MlflowTracker(uri, experiment=experiment)
        tracker.start_sweep(_info(sweep))
        for count, evaluation in enumerate(sweep.evaluations, start=1):
            tracker.trial_finished(evaluation)
            if evaluation.cost is not None:
                tracker.trial_cost(evaluation.trial_id, evaluation.cost)
            tracker.front_updated(sweep.evaluations[:count])
        written = write_sweep_report([sweep], to=scratch / sweep.sweep_id / "report.html")
        figures = {path.name: path for path in (written.report, written.figure) if path is not None}
        tracker.sweep_finished(sweep.evaluations, figures)
        link = tracker.close()
    return link


def _info(sweep: FinishedSweep) -> SweepInfo:
    conditions = sweep.conditions
    height, width = conditions.size
    return SweepInfo(
        sweep_id=sweep.sweep_id,
        name=sweep.sweep_id,
        method=sweep.method,
        objectives=sweep.objectives,
        params={
            "data": conditions.data,
            "input_size": f"{height}x{width}",
            "num_classes": conditions.num_classes,
            "epochs": conditions.epochs,
            "seed": conditions.seed,
        },
        artifacts=published_artifacts(SweepJob.model_validate(sweep.job), sweep.space, size=conditions.size),
        reference=sweep.reference,
    )
