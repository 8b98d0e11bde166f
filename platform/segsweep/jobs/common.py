"""What sweeps and trainings both need: data, MLflow store, GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from segsweep.data.shards import ShardSet, cached
from segsweep.jobs.spec import DataSettings, SweepJob, TrainJob

Say = Callable[[str], None]  # takes one line of news


def silent(line: str) -> None:
    """Say nothing."""


def prepared(data: DataSettings, out: Path, *, say: Say) -> ShardSet:
    """The data as shards: prepared once in the job's ``out`` folder, found again afterwards."""
    size = f" at {data.size[0]}x{data.size[1]}" if data.size else ""
    say(f"data {data.source}{size}: prepared once, in {out / 'data'}")
    return cached(data.source, root=data.root, size=data.size, cache=out / "data", options=data.options)


def tracking_uri(job: SweepJob | TrainJob) -> str:
    """The job's MLflow store; by default an SQLite file in its ``out`` folder."""
    return job.tracking.uri or f"sqlite:///{(job.out / 'mlflow.db').resolve()}"


def experiment_name(job: SweepJob | TrainJob) -> str:
    """The job's MLflow experiment: one per sweep family, by default the job's name."""
    return job.tracking.experiment or job.name


def scratch_folder(out: Path) -> Path:
    """Folder of the machine lock and the speed cache."""
    return (out / "machine").resolve()


def gpus_or_default(asked: float | None) -> float:
    """What was asked for, else one GPU where this machine has any, else none."""
    if asked is not None:
        return asked
    return 1.0 if torch.cuda.is_available() else 0.0
