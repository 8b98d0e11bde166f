"""Pascal Context's labels in the JSON file of the Detail API: run lengths of each segment.

The file lists ``images`` (image_id, file_name, phase, height, width) and ``annos_segmentation`` (image_id,
category_id, segmentation: {size, counts}); the counts are COCO's run lengths, column by column, compressed to
text: 5 bits a character, differences to the count before last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import Labels
from segsweep.data.sources.file_pairs import listed_pairs, read_names
from segsweep.data.sources.paired_files import Pair, SplitFiles
from segsweep.errors import DataError, Problem

_SHOWN = 10  # names listed in one message


@dataclass(frozen=True)
class _Picture:
    """Height and width, split, and (id, run lengths) of each segment in the order they are painted."""

    size: tuple[int, int]
    phase: str
    segments: list[tuple[int, str | Sequence[int]]]


@dataclass(frozen=True)
class DetailLabels:
    """The labels of a JSON file, which is read when it is first needed."""

    path: Path

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # other processes read the file anew: what was read is gigabytes

    def files(self, images: Path, *, lists: Mapping[str, Path]) -> dict[str, SplitFiles]:
        """Pairs of each split, from its list file or, without lists, from the JSON file's phases.

        Raises:
            DataError: If the JSON file cannot be read.
        """
        if lists:
            return {split: self._listed(images, list_file) for split, list_file in lists.items()}
        return {split: self._of_phase(images, split) for split in ("train", "val")}

    def size(self, pair: Pair) -> tuple[int, int]:
        """Height and width of a picture."""
        return self._picture(pair).size

    def read(self, pair: Pair) -> Labels:
        """Ids of a picture, uint16 ``(H, W)``: later segments cover earlier ones, 0 is background."""
        picture = self._picture(pair)
        ids = np.zeros(picture.size, np.uint16)
        for category, counts in picture.segments:
            try:
                ids[decode_run_lengths(counts, picture.size)] = category
            except ValueError as error:
                raise DataError(
                    f"{self.path}: a segment of {pair.image.name} is damaged ({error}); restore the file"
                ) from error
        return ids

    def _picture(self, pair: Pair) -> _Picture:
        return self._pictures[pair.image.stem]

    def _listed(self, images: Path, list_file: Path) -> SplitFiles:
        files = listed_pairs(
            list_file, image=lambda name: images / f"{name}.jpg", mask=lambda name: self.path
        )
        known = {name: pair for name, pair in files.pairs.items() if name in self._pictures}
        if len(known) == len(files.pairs):
            return files
        unknown = [name for name in read_names(list_file) if name in files.pairs and name not in known]
        found = f"{len(unknown)} names are not in {self.path.name}: {', '.join(unknown[:_SHOWN])}"
        problem = Problem(where=str(list_file), message=f"{found}; use the lists of the Detail API")
        return SplitFiles(pairs=known, problems=(*files.problems, problem))

    def _of_phase(self, images: Path, phase: str) -> SplitFiles:
        names = sorted(name for name, picture in self._pictures.items() if picture.phase == phase)
        pairs = {name: Pair(image=images / f"{name}.jpg", mask=self.path) for name in names}
        missing = [name for name, pair in pairs.items() if not pair.image.is_file()]
        if not missing:
            return SplitFiles(pairs=pairs)
        found = f"{len(missing)} of {len(pairs)} images are missing: {', '.join(missing[:_SHOWN])}"
        kept = {name: pair for name, pair in pairs.items() if name not in set(missing)}
        problem = Problem(where=str(images), message=f"{found}; restore them")
        return SplitFiles(pairs=kept, problems=(problem,))

    @cached_property
    def _pictures(self) -> dict[str, _Picture]:
        """Stem of the image -> its labels."""
        try:
            document = json.loads(self.path.read_bytes())
            return _pictures(document)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.path}: not of the Detail API's format: {type(error).__name__} {error}; it needs "
                "images (image_id, file_name, phase, height, width) and annos_segmentation; restore the file"
            ) from error


def decode_run_lengths(counts: str | Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of a segment, ``(H, W)``.

    Args:
        counts: COCO's run lengths, alternating outside and inside, compressed to text or as numbers.
        size: Height and width.

    Raises:
        ValueError: If the runs do not cover ``size``.
    """
    runs = _decompressed(counts) if isinstance(counts, str) else list(counts)
    if any(run < 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError(f"runs cover {sum(runs)} pixels of {size[0] * size[1]}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(size[1], size[0]).T


def _decompressed(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        value |= (code & 31) << shift
        shift += 5
        if code & 32:  # more characters of this run follow
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def _pictures(document: Mapping[str, Any]) -> dict[str, _Picture]:
    by_id = {
        entry["image_id"]: _Picture((int(entry["height"]), int(entry["width"])), entry["phase"], [])
        for entry in document["images"]
    }
    for entry in document["annos_segmentation"]:
        counts = entry["segmentation"]["counts"]
        by_id[entry["image_id"]].segments.append((int(entry["category_id"]), counts))
    return {Path(entry["file_name"]).stem: by_id[entry["image_id"]] for entry in document["images"]}
