"""CamVid in the SegNet layout: ``train/ trainannot/ val/ valannot/`` and optionally ``test/ testannot/``.

Source: Brostow, Fauqueur, Cipolla 2009; 11 classes and 367/101/233 pairs of 480x360 of the SegNet tutorial.
"""

from __future__ import annotations

from pathlib import Path

from segsweep.data.interface import DatasetInfo
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.paired_files import PairedSource, find_pairs, require_root
from segsweep.labels import IGNORE_INDEX

_VOID = 11
_LAYOUT = "train/, trainannot/, val/ and valannot/ (SegNet layout; test/ and testannot/ optional)"
_CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
CAMVID = DatasetInfo(
    name="camvid",
    class_names=tuple(_CLASSES),
    palette=tuple(_CLASSES.values()),
    ignore_index=IGNORE_INDEX,
)


def open_camvid(root: Path | None) -> PairedSource:
    """Open CamVid; raises ``DataError`` if ``root`` is not a folder."""
    root = require_root(root, dataset="camvid", layout=_LAYOUT)
    names = ["train", "val"] + (["test"] if (root / "test").is_dir() else [])
    ids = IdTable(
        train_ids={train_id: train_id for train_id in range(CAMVID.num_classes)},
        void=(_VOID,),
        ignore_index=IGNORE_INDEX,
        declared_in="CamVid's SegNet layout",
    )
    files = {name: find_pairs(root / name, root / f"{name}annot") for name in names}
    return PairedSource(info=CAMVID, ids=ids, files=files)
