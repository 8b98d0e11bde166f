"""A finished training, opened again: its job, its data and the weights of its last validation."""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from segsweep.data.interface import DatasetInfo, Source
from segsweep.data.shards import ShardSet
from segsweep.data.sources import open_source
from segsweep.distributed.training_job import CHECKPOINT
from segsweep.errors import DataError, InvalidJob, Problem
from segsweep.jobs.classes import read_classes
from segsweep.jobs.common import prepared
from segsweep.jobs.designs import train_configs
from segsweep.jobs.folders import JOB, LATEST, OUT, TRAININGS
from segsweep.jobs.news import Say, silent
from segsweep.jobs.spec import TrainJob
from segsweep.models.interface import MethodConfig, Targets, segmentation_targets
from segsweep.training.checkpoint import load_checkpoint
from segsweep.trial import training_device


@dataclass(frozen=True)
class TrainedRun:
    """A training's folder.

    Attributes:
        folder: Holds the job and the checkpoint.
        job: What was trained, with the data root replaced where another was given.
        checkpoint: File of the weights.
    """

    folder: Path
    job: TrainJob
    checkpoint: Path

    @property
    def run_id(self) -> str:
        """Name of the training."""
        return self.folder.name

    @property
    def out(self) -> Path:
        """Folder of prepared data and MLflow store: that of all runs, or the run's own if it was moved."""
        parents = self.folder.parents
        return parents[1] if self.folder.parent.name == TRAININGS else self.folder

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width at which it was trained; ``None``: images kept their own sizes."""
        return self.job.data.size

    @cached_property
    def source(self) -> Source:
        """The data set; raises ``DataError`` if it is not where the job says."""
        data = self.job.data
        return open_source(data.source, root=data.root, options=data.options)

    @cached_property
    def info(self) -> DatasetInfo:
        """Classes of the data, as the folder holds them; folders of earlier versions ask the data set."""
        return read_classes(self.folder) or self.source.info

    @cached_property
    def config(self) -> MethodConfig:
        """The design."""
        return train_configs(self.job, where=str(self.folder / JOB))[0]

    @cached_property
    def told_apart(self) -> DatasetInfo:
        """What the model predicts: the classes of the data, or what its method makes of them."""
        names = self.config.class_names(self.info.class_names)
        if names == self.info.class_names:
            return self.info
        palette = tuple(_hue(index, len(names)) for index in range(len(names)))
        return replace(self.info, class_names=names, palette=palette)

    @property
    def targets(self) -> Targets:
        """What predictions are compared with."""
        plain = type(self.config).targets is MethodConfig.targets
        return segmentation_targets if plain else self.config.targets

    def shards(self, *, say: Say = silent) -> ShardSet:
        """The data as they were prepared for the training; made again if they are gone."""
        return prepared(self.job.data, self.out, say=say)

    def model(self, device: torch.device) -> nn.Module:
        """The network in evaluation mode with the weights that were validated: averaged ones if there are.

        Raises:
            DataError: If the checkpoint is damaged, or belongs to another design or number of classes.
        """
        model = self.config.build(self.info.num_classes)
        state = load_checkpoint(self.checkpoint)
        weights = state["average"] if state.get("average") is not None else state["model"]
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise DataError(
                f"{self.checkpoint}: the weights do not fit the design and {self.info.num_classes} classes "
                f"of {self.folder / JOB} ({first}); give the folder that the checkpoint was trained in"
            ) from error
        return model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def open_run(run: str | Path, *, out: Path = OUT, data_root: Path | None = None) -> TrainedRun:
    """Find a training.

    Args:
        run: Its folder, its checkpoint file, its id, or ``latest``.
        out: Where ids are looked up: the ``out`` folder of the job.
        data_root: Where the data set lies now, if that has changed.

    Raises:
        InvalidJob: If there is no such training, or its job cannot be read; says what was looked for.
        DataError: If it has no checkpoint yet.
    """
    path = _found(run, out)
    folder = path.parent if path.is_file() else path
    checkpoint = path if path.is_file() else folder / CHECKPOINT
    job = _read_job(folder / JOB)
    if not checkpoint.is_file():
        raise DataError(
            f"{checkpoint}: file is missing: the training has not finished an epoch; resume it, or give a "
            "checkpoint file beside its job.json"
        )
    if data_root is not None:
        job = job.model_copy(update={"data": job.data.model_copy(update={"root": data_root.resolve()})})
    return TrainedRun(folder=folder.resolve(), job=job, checkpoint=checkpoint.resolve())


def inference_device(gpu: bool | None) -> torch.device:
    """A GPU if it is asked for, or if there is one and nothing is said."""
    return training_device(use_gpu=torch.cuda.is_available() if gpu is None else gpu)


def _hue(index: int, count: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(index / count, 0.65, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _found(run: str | Path, out: Path) -> Path:
    trainings = out / TRAININGS
    if str(run) == LATEST:
        jobs = sorted(trainings.glob(f"*/{CHECKPOINT}"), key=lambda item: item.stat().st_mtime_ns)
        if jobs:
            return jobs[-1].parent
    for candidate in (Path(run), trainings / run):
        if candidate.is_file() or (candidate / JOB).is_file():
            return candidate
    known = sorted(item.parent.name for item in trainings.glob(f"*/{JOB}"))
    message = f"found no training there nor below {trainings}; it holds {', '.join(known) or 'none'}"
    raise InvalidJob([Problem(where=f"run {run}", message=f"{message}; give its folder, checkpoint or id")])


def _read_job(path: Path) -> TrainJob:
    try:
        return TrainJob.model_validate(json.loads(path.read_text(encoding="utf-8"))["job"])
    except FileNotFoundError as error:
        message = "file is missing: it says which design the weights belong to; copy it beside the checkpoint"
        raise InvalidJob([Problem(where=str(path), message=message)]) from error
    except ValidationError as error:
        raise InvalidJob(
            Problem(where=f"{path} {'.'.join(map(str, item['loc']))}", message=item["msg"])
            for item in error.errors()
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        message = f"not the job of a training ({error!r}); give the folder of `segsweep train`"
        raise InvalidJob([Problem(where=str(path), message=message)]) from error
