"""ADE20K's scene parsing benchmark with 150 classes, as it is downloaded.

ADEChallengeData2016/
  images/{training,validation}/ADE_{train,val}_00000001.jpg
  annotations/{training,validation}/ADE_{train,val}_00000001.png   8-bit: 0 void, 1..150 classes

20,210 training and 2,000 validation images; the labels of the test images stay on a server. Some images are
grey. Train id = stored id - 1, void -> 255. No converted copy is needed.
Source: Zhou et al. 2017, "Scene Parsing through ADE20K Dataset".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.data.sources.ade20k_classes import ADE20K_150
from segsweep.data.sources.file_pairs import inner_root
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.paired_files import PairedSource, find_pairs, require_root
from segsweep.data.sources.source_options import SourceOptions

_FOLDERS = {"train": "training", "val": "validation"}
_LAYOUT = "images/ and annotations/, each with training/ and validation/ (ADEChallengeData2016)"

# The ids 0..150 are all there are: another id means another release, so it is refused and not made void.
ADE20K_IDS = IdTable(
    train_ids={train_id + 1: train_id for train_id in range(ADE20K_150.num_classes)},
    void=(0,),
    ignore_index=ADE20K_150.ignore_index,
    declared_in="ADE20K's scene parsing labels",
)


def open_ade20k(root: Path | None, options: Mapping[str, Any] | None = None) -> PairedSource:
    """Open ADE20K.

    Args:
        root: ``ADEChallengeData2016`` or the folder that holds it.
        options: None are known.

    Raises:
        DataError: If ``root`` is not a folder.
        InvalidInput: If there are options.
    """
    SourceOptions.checked(options)
    root = require_root(root, dataset="ade20k", layout=_LAYOUT)
    root = inner_root(root, "ADEChallengeData2016", holds="annotations")
    files = {
        split: find_pairs(root / "images" / folder, root / "annotations" / folder)
        for split, folder in _FOLDERS.items()
    }
    return PairedSource(info=ADE20K_150, ids=ADE20K_IDS, files=files)
