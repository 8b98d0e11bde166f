"""Run a pseudo_labels job: a trained model labels images, which become shards for another training."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.data.joined_shards import TRAIN
from segsweep.data.shards import ShardSet, prepare
from segsweep.distributed.sweep import only_one_driver
from segsweep.errors import DataError, ImageSizeError, InvalidJob, Problem
from segsweep.evaluation.protocols import EvaluationProtocol, Resize
from segsweep.evaluation.pseudo_labels import PseudoLabelled, Teacher
from segsweep.jobs.check import check_job
from segsweep.jobs.common import open_images
from segsweep.jobs.folders import PSEUDO_LABELS, SHARDS, remember, run_folder
from segsweep.jobs.news import Say, silent
from segsweep.jobs.spec import PseudoLabelsJob
from segsweep.jobs.trained_run import TrainedRun, inference_device, open_run

MAY_CHANGE = ("out", "data.root")
NEWS_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class PseudoLabelsResult:
    """Images with pseudo labels.

    Attributes:
        run_id: Name of the run.
        folder: Holds the job and the shards.
        shards: What a training joins with ``pseudo_labels: {shards: ...}``.
        labelled_share: Of all pixels, those that the teacher was sure of.
    """

    run_id: str
    folder: Path
    shards: ShardSet
    labelled_share: float

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "run_id": self.run_id,
            "shards": str(self.shards.path),
            "images": self.shards.counts[TRAIN],
            "labelled_share": self.labelled_share,
            "class_names": list(self.shards.info.class_names),
            "class_histogram": list(self.shards.class_histogram[TRAIN]),
            "digest": self.shards.digest,
            "provenance": self.shards.index.provenance,
            "folder": str(self.folder),
        }


def run_pseudo_labels_job(
    job: PseudoLabelsJob,
    *,
    where: str = "job",
    resume: str | None = None,
    run_id: str | None = None,
    say: Say = silent,
) -> PseudoLabelsResult:
    """Label every image of a split.

    Args:
        job: The checked job.
        where: Name of the job in messages.
        resume: Id of an interrupted run, or ``latest``; its finished parts are kept.
        run_id: Name of a new run; by default the job's name and the time.
        say: Takes one line of news at a time.

    Raises:
        InvalidInput: If the job is wrong, or its teacher no network that labels pixels.
        DataError: If images or weights cannot be read.
    """
    check_job(job, where=where)
    trained = open_run(job.teacher, out=job.out)
    folder = run_folder(job.out / PSEUDO_LABELS, job.name, resume=resume, new_id=run_id)
    with only_one_driver(folder):
        remember(folder, job.model_dump(mode="json"), may_change=MAY_CHANGE)
        images = open_images(job.data)
        source = PseudoLabelled(
            images=images, split=job.split, teacher=_teacher(job, trained, where=where), size=job.data.size
        )
        say(f"{trained.run_id} labels {len(source.keys(TRAIN))} images of {images.info.name}")
        shards = prepare(
            source,
            folder / SHARDS,
            size=job.data.size,
            progress=_Progress(say),
            provenance=_provenance(job, trained, source.teacher),
        )
    sure, unsure = sum(shards.class_histogram[TRAIN]), shards.ignored_pixels[TRAIN]
    share = sure / max(sure + unsure, 1)
    say(f"{100 * share:.1f} % of the pixels have a label, the others are void; {shards.path}")
    if sure == 0:
        raise DataError(
            f"{shards.path}: the teacher is sure of no pixel at threshold {job.threshold:g}; train it longer "
            "or lower the threshold"
        )
    return PseudoLabelsResult(run_id=folder.name, folder=folder, shards=shards, labelled_share=share)


def _teacher(job: PseudoLabelsJob, trained: TrainedRun, *, where: str) -> Teacher:
    if trained.told_apart is not trained.info:
        message = f"{trained.run_id} is a {trained.job.method} network, which labels no pixels; name another"
        raise InvalidJob([Problem(where=f"{where} teacher", message=message)])
    protocol = EvaluationProtocol(resize=Resize(size=trained.size), scales=job.scales, flip=job.flip)
    _check_scales(job, trained, protocol, where=where)
    device = inference_device(None)
    with trained.checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Teacher(
        model=trained.model(device),
        info=trained.info,
        digest=digest,
        protocol=protocol,
        threshold=job.threshold,
        device=device,
    )


def _check_scales(
    job: PseudoLabelsJob, trained: TrainedRun, protocol: EvaluationProtocol, *, where: str
) -> None:
    """Refuse scales at which the teacher cannot see an image, before it has seen many."""
    if trained.size is None:
        return
    for scale in job.scales:
        try:
            trained.config.check_size(protocol.resize.apply(trained.size, scale=scale))
        except ImageSizeError as error:
            raise InvalidJob([Problem(where=f"{where} scales", message=f"at {scale:g}: {error}")]) from error


def _provenance(job: PseudoLabelsJob, trained: TrainedRun, teacher: Teacher) -> dict[str, Any]:
    return {
        "kind": job.kind,
        "teacher": trained.run_id,
        "method": trained.job.method,
        "checkpoint": str(trained.checkpoint),
        "sha256": teacher.digest,
        "threshold": job.threshold,
        "scales": list(job.scales),
        "flip": job.flip,
        "seen_at": trained.size,
        "images": job.data.model_dump(mode="json"),
        "split": job.split,
    }


class _Progress:
    """A line every few seconds."""

    def __init__(self, say: Say) -> None:
        self._say, self._told = say, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._told >= NEWS_SECONDS:
            self._told = time.monotonic()
            self._say(f"{done} of {total} images are labelled")
