"""The data sets, one file per format on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segsweep.data.interface import Source
from segsweep.data.sources.ade20k import open_ade20k
from segsweep.data.sources.ade20k_full import open_ade20k_full
from segsweep.data.sources.ade20k_panoptic import open_ade20k_panoptic
from segsweep.data.sources.camvid import open_camvid
from segsweep.data.sources.cityscapes import open_cityscapes
from segsweep.data.sources.coco_panoptic import open_coco_panoptic
from segsweep.data.sources.coco_stuff_10k import open_coco_stuff_10k
from segsweep.data.sources.coco_stuff_164k import open_coco_stuff_164k
from segsweep.data.sources.folder import open_folder
from segsweep.data.sources.mapillary import open_mapillary
from segsweep.data.sources.pascal_context import open_pascal_context
from segsweep.data.sources.synthetic import SyntheticOptions, SyntheticSource
from segsweep.errors import DataError, InvalidInput, Problem

Opener = Callable[[Path | None, Mapping[str, Any]], Source]


def _open_synthetic(root: Path | None, options: Mapping[str, Any]) -> Source:
    return SyntheticSource(SyntheticOptions.checked(options))


def _open_camvid(root: Path | None, options: Mapping[str, Any]) -> Source:
    _refuse_options("camvid", options)
    return open_camvid(root)


def _open_folder(root: Path | None, options: Mapping[str, Any]) -> Source:
    _refuse_options("folder", options)
    return open_folder(root)


def _open_coco_panoptic(root: Path | None, options: Mapping[str, Any]) -> Source:
    _refuse_options("coco_panoptic", options)
    return open_coco_panoptic(root)


def _open_ade20k_panoptic(root: Path | None, options: Mapping[str, Any]) -> Source:
    _refuse_options("ade20k_panoptic", options)
    return open_ade20k_panoptic(root)


DATASETS: dict[str, Opener] = {
    "synthetic": _open_synthetic,
    "camvid": _open_camvid,
    "folder": _open_folder,
    "ade20k": open_ade20k,
    "ade20k_full": open_ade20k_full,
    "cityscapes": open_cityscapes,
    "coco_stuff_10k": open_coco_stuff_10k,
    "coco_stuff_164k": open_coco_stuff_164k,
    "mapillary": open_mapillary,
    "pascal_context": open_pascal_context,
    "coco_panoptic": _open_coco_panoptic,
    "ade20k_panoptic": _open_ade20k_panoptic,
}


def open_source(name: str, *, root: Path | None, options: Mapping[str, Any] | None = None) -> Source:
    """Open a data set by its registered name.

    Args:
        name: Key of ``DATASETS``.
        root: Folder of the data; ``None`` for data sets that are made up.
        options: Settings of the source, as in a job file.

    Raises:
        DataError: If the name is unknown or the root does not hold the layout.
        InvalidInput: If the options are wrong; lists all of them.
    """
    if name not in DATASETS:
        raise DataError(f"found data set {name!r}; allowed are {', '.join(DATASETS)}")
    return DATASETS[name](root, options or {})


def _refuse_options(name: str, options: Mapping[str, Any]) -> None:
    if options:
        problems = [
            Problem(where=f"options.{key}", message=f"data set {name!r} takes no options; remove it")
            for key in options
        ]
        raise InvalidInput(problems)
