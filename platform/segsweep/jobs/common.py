"""What sweeps and trainings both need: data, MLflow store, GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from segsweep.data.interface import Source
from segsweep.data.shard_parts import Part, PartRecord
from segsweep.data.shards import ShardSet, cached
from segsweep.data.sources import open_source
from segsweep.data.sources.pictures import open_pictures
from segsweep.distributed.part_map import cluster_is_there, cluster_part_map
from segsweep.jobs.credentials import take_credentials
from segsweep.jobs.news import Say
from segsweep.jobs.spec import DataSettings, SweepJob, TrackingSettings, TrainJob

PICTURES = "images"  # data.source of pictures without labels


def prepared(data: DataSettings, out: Path, *, say: Say) -> ShardSet:
    """The data as shards: prepared once in the job's ``out`` folder, found again afterwards.

    Where a Ray cluster is there, its nodes do the work; all must see the data and ``out`` under the same
    paths.
    """
    size = f" at {data.size[0]}x{data.size[1]}" if data.size else ""
    say(f"data {data.source}{size}: prepared once, in {out / 'data'}")
    return cached(
        data.source,
        root=data.root,
        size=data.size,
        cache=out / "data",
        options=data.options,
        part_map=_on_the_cluster if cluster_is_there() else None,
    )


def _on_the_cluster(write: Callable[[Part], PartRecord], parts: Sequence[Part]) -> Iterator[PartRecord]:
    """Connects only if there is something to write."""
    with cluster_part_map() as part_map:
        if part_map is not None:
            yield from part_map(write, parts)


def open_labelled(data: DataSettings) -> Source:
    """The data set of a job; raises ``DataError`` or ``InvalidInput`` if it cannot be opened."""
    return open_source(data.source, root=data.root, options=data.options)


def open_images(data: DataSettings) -> Source:
    """Images whose labels are not used: a data set, or ``images``: any folder of pictures.

    Raises:
        DataError: If they are not there.
        InvalidInput: If the options are wrong.
    """
    if data.source == PICTURES:
        return open_pictures(data.root)
    return open_labelled(data)


def tracking_uri(job: SweepJob | TrainJob) -> str:
    """The job's MLflow store; by default ``MLFLOW_TRACKING_URI``, else an SQLite file in its ``out``."""
    return store_of(job.tracking, job.out)


def store_of(tracking: TrackingSettings, out: Path) -> str:
    """As ``tracking_uri``, of the settings and the ``out`` folder of a job."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    return tracking.uri or take_credentials(server) or f"sqlite:///{(out / 'mlflow.db').resolve()}"


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
