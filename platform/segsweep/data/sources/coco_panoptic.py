"""COCO panoptic 2017: a PNG of segment ids for each image and one JSON file of their classes for each split.

coco/
  annotations/panoptic_{train,val}2017.json
  annotations/panoptic_{train,val}2017/000000000139.png   or panoptic_{train,val}2017/ at the root
  {train,val}2017/000000000139.jpg                        or images/{train,val}2017/

A pixel's segment id is R + 256 G + 65536 B, 0 is void. The 133 classes are 80 things and 53 kinds of stuff
with stored ids up to 200 that have gaps; train ids number them in the order of the stored ids.
Source: Kirillov et al. 2019, "Panoptic Segmentation"; format of cocodataset.org.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import DatasetInfo, Sample
from segsweep.data.panoptic import PanopticSample, SegmentRecord, number_segments
from segsweep.data.sources.image_files import read_image
from segsweep.data.sources.paired_files import SplitFiles, find_pairs, require_root
from segsweep.errors import DataError, Problem
from segsweep.labels import IGNORE_INDEX, IGNORE_INDEX_16

_SPLITS = ("train", "val")
_LAYOUT = (
    "annotations/panoptic_val2017.json, annotations/panoptic_val2017/, val2017/ and the same of train2017"
)
_SHOWN = 10  # ids or names listed in one message


@dataclass(frozen=True, kw_only=True)
class Category:
    """A class as the JSON file declares it."""

    stored_id: int
    name: str
    thing: bool
    colour: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """One split's JSON file.

    Attributes:
        path: The file.
        categories: In the order of their stored ids, which is that of the train ids.
        segments: Stem of the PNG -> stored segment id -> what it is.
    """

    path: Path
    categories: tuple[Category, ...]
    segments: Mapping[str, Mapping[int, SegmentRecord]]


@dataclass(frozen=True)
class CocoPanopticSource:
    """A ``PanopticSource`` over COCO's files; a split's JSON file is read when it is first needed."""

    root: Path
    files: Mapping[str, SplitFiles]
    _read: dict[str, Annotations] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def info(self) -> DatasetInfo:
        """What the labels mean; from the smaller JSON file."""
        categories = self._categories
        return DatasetInfo(
            name="coco_panoptic",
            class_names=tuple(category.name for category in categories),
            palette=tuple(category.colour for category in categories),
            ignore_index=IGNORE_INDEX if len(categories) <= IGNORE_INDEX else IGNORE_INDEX_16,
        )

    @property
    def things(self) -> tuple[int, ...]:
        """Train ids of countable objects."""
        return tuple(index for index, category in enumerate(self._categories) if category.thing)

    @property
    def _categories(self) -> tuple[Category, ...]:
        return self._annotations(_SPLITS[-1]).categories

    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.files)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of a split in order."""
        return tuple(key for key in self._split(split).pairs if key in self._annotations(split).segments)

    def load(self, split: str, key: str) -> Sample:
        """Read one sample: the class of every pixel, crowds included."""
        sample = self.load_segments(split, key)
        return Sample(key=key, image=sample.image, labels=sample.labels(self.info))

    def load_segments(self, split: str, key: str) -> PanopticSample:
        """Read one sample with its segments."""
        pair = self._split(split).pairs[key]
        annotations = self._annotations(split)
        records = annotations.segments[key]
        image, stored_ids = read_image(pair.image), read_segment_ids(pair.mask)
        if image.shape[:2] != stored_ids.shape:
            raise DataError(
                f"{pair.mask}: {_size(stored_ids.shape)} but its image {pair.image} is {_size(image.shape)} "
                "(width x height); both must agree: restore the file"
            )
        numbers, segments, unknown = number_segments(stored_ids, records)
        without_pixels = sorted(set(records) - {segment.stored_id for segment in segments})
        if unknown or without_pixels:
            found = f"segments {list(unknown)[:_SHOWN]} have pixels but no entry in {annotations.path.name}"
            missing = f"segments {without_pixels[:_SHOWN]} of {annotations.path.name} have no pixels"
            raise DataError(
                f"{pair.mask}: {found if unknown else missing}; likely the PNG was resized or converted: "
                "restore the original"
            )
        return PanopticSample(key=key, image=image, segment_ids=numbers, segments=segments)

    def check(self) -> list[Problem]:
        """Problems that show without decoding pixels."""
        problems: list[Problem] = []
        for split, files in self.files.items():
            problems += files.problems
            try:
                problems += self._annotation_problems(split)
            except DataError as error:
                problems.append(Problem(where=str(_json_path(self.root, split)), message=str(error)))
        return problems

    def fingerprint(self) -> str:
        """Identity of the content: names, sizes and times of the files, and what is wrong with them."""
        digest = hashlib.sha256(b"coco_panoptic")
        for split, files in self.files.items():
            digest.update(repr((split, _stat(_json_path(self.root, split)), files.problems)).encode())
            for key, pair in files.pairs.items():
                digest.update(repr((key, _stat(pair.image), _stat(pair.mask))).encode())
        return digest.hexdigest()

    def _annotations(self, split: str) -> Annotations:
        if split not in self._read:
            self._read[split] = read_annotations(_json_path(self.root, split))
        return self._read[split]

    def _split(self, split: str) -> SplitFiles:
        if split not in self.files:
            raise DataError(f"coco_panoptic has no split {split!r}; it has {', '.join(self.files)}")
        return self.files[split]

    def _annotation_problems(self, split: str) -> Iterator[Problem]:
        annotations, pairs = self._annotations(split), self.files[split].pairs
        where = str(annotations.path)
        if annotations.categories != self._categories:
            yield Problem(
                where=where, message="categories differ from the val split's; use files of one release"
            )
        for names, found in (
            (sorted(set(annotations.segments) - set(pairs)), "annotations have no image or no PNG"),
            (sorted(set(pairs) - set(annotations.segments)), "images have no annotation and are left out"),
        ):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                shown = ", ".join(names[:_SHOWN])
                yield Problem(where=where, message=f"{len(names)} {found}: {shown}{more}; add or remove them")


def open_coco_panoptic(root: Path | None) -> CocoPanopticSource:
    """Open COCO panoptic; raises ``DataError`` if ``root`` is not a folder with a JSON file of a split."""
    root = require_root(root, dataset="coco_panoptic", layout=_LAYOUT)
    missing = [path for split in _SPLITS if not (path := _json_path(root, split)).is_file()]
    if missing:
        raise DataError(f"{missing[0]}: file is missing; root must hold {_LAYOUT}")
    files = {}
    for split in _SPLITS:
        images = _first_folder(root / f"{split}2017", root / "images" / f"{split}2017")
        pngs = _first_folder(root / "annotations" / f"panoptic_{split}2017", root / f"panoptic_{split}2017")
        files[split] = find_pairs(images, pngs)
    return CocoPanopticSource(root, files)


def read_segment_ids(path: Path) -> NDArray[np.int32]:
    """Segment ids ``R + 256 G + 65536 B`` of a PNG, ``(H, W)``; 0 is void."""
    red, green, blue = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
    return np.asarray(red + 256 * green + 65536 * blue, dtype=np.int32)


def read_annotations(path: Path) -> Annotations:
    """Read a split's JSON file; raises ``DataError`` if it is not of COCO's panoptic format."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); restore the file") from error
    try:
        categories = _categories(document["categories"])
        by_id = {category.stored_id: index for index, category in enumerate(categories)}
        segments = {
            Path(entry["file_name"]).stem: _records(entry["segments_info"], categories, by_id)
            for entry in document["annotations"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not of COCO's panoptic format: {type(error).__name__} {error}; it needs categories "
            "(id, name, isthing) and annotations (file_name, segments_info with id and category_id)"
        ) from error
    return Annotations(path=path, categories=categories, segments=segments)


def _categories(entries: Sequence[Mapping[str, Any]]) -> tuple[Category, ...]:
    categories = [
        Category(
            stored_id=int(entry["id"]),
            name=str(entry["name"]),
            thing=bool(entry["isthing"]),
            colour=(int(red), int(green), int(blue)),
        )
        for entry in entries
        for red, green, blue in [entry.get("color", (128, 128, 128))]
    ]
    return tuple(sorted(categories, key=lambda category: category.stored_id))


def _records(
    entries: Sequence[Mapping[str, Any]], categories: Sequence[Category], by_id: Mapping[int, int]
) -> dict[int, SegmentRecord]:
    records = {}
    for entry in entries:
        train_id = by_id[entry["category_id"]]
        crowd = bool(entry.get("iscrowd", 0))
        records[int(entry["id"])] = SegmentRecord(
            train_id=train_id, thing=categories[train_id].thing, crowd=crowd
        )
    return records


def _json_path(root: Path, split: str) -> Path:
    return root / "annotations" / f"panoptic_{split}2017.json"


def _first_folder(*folders: Path) -> Path:
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"
