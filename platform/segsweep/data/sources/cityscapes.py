"""Cityscapes with fine or coarse labels, as it is downloaded.

cityscapes/
  leftImg8bit/{train,val,test,train_extra}/<city>/<city>_<sequence>_<frame>_leftImg8bit.png    1024x2048
  gtFine/{train,val,test}/<city>/<city>_<sequence>_<frame>_gtFine_labelIds.png                 ids 0..33
  gtCoarse/{train,val,train_extra}/<city>/<city>_<sequence>_<frame>_gtCoarse_labelIds.png

2,975 training, 500 validation and 1,525 test images with fine labels, 19,998 more with coarse ones; the
labels of the test images are void, the benchmark's server has the true ones. 19 of the 34 ids are evaluated.
Source: Cordts et al. 2016, "The Cityscapes Dataset for Semantic Urban Scene Understanding".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from segsweep.data.sources.cityscapes_classes import CITYSCAPES_19, CITYSCAPES_IDS
from segsweep.data.sources.file_pairs import inner_root, merged
from segsweep.data.sources.paired_files import PairedSource, SplitFiles, find_pairs, require_root
from segsweep.data.sources.source_options import SourceOptions

_LAYOUT = "leftImg8bit/ and gtFine/ (or gtCoarse/), each with train/ and val/"
_TRAIN_PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "fine": (("gtFine", "train"),),
    "coarse": (("gtCoarse", "train"), ("gtCoarse", "train_extra")),
    "fine+extra": (("gtFine", "train"), ("gtCoarse", "train_extra")),
}


class CityscapesOptions(SourceOptions):
    """What a job may choose.

    Attributes:
        train_labels: ``fine``; ``coarse``: the same images and 19,998 more with coarse labels;
            ``fine+extra``: the fine ones and the 19,998 more. Validation always has fine labels.
        test: Whether the test images are a split too; all their labels are void.
    """

    train_labels: Literal["fine", "coarse", "fine+extra"] = "fine"
    test: bool = False


def open_cityscapes(root: Path | None, options: Mapping[str, Any] | None = None) -> PairedSource:
    """Open Cityscapes.

    Args:
        root: Folder that holds ``leftImg8bit`` and ``gtFine``, or its parent if it is called ``cityscapes``.
        options: Fields of ``CityscapesOptions``.

    Raises:
        DataError: If ``root`` is not a folder.
        InvalidInput: If the options are wrong.
    """
    chosen = CityscapesOptions.checked(options)
    root = require_root(root, dataset="cityscapes", layout=_LAYOUT)
    root = inner_root(root, "cityscapes", holds="leftImg8bit")
    train = [_part(root, labels, folder) for labels, folder in _TRAIN_PARTS[chosen.train_labels]]
    files = {"train": merged(*train), "val": _part(root, "gtFine", "val")}
    if chosen.test:
        files["test"] = _part(root, "gtFine", "test")
    return PairedSource(info=CITYSCAPES_19, ids=CITYSCAPES_IDS, files=files)


def _part(root: Path, labels: str, folder: str) -> SplitFiles:
    return find_pairs(
        root / "leftImg8bit" / folder,
        root / labels / folder,
        image_ending="_leftImg8bit",
        mask_ending=f"_{labels}_labelIds",
    )
