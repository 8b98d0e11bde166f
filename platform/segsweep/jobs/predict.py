"""Segment a user's own pictures with a trained run: masks and overlays beside each other in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from segsweep.data.interface import Labels
from segsweep.data.sources.image_files import IMAGE_SUFFIXES, read_upright
from segsweep.errors import InvalidInput, Problem
from segsweep.evaluation.evaluate import Progress
from segsweep.evaluation.inference import predict_image
from segsweep.evaluation.protocols import PREPARED, EvaluationProtocol, Resize
from segsweep.jobs.folders import OUT
from segsweep.jobs.run_eval import choose_protocol
from segsweep.jobs.trained_run import inference_device, open_run
from segsweep.reporting.overlays import legend, mask_picture, overlay

_LEGEND_WIDTH = 480  # pixels


@dataclass(frozen=True, kw_only=True)
class PredictedImage:
    """What was written for one picture.

    Attributes:
        image: The picture.
        mask: Class ids as a palette PNG that shows their colours (colours alone from 256 classes on).
        overlay: The picture mixed with the colours.
        shares: Share of the pixels of each class that was found, the largest first.
    """

    image: Path
    mask: Path
    overlay: Path
    shares: dict[str, float]


def predict_images(
    run: str | Path,
    images: Sequence[Path],
    out: Path,
    *,
    protocol: str | EvaluationProtocol | None = None,
    runs: Path = OUT,
    data_root: Path | None = None,
    gpu: bool | None = None,
    progress: Progress | None = None,
) -> tuple[PredictedImage, ...]:
    """Write a coloured mask and an overlay for every picture, and one legend.

    Args:
        run: Folder, checkpoint file or id of a training, or ``latest``.
        images: PNG or JPEG files, or folders of them. EXIF orientation is applied first.
        out: Folder for ``NAME_mask.png``, ``NAME_overlay.png`` and ``legend.png``.
        protocol: As for ``evaluate_run``; default: the whole picture with its shorter side as long as in
            training, proportions kept.
        runs: Where ids are looked up.
        data_root: Where the data set lies now; only trainings of earlier versions ask it for their classes.
        gpu: Whether to use a GPU; ``None``: if there is one.
        progress: Called with the number of pictures done and in all.

    Raises:
        InvalidInput: If run or protocol are wrong, or with every path that is no picture.
        DataError: If a picture or the checkpoint cannot be read.
    """
    files = _pictures(images)
    trained = open_run(run, out=runs, data_root=data_root)
    chosen = _protocol(protocol, trained.size)
    device = inference_device(gpu)
    model, info = trained.model(device), trained.told_apart
    out.mkdir(parents=True, exist_ok=True)
    legend(info, range(info.num_classes), width=_LEGEND_WIDTH).save(out / "legend.png")
    written = []
    for name, path in _named(files):
        image = read_upright(path)
        labels = predict_image(model, image, chosen, device=device)
        mask, mixed = out / f"{name}_mask.png", out / f"{name}_overlay.png"
        mask_picture(labels, info).save(mask)
        PilImage.fromarray(overlay(image, labels, info)).save(mixed)
        shares = _shares(labels, info.class_names)
        written.append(PredictedImage(image=path, mask=mask, overlay=mixed, shares=shares))
        if progress is not None:
            progress(len(written), len(files))
    return tuple(written)


def _protocol(protocol: str | EvaluationProtocol | None, size: tuple[int, int] | None) -> EvaluationProtocol:
    if protocol is None:
        return EvaluationProtocol(resize=Resize(short_side=min(size)) if size else Resize())
    chosen = choose_protocol(protocol, size=size)[1]
    if chosen.labels == PREPARED:
        message = "pictures without labels are not prepared; take labels: original"
        raise InvalidInput([Problem(where="protocol", message=message)])
    return chosen


def _pictures(paths: Sequence[Path]) -> list[Path]:
    """The files, with folders replaced by the pictures in them."""
    files: list[Path] = []
    problems = []
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES)
            files += inside
            missing = "" if inside else "the folder holds no PNG or JPEG files; name another"
        else:
            files.append(path)
            missing = "" if path.is_file() else "no such file; name PNG or JPEG files, or folders of them"
        if missing:
            problems.append(Problem(where=str(path), message=missing))
    if not paths:
        problems.append(Problem(where="images", message="none given; name PNG or JPEG files, or folders"))
    if problems:
        raise InvalidInput(problems)
    return files


def _named(files: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Names for the results: stems, numbered where several pictures share one."""
    used: set[str] = set()
    for path in files:
        name, number = path.stem, 1
        while name in used:
            number += 1
            name = f"{path.stem}-{number}"
        used.add(name)
        yield name, path


def _shares(labels: Labels, names: Sequence[str]) -> dict[str, float]:
    counts = np.bincount(labels.ravel(), minlength=len(names))[: len(names)] / labels.size
    order = np.argsort(-counts, kind="stable")
    return {names[index]: float(counts[index]) for index in order if counts[index] > 0}
