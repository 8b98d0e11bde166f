"""COCO-Stuff 10K, v1.0 or v1.1, as it is downloaded.

coco_stuff10k/
  images/COCO_train2014_000000000077.jpg
  annotations/COCO_train2014_000000000077.mat   variable S (H, W)
  imageLists/{train,test,all}.txt               9,000 and 1,000 names; "val" is the test list

The two releases store other ids, and the kind of the MATLAB file tells them apart: v1.0 is HDF5 and holds
1 unlabelled, 2..172 classes in order (MaskFormer's choice); v1.1 is a classic file and holds COCO ids 0..182,
0 unlabelled (SenFormer's choice). Where v1.0 names its classes, the names decide.
Source: Caesar et al. 2018, "COCO-Stuff: Thing and Stuff Classes in Context"; README of cocostuff10k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.data.interface import Labels
from segsweep.data.sources.coco_stuff_classes import (
    COCO_TRAIN_IDS,
    UNUSED_COCO_IDS,
    coco_stuff_info,
)
from segsweep.data.sources.converted_source import ConvertedSource, MaskFormat
from segsweep.data.sources.file_pairs import inner_root, listed_pairs
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.matlab_files import cell_strings, is_hdf5, matrix_ids, matrix_size
from segsweep.data.sources.paired_files import Pair, SplitFiles, require_root
from segsweep.data.sources.source_options import SourceOptions
from segsweep.errors import DataError
from segsweep.labels import IGNORE_INDEX

_LISTS = {"train": "train.txt", "val": "test.txt"}
_LAYOUT = "images/, annotations/ with .mat files and imageLists/{train,test}.txt"
_LABELS = "S"
_FIRST_CLASS = 2  # of v1.0: 1 is "unlabeled"
_INFO = coco_stuff_info("coco_stuff_10k")

COCO_STUFF_10K_V11_IDS = IdTable(
    train_ids=COCO_TRAIN_IDS,
    void=(0, *sorted(UNUSED_COCO_IDS)),
    ignore_index=IGNORE_INDEX,
    others_are_void=True,
    declared_in="COCO-Stuff 10K v1.1 (COCO ids)",
)


def open_coco_stuff_10k(root: Path | None, options: Mapping[str, Any] | None = None) -> ConvertedSource:
    """Open COCO-Stuff 10K; the release is detected from the first label file.

    Args:
        root: Folder that holds ``images``, ``annotations`` and ``imageLists``, or its parent.
        options: None are known.

    Raises:
        DataError: If ``root`` is not a folder, or a file of v1.0 names its classes twice or h5py is missing.
        InvalidInput: If there are options.
    """
    SourceOptions.checked(options)
    root = require_root(root, dataset="coco_stuff_10k", layout=_LAYOUT)
    root = inner_root(root, "coco_stuff10k", "coco_stuff_10k", holds="imageLists")
    files = {split: _split(root, name) for split, name in _LISTS.items()}
    first = next((pair for split in files.values() for pair in split.pairs.values()), None)
    v10 = first is not None and is_hdf5(first.mask)
    return ConvertedSource(
        info=_INFO,
        ids=v10_ids(cell_strings(first.mask, "names")) if first and v10 else COCO_STUFF_10K_V11_IDS,
        files=files,
        masks=_MatlabLabels(v10).as_format(),
    )


def v10_ids(names: tuple[str, ...] = ()) -> IdTable:
    """The id table of v1.0.

    Args:
        names: The file's own names of the ids 1, 2, ...; a known name decides its id's class, an id without
            a known name keeps its place in the published order.

    Raises:
        DataError: If two ids would be one class.
    """
    known = {name: train_id for train_id, name in enumerate(_INFO.class_names)}
    train_ids = {_FIRST_CLASS + train_id: train_id for train_id in range(_INFO.num_classes)}
    for stored, name in enumerate(names, start=1):
        if stored in train_ids and name in known:
            train_ids[stored] = known[name]
    if len(set(train_ids.values())) < len(train_ids):
        raise DataError(
            "names of COCO-Stuff 10K v1.0 are not those of the published classes: two ids would be one "
            "class; restore the files of one release"
        )
    return IdTable(
        train_ids=train_ids,
        void=(0, 1),
        ignore_index=IGNORE_INDEX,
        others_are_void=True,
        declared_in="COCO-Stuff 10K v1.0",
    )


def _split(root: Path, list_name: str) -> SplitFiles:
    return listed_pairs(
        root / "imageLists" / list_name,
        image=lambda name: root / "images" / f"{name}.jpg",
        mask=lambda name: root / "annotations" / f"{name}.mat",
    )


@dataclass(frozen=True)
class _MatlabLabels:
    """Reads the labels of one release and refuses files of the other."""

    v10: bool

    def as_format(self) -> MaskFormat:
        return MaskFormat(read=self.read, size=self.size)

    def read(self, pair: Pair) -> Labels:
        self._require_release(pair.mask)
        return matrix_ids(pair.mask, _LABELS)

    def size(self, pair: Pair) -> tuple[int, int]:
        self._require_release(pair.mask)
        return matrix_size(pair.mask, _LABELS)

    def _require_release(self, path: Path) -> None:
        if is_hdf5(path) != self.v10:
            expected, found = ("v1.0", "v1.1") if self.v10 else ("v1.1", "v1.0")
            raise DataError(
                f"{path}: is a file of COCO-Stuff 10K {found} among files of {expected}, whose ids differ; "
                "unpack one release into an empty folder"
            )
