"""Pascal Context with 59 classes, or 60 with the background, in any of the forms people have.

VOCdevkit/VOC2010/
  JPEGImages/2008_000002.jpg
  ImageSets/SegmentationContext/{train,val}.txt    else ImageSets/Main/, else the JSON's phases
  one of
    SegmentationClassContext/2008_000002.png       8-bit: 0 background, 1..59; 16-bit: the 459 ids
    trainval/2008_000002.mat                       LabelMap (H, W) of the 459 ids, the original download
    trainval_merged.json                           run lengths of the Detail API

4,998 training and 5,105 validation images in the original lists, 4,996 and 5,104 in the Detail API's.
Source: Mottaghi et al. 2014, "The Role of Context for Object Detection and Semantic Segmentation in the
Wild".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from segsweep.data.interface import Labels
from segsweep.data.sources.converted_source import ConvertedSource, MaskFormat
from segsweep.data.sources.detail_json import DetailLabels
from segsweep.data.sources.file_pairs import inner_root, listed_pairs
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.matlab_files import matrix_ids, matrix_size
from segsweep.data.sources.paired_files import Pair, PairedSource, SplitFiles, require_root
from segsweep.data.sources.pascal_context_classes import index_table, pascal_context_info, raw_id_table
from segsweep.data.sources.source_options import SourceOptions
from segsweep.errors import DataError

_SPLITS = ("train", "val")
_PNGS, _MATRICES, _JSON = "SegmentationClassContext", "trainval", "trainval_merged.json"
_LAYOUT = f"JPEGImages/ and one of {_PNGS}/*.png, {_MATRICES}/*.mat and {_JSON}"
_VARIABLE = "LabelMap"


class PascalContextOptions(SourceOptions):
    """What a job may choose.

    Attributes:
        classes: 59 leaves the background out of loss and metric, 60 makes it class 0.
    """

    classes: Literal[59, 60] = 59


def open_pascal_context(root: Path | None, options: Mapping[str, Any] | None = None) -> PairedSource:
    """Open Pascal Context; the form of the labels is detected.

    Args:
        root: ``VOC2010``, ``VOCdevkit`` or the folder that holds it.
        options: Fields of ``PascalContextOptions``.

    Raises:
        DataError: If ``root`` is not a folder or holds no form of the labels.
        InvalidInput: If the options are wrong.
    """
    classes = PascalContextOptions.checked(options).classes
    root = require_root(root, dataset="pascal_context", layout=_LAYOUT)
    root = inner_root(root, "VOC2010", "VOCdevkit/VOC2010", holds="JPEGImages")
    info = pascal_context_info(classes)
    if (root / _PNGS).is_dir():
        files = _listed(root, folder=_PNGS, suffix=".png")
        return PairedSource(info=info, ids=_png_table(files, classes), files=files)
    if (root / _MATRICES).is_dir():
        files = _listed(root, folder=_MATRICES, suffix=".mat")
        masks = MaskFormat(read=_read_matrix, size=_measure_matrix)
    elif (root / _JSON).is_file():
        labels = DetailLabels(root / _JSON)
        files = labels.files(root / "JPEGImages", lists=_lists(root))
        masks = MaskFormat(read=labels.read, size=labels.size)
    else:
        raise DataError(f"{root}: holds no labels of Pascal Context; it must hold {_LAYOUT}")
    return ConvertedSource(info=info, ids=raw_id_table(classes), files=files, masks=masks)


def _listed(root: Path, *, folder: str, suffix: str) -> dict[str, SplitFiles]:
    lists = _lists(root) or {
        split: root / "ImageSets" / "SegmentationContext" / f"{split}.txt" for split in _SPLITS
    }
    return {
        split: listed_pairs(
            list_file,
            image=lambda name: root / "JPEGImages" / f"{name}.jpg",
            mask=lambda name: root / folder / f"{name}{suffix}",
        )
        for split, list_file in lists.items()
    }


def _lists(root: Path) -> dict[str, Path]:
    """List file of each split; empty if there are none."""
    for folder in ("SegmentationContext", "Main"):
        lists = {split: root / "ImageSets" / folder / f"{split}.txt" for split in _SPLITS}
        if any(path.is_file() for path in lists.values()):
            return lists
    return {}


def _png_table(files: Mapping[str, SplitFiles], classes: int) -> IdTable:
    """8-bit PNGs cannot hold the 459 ids, so they number the classes; 16-bit ones hold the ids."""
    first = next((pair.mask for split in files.values() for pair in split.pairs.values()), None)
    if first is None:
        return index_table(classes)
    try:
        with Image.open(first) as picture:
            return index_table(classes) if picture.mode in ("L", "P", "1") else raw_id_table(classes)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{first}: cannot be read as a picture ({error}); restore the file") from error


def _read_matrix(pair: Pair) -> Labels:
    return matrix_ids(pair.mask, _VARIABLE)


def _measure_matrix(pair: Pair) -> tuple[int, int]:
    return matrix_size(pair.mask, _VARIABLE)
