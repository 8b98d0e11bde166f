"""Mapillary Vistas with the 65 classes of v1.2, as it is downloaded.

mapillary_vistas/
  {training,validation}/images/<name>.jpg            1024x768 .. 4000x6000
  {training,validation}/labels/<name>.png            archive of v1.2: 8-bit palette, 0..64 classes, 65 void
  {training,validation}/v1.2/labels/<name>.png       archive of v2.0, which holds both sets of labels
  config.json or config_v1.2.json

18,000 training, 2,000 validation and 5,000 test images (without labels). The 124 classes of v2.0 are another
benchmark and are refused. Source: Neuhold et al. 2017, "The Mapillary Vistas Dataset".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.data.sources.file_pairs import first_folder, inner_root
from segsweep.data.sources.mapillary_classes import MAPILLARY_65, MAPILLARY_IDS
from segsweep.data.sources.paired_files import PairedSource, SplitFiles, find_pairs, require_root
from segsweep.data.sources.source_options import SourceOptions
from segsweep.errors import DataError, Problem

_FOLDERS = {"train": "training", "val": "validation"}
_LAYOUT = "training/ and validation/, each with images/ and labels/ (or v1.2/labels/)"
_CONFIGS = ("config_v1.2.json", "config.json")


def open_mapillary(root: Path | None, options: Mapping[str, Any] | None = None) -> PairedSource:
    """Open Mapillary Vistas v1.2.

    Args:
        root: Folder that holds ``training`` and ``validation``, or its parent ``mapillary_vistas``.
        options: None are known.

    Raises:
        DataError: If ``root`` is not a folder or holds the labels of v2.0 only.
        InvalidInput: If there are options.
    """
    SourceOptions.checked(options)
    root = require_root(root, dataset="mapillary", layout=_LAYOUT)
    root = inner_root(root, "mapillary_vistas", holds="training")
    files = {split: _split(root / folder) for split, folder in _FOLDERS.items()}
    return PairedSource(
        info=MAPILLARY_65, ids=MAPILLARY_IDS, files=files, extra_problems=tuple(_config_problems(root))
    )


def _split(folder: Path) -> SplitFiles:
    labels = first_folder(folder / "v1.2" / "labels", folder / "labels")
    if not labels.is_dir() and (folder / "v2.0").is_dir():
        raise DataError(
            f"{folder / 'v2.0'}: holds the 124 classes of Mapillary Vistas v2.0; allowed are the 65 of v1.2: "
            f"unpack v1.2/labels of the same archive into {folder}"
        )
    return find_pairs(folder / "images", labels if labels.is_dir() else folder / "labels")


def _config_problems(root: Path) -> list[Problem]:
    """Problems of the config file that came with the labels, where there is one."""
    path = next((root / name for name in _CONFIGS if (root / name).is_file()), None)
    if path is None:
        return []
    try:
        names = [entry["readable"] for entry in json.loads(path.read_bytes())["labels"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"cannot be read as Mapillary's config ({type(error).__name__} {error}); restore the file"
        return [Problem(where=str(path), message=message)]
    expected = [*MAPILLARY_65.class_names, "Unlabeled"]
    if [name.casefold() for name in names] == [name.casefold() for name in expected]:
        return []
    other = next((pair for pair in zip(names, expected, strict=False) if pair[0] != pair[1]), ("", ""))
    found = f"declares {len(names)} labels, the first other one {other[0]!r} instead of {other[1]!r}"
    message = f"{found}; allowed are the 66 of v1.2: use the labels and the config of v1.2"
    return [Problem(where=str(path), message=message)]
