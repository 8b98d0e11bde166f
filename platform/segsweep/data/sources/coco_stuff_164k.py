"""COCO-Stuff 164K, as it is downloaded.

coco/
  images/{train2017,val2017}/000000000139.jpg        or {train2017,val2017}/ at the root
  annotations/{train2017,val2017}/000000000139.png   or stuffthingmaps/{train2017,val2017}/

The PNGs of stuffthingmaps_trainval2017.zip are 8-bit: COCO id - 1 (0..181), 255 unlabelled. 118,287 training
and 5,000 validation images, 171 classes. Copies called ``*_labelTrainIds.png`` beside them are not used.
Source: Caesar et al. 2018, "COCO-Stuff: Thing and Stuff Classes in Context".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.data.sources.coco_stuff_classes import (
    COCO_TRAIN_IDS,
    UNUSED_COCO_IDS,
    coco_stuff_info,
)
from segsweep.data.sources.file_pairs import first_folder, matched_pairs
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.paired_files import PairedSource, SplitFiles, require_root
from segsweep.data.sources.source_options import SourceOptions
from segsweep.errors import Problem
from segsweep.labels import IGNORE_INDEX

_SPLITS = ("train", "val")
_LAYOUT = "images/{train2017,val2017}/ and annotations/{train2017,val2017}/ with the PNGs of stuffthingmaps"
_CONVERTED = "_labelTrainIds"
_UNLABELLED = 255

COCO_STUFF_164K_IDS = IdTable(
    train_ids={coco_id - 1: train_id for coco_id, train_id in COCO_TRAIN_IDS.items()},
    void=(_UNLABELLED, *(coco_id - 1 for coco_id in sorted(UNUSED_COCO_IDS))),
    ignore_index=IGNORE_INDEX,
    others_are_void=True,
    declared_in="COCO-Stuff 164K's pixel maps (COCO id - 1)",
)


def open_coco_stuff_164k(root: Path | None, options: Mapping[str, Any] | None = None) -> PairedSource:
    """Open COCO-Stuff 164K.

    Args:
        root: Folder that holds ``images`` and ``annotations``.
        options: None are known.

    Raises:
        DataError: If ``root`` is not a folder.
        InvalidInput: If there are options.
    """
    SourceOptions.checked(options)
    root = require_root(root, dataset="coco_stuff_164k", layout=_LAYOUT)
    files = {split: _split(root, f"{split}2017") for split in _SPLITS}
    return PairedSource(info=coco_stuff_info("coco_stuff_164k"), ids=COCO_STUFF_164K_IDS, files=files)


def _split(root: Path, folder: str) -> SplitFiles:
    images = first_folder(root / "images" / folder, root / folder)
    masks = first_folder(root / "annotations" / folder, root / "stuffthingmaps" / folder)
    missing = [path for path in (images, masks) if not path.is_dir()]
    if missing:
        problems = [Problem(where=str(path), message="folder is missing; restore it") for path in missing]
        return SplitFiles(pairs={}, problems=tuple(problems))
    return matched_pairs(
        _by_stem(images, ".jpg"), _by_stem(masks, ".png"), folder=masks, mask_name="<name>.png"
    )


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    return {
        path.stem: path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix
        and not path.name.startswith(".")
        and not path.stem.endswith(_CONVERTED)
    }
