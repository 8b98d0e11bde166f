"""ADE20K-Full with 847 classes, from the release of 2021 as it is downloaded.

ADE20K_2021_17_01/
  images/ADE/{training,validation}/<group>/<scene>/ADE_train_00000001.jpg
  images/ADE/{training,validation}/<group>/<scene>/ADE_train_00000001_seg.png   RGB
  images/ADE/{training,validation}/<group>/<scene>/ADE_train_00000001.json
  index_ade20k.pkl                                              else the JSON files

A pixel's object is floor(R / 10) * 256 + G, 0 unlabelled; 25,574 training and 2,000 validation images.
Objects that are not among the 847 are void (65535). Images are reduced once so that the short side is at
most 512 pixels, and evaluated at that size (Cheng et al. 2021, "MaskFormer", supplement).
Source: Zhou et al. 2019, "Semantic Understanding of Scenes through the ADE20K Dataset".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from segsweep.data.interface import DatasetInfo, Labels, Sample
from segsweep.data.resampling import CropWindow, nearest_crop
from segsweep.data.sources.ade20k_full_classes import (
    FullClass,
    ObjectIndex,
    cached_classes,
    read_annotation_files,
    read_index,
    read_table,
)
from segsweep.data.sources.converted_source import ConvertedSource, MaskFormat
from segsweep.data.sources.file_pairs import inner_root, matched_pairs
from segsweep.data.sources.image_files import read_image
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.paired_files import Pair, SplitFiles, require_root
from segsweep.data.sources.palettes import spread_hues
from segsweep.data.sources.source_options import SourceOptions
from segsweep.errors import DataError, Problem
from segsweep.labels import IGNORE_INDEX_16

CACHE = "ade20k_full_classes.json"
_FOLDERS = {"train": "training", "val": "validation"}
_INDEX = "index_ade20k.pkl"
_LABELS = "_seg"
_LAYOUT = "images/ADE/{training,validation}/ with <name>.jpg and <name>_seg.png (ADE20K_2021_17_01)"
_PUBLISHED_SHORT_SIDE = 512


class Ade20kFullOptions(SourceOptions):
    """What a job may choose.

    Attributes:
        table: JSON list of ``{"id", "name", "trainId"}`` in place of the derived classes.
        short_side: Images are reduced to this short side in pixels; ``None`` keeps their size.
        cache: JSON file for the derived classes; default: ``ade20k_full_classes.json`` in the root.
    """

    table: Path | None = None
    short_side: int | None = Field(default=_PUBLISHED_SHORT_SIDE, ge=1)
    cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Ade20kFullSource(ConvertedSource):
    """A ``Source`` that reduces large images when it reads them."""

    short_side: int | None

    def load(self, split: str, key: str) -> Sample:
        """Read one sample: image bilinear and antialiased, labels with the nearest pixel."""
        sample = super().load(split, key)
        size = reduced_size(sample.labels.shape, short_side=self.short_side)
        if size == sample.labels.shape:
            return sample
        picture = Image.fromarray(sample.image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        window = CropWindow(resized=size, top=0, left=0, crop=size)
        return Sample(key=key, image=np.asarray(picture), labels=nearest_crop(sample.labels, window))

    def fingerprint(self) -> str:
        """Identity of the content: of the files, of the classes and of the size they are read at."""
        return hashlib.sha256(f"{super().fingerprint()} {self.short_side}".encode()).hexdigest()


def open_ade20k_full(root: Path | None, options: Mapping[str, Any] | None = None) -> Ade20kFullSource:
    """Open ADE20K-Full.

    Args:
        root: ``ADE20K_2021_17_01`` or the folder that holds it.
        options: Fields of ``Ade20kFullOptions``.

    Raises:
        DataError: If ``root`` is not a folder, or the classes cannot be read or derived.
        InvalidInput: If the options are wrong.
    """
    chosen = Ade20kFullOptions.checked(options)
    root = require_root(root, dataset="ade20k_full", layout=_LAYOUT)
    root = inner_root(root, "ADE20K_2021_17_01", holds="images/ADE")
    files = {split: _split(root / "images" / "ADE" / folder) for split, folder in _FOLDERS.items()}
    classes = read_table(chosen.table) if chosen.table else _derived(root, files, cache=chosen.cache)
    if not classes:
        raise DataError(f"{root}: no class is in training and validation; restore the data or give a `table`")
    return Ade20kFullSource(
        info=_info(classes),
        ids=_id_table(classes),
        files=files,
        masks=MaskFormat(read=read_object_ids, size=_mask_size),
        short_side=chosen.short_side,
    )


def read_object_ids(pair: Pair) -> Labels:
    """Object of each pixel, ``floor(R / 10) * 256 + G``, uint16 ``(H, W)``."""
    _mask_size(pair)
    colours = read_image(pair.mask)
    return colours[..., 0].astype(np.uint16) // 10 * 256 + colours[..., 1]


def reduced_size(size: tuple[int, ...], *, short_side: int | None) -> tuple[int, int]:
    """Height and width with the short side at most ``short_side``, the other rounded."""
    height, width = size
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    return round(height * short_side / short), round(width * short_side / short)


def _info(classes: tuple[FullClass, ...]) -> DatasetInfo:
    names = [entry.name for entry in classes]
    unique = [
        name if names.count(name) == 1 else f"{name} ({entry.stored_id})"
        for name, entry in zip(names, classes, strict=True)
    ]
    return DatasetInfo(
        name="ade20k_full",
        class_names=tuple(unique),
        palette=spread_hues(len(unique)),
        ignore_index=IGNORE_INDEX_16,
    )


def _id_table(classes: tuple[FullClass, ...]) -> IdTable:
    return IdTable(
        train_ids={entry.stored_id: train_id for train_id, entry in enumerate(classes)},
        void=(0,),
        ignore_index=IGNORE_INDEX_16,
        others_are_void=True,
        declared_in="ADE20K-Full",
    )


def _split(folder: Path) -> SplitFiles:
    if not folder.is_dir():
        problem = Problem(where=str(folder), message="folder is missing; restore it")
        return SplitFiles(pairs={}, problems=(problem,))
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        present = set(names)
        folders[:] = [name for name in folders if f"{name}.jpg" not in present]  # instances of one image
        for name in names:
            path = Path(parent, name)
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if name.endswith(".jpg"):
                images[stem] = path
            elif name.endswith(f"{_LABELS}.png"):
                masks[stem.removesuffix(_LABELS)] = path
    return matched_pairs(images, masks, folder=folder, mask_name=f"<name>{_LABELS}.png")


def _derived(root: Path, files: Mapping[str, SplitFiles], *, cache: Path | None) -> tuple[FullClass, ...]:
    index = root / _INDEX
    annotations = {
        split: [pair.image.with_suffix(".json") for pair in found.pairs.values()]
        for split, found in files.items()
    }

    def derive() -> ObjectIndex:
        return read_index(index) if index.is_file() else read_annotation_files(annotations)

    sources = [index] if index.is_file() else [path for paths in annotations.values() for path in paths]
    return cached_classes(cache or root / CACHE, state=_state(sources, root), derive=derive)


def _state(paths: list[Path], root: Path) -> str:
    """Identity of files from their names, sizes and times."""
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat() if path.is_file() else None
        name = path.relative_to(root).as_posix()
        digest.update(repr((name, stat and (stat.st_size, stat.st_mtime_ns))).encode())
    return digest.hexdigest()


def _mask_size(pair: Pair) -> tuple[int, int]:
    try:
        with Image.open(pair.mask) as picture:
            width, height = picture.size
            mode = picture.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{pair.mask}: cannot be read as a picture ({error}); the file is damaged, restore it"
        ) from error
    if mode not in ("RGB", "RGBA"):
        raise DataError(
            f"{pair.mask}: has pixel mode {mode!r}; allowed is RGB, whose red and green encode the object: "
            "restore the file of ADE20K_2021_17_01"
        )
    return height, width
