"""Counts per validation image of a kept network, from which an mIoU gets its interval."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep.data.loader import EvalLoader
from segsweep.data.shards import ShardSet, open_shards
from segsweep.errors import DataError
from segsweep.files import replacing
from segsweep.jobs.finished_sweep import FinishedSweep
from segsweep.jobs.trial_models import load_trial_model
from segsweep.metrics.bootstrap import image_counts, mean_iou_of
from segsweep.records import Evaluation
from segsweep.training.inference import evaluate

COUNTS = "image_counts"  # folder of a sweep; computed once, then read
SPLIT = "val"
TOLERANCE = 0.002  # of the mIoU: another device or batch size rounds differently

Progress = Callable[[int, int], None]


def counts_per_image(
    sweep: FinishedSweep, evaluation: Evaluation, *, progress: Progress | None = None
) -> NDArray[np.int64]:
    """Pixels rightly predicted, labelled and predicted by image and class: ``(n, 3, K)``.

    The network looks at the prepared validation images once; the result is kept in the sweep's folder.

    Args:
        sweep: The sweep.
        evaluation: A complete trial of it.
        progress: Called with the number of images done and in all.

    Raises:
        DataError: If they are not at hand: says what is missing (the weights, the prepared data).
    """
    path = sweep.folder / COUNTS / f"{evaluation.trial_id}.npz"
    counts = _read(path)
    if counts is None:
        counts = _count(sweep, evaluation, progress)
        _write(path, counts)
    found, recorded = float(mean_iou_of(counts.sum(axis=0))), evaluation.miou
    if recorded is None or abs(found - recorded) > TOLERANCE:
        raise DataError(
            f"the kept weights of {evaluation.trial_id} give an mIoU of {found:.4f} and not the recorded "
            f"{recorded}; delete {path} if the data were prepared anew"
        )
    return counts


def prepared_data(sweep: FinishedSweep) -> ShardSet:
    """The prepared data of a sweep, if they still lie where it left them.

    Raises:
        DataError: If they are gone, or are not the same any more.
    """
    folder = sweep.prepared
    if folder is None or not folder.is_dir():
        place = f"{folder} is gone" if folder else "the sweep did not record where they are"
        raise DataError(f"the prepared data are not at hand: {place}")
    shards = open_shards(folder)
    if shards.digest != sweep.conditions.data_digest:
        raise DataError(f"the prepared data in {folder} are not those of the sweep any more")
    return shards


def _count(sweep: FinishedSweep, evaluation: Evaluation, progress: Progress | None) -> NDArray[np.int64]:
    dataset = prepared_data(sweep).dataset(SPLIT)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained = load_trial_model(sweep.folder, evaluation.trial_id, device=device)
    counts = []
    for number, batch in enumerate(EvalLoader(dataset, batch_size=1), start=1):
        matrix = evaluate(
            trained.model,
            [batch],
            num_classes=trained.num_classes,
            device=device,
            ignore_index=trained.info.ignore_index,
            targets=trained.config.targets,
        )
        counts.append(image_counts(matrix.numpy()))
        if progress is not None:
            progress(number, len(dataset))
    return np.stack(counts)


def _read(path: Path) -> NDArray[np.int64] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["counts"], dtype=np.int64)
    except (OSError, ValueError, KeyError, BadZipFile):
        return None  # cut short: computed again


def _write(path: Path, counts: NDArray[np.int64]) -> None:
    """Keep the counts where that is possible: in a folder that only may be read they are computed anew."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, counts=counts)
