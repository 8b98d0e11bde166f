"""What every data set looks like to the rest of the system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segsweep.errors import Problem

Image = NDArray[np.uint8]
Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What a data set's labels mean.

    Attributes:
        name: Short name for tables.
        class_names: Names by train id, 0..K-1.
        palette: RGB colour of each class in 0..255, for pictures only.
        ignore_index: Label of pixels that do not count: 255, or 65535 with more than 255 classes.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """``uint8`` while the ids and the ignore index fit, else ``uint16``."""
        return np.dtype(np.uint8 if self.ignore_index <= np.iinfo(np.uint8).max else np.uint16)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled picture.

    Attributes:
        key: Name inside its split, for messages.
        image: RGB, uint8, ``(H, W, 3)``.
        labels: Train ids or the ignore index, uint8 or uint16, ``(H, W)``.
    """

    key: str
    image: Image
    labels: Labels


class Source(Protocol):
    """A data set in its own format on disk (or made up), read one sample at a time."""

    @property
    def info(self) -> DatasetInfo:
        """What the labels mean."""
        ...

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, for example ``("train", "val")``."""
        ...

    def keys(self, split: str) -> Sequence[str]:
        """Keys of the samples of a split in a fixed order."""
        ...

    def load(self, split: str, key: str) -> Sample:
        """Read one sample; raises ``DataError`` that names the file."""
        ...

    def check(self) -> list[Problem]:
        """Structural problems that show without decoding pixels, all of them at once."""
        ...

    def fingerprint(self) -> str:
        """Identity of the content, from names, sizes and times: equal means 'need not be read again'."""
        ...
