"""The classes of ADE20K-Full: those that occur in training and validation, 847 in the release of 2021.

The release indexes 3,688 objects. The benchmark keeps those that are annotated as an object, not only as a
part of one, in both splits (Cheng et al. 2021, "MaskFormer"). The table of its repository orders
them by frequency; a derived table orders them by the number of images that show them, which permutes the
train ids. Give the published table as ``table`` to exchange weights with others.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.data.sources.plain_pickle import read_plain_pickle
from segsweep.errors import DataError
from segsweep.files import write_whole

LARGEST_STORED_ID = 25 * 256 + 255  # red up to 255 stands for up to 25 * 256
_KEYS = ("folder", "filename", "objectnames", "objectPresence", "objectIsPart")


@dataclass(frozen=True, kw_only=True)
class FullClass:
    """A class: its code in the label files and its name."""

    stored_id: int
    name: str


@dataclass(frozen=True, kw_only=True)
class ObjectIndex:
    """How many images of each split show each object.

    Attributes:
        names: Name by stored id.
        train: Images by stored id; ``val`` likewise.
    """

    names: Mapping[int, str]
    train: Mapping[int, int]
    val: Mapping[int, int]


def derive_847(index: ObjectIndex) -> tuple[FullClass, ...]:
    """The classes that both splits show, by descending number of images, then by stored id."""
    both = [stored for stored in index.names if index.train.get(stored, 0) and index.val.get(stored, 0)]
    both.sort(key=lambda stored: (-index.train[stored] - index.val[stored], stored))
    return tuple(FullClass(stored_id=stored, name=index.names[stored]) for stored in both)


def read_index(path: Path) -> ObjectIndex:
    """Read ``index_ade20k.pkl`` without unpickling it; raises ``DataError`` if it is not of that format."""
    content = read_plain_pickle(path)
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; it needs {', '.join(_KEYS)}: restore the file")
    names, folders = list(content["objectnames"]), list(content["folder"])
    shape = len(names), len(folders)
    presence, parts = np.asarray(content["objectPresence"]), np.asarray(content["objectIsPart"])
    if presence.shape != shape or parts.shape != shape:
        raise DataError(
            f"{path}: objectPresence and objectIsPart are {presence.shape} and {parts.shape}; allowed is "
            f"{shape}, one row an object and one column an image: restore the file"
        )
    in_train = np.array(["/training/" in f"/{folder}/" for folder in folders], bool)
    shown = [_images_with_object(*rows, in_train) for rows in zip(presence, parts, strict=True)]
    stored = range(1, len(names) + 1)  # codes count from 1: 0 is unlabelled
    return ObjectIndex(
        names=dict(zip(stored, map(str, names), strict=True)),
        train={code: train for code, (train, _) in zip(stored, shown, strict=True)},
        val={code: val for code, (_, val) in zip(stored, shown, strict=True)},
    )


def read_annotation_files(files: Mapping[str, Iterable[Path]]) -> ObjectIndex:
    """Read the index from the JSON file of each image; raises ``DataError`` that names a damaged one.

    Args:
        files: ``train`` and ``val`` -> JSON files.
    """
    names: dict[int, str] = {}
    shown: dict[str, dict[int, int]] = {"train": {}, "val": {}}
    for split, paths in files.items():
        for path in paths:
            objects = _objects(path)
            names.update(objects)
            for stored in objects:
                shown[split][stored] = shown[split].get(stored, 0) + 1
    return ObjectIndex(names=names, train=shown["train"], val=shown["val"])


def read_table(path: Path) -> tuple[FullClass, ...]:
    """Read a table of classes: a JSON list of ``{"id": stored id, "name": ..., "trainId": ...}``.

    Raises:
        DataError: If it is no such list, or the train ids are not 0, 1, 2, ... or a stored id comes twice.
    """
    try:
        entries = json.loads(path.read_bytes())
        return _classes(entries["classes"] if isinstance(entries, dict) else entries)
    except FileNotFoundError as error:
        raise DataError(f"{path}: table of classes is missing; restore it or leave `table` out") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a table of classes: {type(error).__name__} {error}; it needs a JSON list of "
            '{"id": 2978, "name": "wall", "trainId": 0} with the train ids 0, 1, 2, ... and each id once'
        ) from error


def cached_classes(cache: Path, *, state: str, derive: Callable[[], ObjectIndex]) -> tuple[FullClass, ...]:
    """The derived classes, from a JSON cache where it belongs to the same files.

    Args:
        cache: The JSON file; it is written anew if it is missing, damaged or of another state.
        state: Identity of the files that the index comes from.
        derive: Reads the index.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, DataError):  # no cache of ours
        if json.loads(cache.read_bytes())["state"] == state:
            return read_table(cache)
    classes = derive_847(derive())
    entries = [
        {"id": entry.stored_id, "name": entry.name, "trainId": train_id}
        for train_id, entry in enumerate(classes)
    ]
    with contextlib.suppress(OSError):  # data on a read-only disk: deriving takes seconds, go on without
        write_whole(cache, json.dumps({"state": state, "classes": entries}, indent=1))
    return classes


def _images_with_object(
    presence: NDArray[Any], parts: NDArray[Any], in_train: NDArray[np.bool_]
) -> tuple[int, int]:
    """Training and validation images that show an object which is not a part there."""
    shown = presence > parts
    return int(np.count_nonzero(shown & in_train)), int(np.count_nonzero(shown & ~in_train))


def _objects(path: Path) -> dict[int, str]:
    """Stored id -> name of the objects of an image, without parts."""
    try:
        entries = json.loads(path.read_bytes().decode("utf-8", errors="replace"))["annotation"]["object"]
        return {
            int(entry["name_ndx"]): str(entry["name"])
            for entry in entries
            if int(entry["parts"]["part_level"]) == 0
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not of ADE20K's format: {type(error).__name__} {error}; restore the file, or give "
            "index_ade20k.pkl or a `table` of classes"
        ) from error


def _classes(entries: list[Mapping[str, Any]]) -> tuple[FullClass, ...]:
    rows = sorted((int(entry["trainId"]), int(entry["id"]), str(entry["name"])) for entry in entries)
    if [train_id for train_id, _, _ in rows] != list(range(len(rows))) or not rows:
        raise ValueError("the train ids are not 0, 1, 2, ...")
    stored = [code for _, code, _ in rows]
    if len(set(stored)) < len(stored) or min(stored) < 1 or max(stored) > LARGEST_STORED_ID:
        raise ValueError(f"the ids are not all different and in 1..{LARGEST_STORED_ID}")
    return tuple(FullClass(stored_id=code, name=name) for _, code, name in rows)
