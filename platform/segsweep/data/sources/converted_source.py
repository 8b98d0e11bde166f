"""Data sets whose masks are no plain PNGs of ids: MATLAB files, colours that encode ids, run lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.interface import Labels, Sample
from segsweep.data.sources.image_files import image_problem, read_image
from segsweep.data.sources.paired_files import Pair, PairedSource
from segsweep.errors import DataError, Problem

_LARGEST_ID = np.iinfo(np.uint16).max


@dataclass(frozen=True, kw_only=True)
class MaskFormat:
    """How the ids of a pair are read.

    Attributes:
        read: Stored ids ``(H, W)`` of a pair, uint8 or uint16; raises ``DataError`` that names the file.
        size: Height and width from the header, without decoding pixels; raises ``DataError`` likewise.
    """

    read: Callable[[Pair], Labels]
    size: Callable[[Pair], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class ConvertedSource(PairedSource):
    """A ``Source`` over pairs of files whose ids a ``MaskFormat`` decodes."""

    masks: MaskFormat

    def stored_ids(self, split: str, key: str) -> Labels:
        """Ids of a sample as stored, before the id table, ``(H, W)``."""
        return self.masks.read(self._split(split).pairs[key])

    def load(self, split: str, key: str) -> Sample:
        """Read one sample."""
        pair = self._split(split).pairs[key]
        image, ids = read_image(pair.image), self.masks.read(pair)
        if image.shape[:2] != ids.shape:
            raise DataError(f"{pair.mask}: {_size_message(pair, image.shape[:2], ids.shape)}")
        labels = self.ids.apply(ids, path=pair.mask, dtype=self.info.label_dtype)
        return Sample(key=key, image=image, labels=labels)

    def check(self) -> list[Problem]:
        """Problems that show without decoding pixels."""
        problems = list(self.extra_problems)
        for files in self.files.values():
            problems += files.problems
            for pair in files.pairs.values():
                problems += self._pair_problems(pair)
        return problems

    def _pair_problems(self, pair: Pair) -> Iterator[Problem]:
        sizes = []
        for path, measure in ((pair.image, _image_size), (pair.mask, self.masks.size)):
            try:
                sizes.append(measure(pair))
            except DataError as error:
                yield Problem(where=str(path), message=str(error).removeprefix(f"{path}: "))
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            yield Problem(where=str(pair.mask), message=_size_message(pair, *sizes))


def as_ids(values: NDArray[Any], *, path: Path) -> Labels:
    """An array of whole numbers 0..65535 as uint8 or uint16; raises ``DataError`` for anything else."""
    if values.ndim != 2 or values.dtype.kind not in "buif":
        found = f"an array of shape {values.shape} and type {values.dtype}"
        raise DataError(f"{path}: labels are {found}; allowed is one id per pixel (H, W): restore the file")
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.size and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= _LARGEST_ID):
        raise DataError(
            f"{path}: labels reach from {values.min()} to {values.max()}; allowed are 0..{_LARGEST_ID}: "
            "restore the file"
        )
    ids = values.astype(np.uint16)
    if (ids != values).any():
        raise DataError(f"{path}: labels are no whole numbers; likely they were resized: restore the file")
    return ids


def _image_size(pair: Pair) -> tuple[int, int]:
    try:
        with Image.open(pair.image) as picture:
            width, height = picture.size
            problem = image_problem(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problem = f"cannot be read as a picture ({error}); the file is damaged, restore it"
    if problem:
        raise DataError(f"{pair.image}: {problem}")
    return height, width


def _size_message(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    return (
        f"mask is {mask[1]}x{mask[0]} but its image {pair.image} is {image[1]}x{image[0]} (width x height); "
        "both must agree: restore both files from one release"
    )
