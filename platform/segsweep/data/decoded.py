"""Samples straight from a source, decoded on first use and kept in memory as uint8 while they fit.

For data that were not prepared: the first epoch decodes, later ones read memory. Several processes on one
machine are better served by shards, whose pixels they share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segsweep.data.interface import DatasetInfo, Image, Labels, Source

_CACHE_BYTES = 2 * 2**30


class DecodedDataset:
    """Samples of one split of a source, as a ``TrainLoader`` or ``EvalLoader`` reads them.

    Args:
        source: The data set.
        split: Which of its splits.
        keys: Samples in this order; default all of the split.
        cache_bytes: Memory for decoded pixels; samples that no longer fit are decoded every time.

    Raises:
        DataError: If the split is unknown; when indexed, if a sample cannot be read.
    """

    size: tuple[int, int] | None = None
    """Unknown without reading every sample, so that training needs a crop."""

    def __init__(
        self,
        source: Source,
        split: str,
        *,
        keys: Sequence[str] | None = None,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self.source, self.split = source, split
        self.folder = source.info.name
        self._keys = tuple(source.keys(split) if keys is None else keys)
        self._free = cache_bytes
        self._cache: dict[int, tuple[Image, Labels]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def info(self) -> DatasetInfo:
        """The data set."""
        return self.source.info

    @property
    def cached(self) -> int:
        """Samples in memory."""
        return len(self._cache)

    def key(self, row: int) -> str:
        """The source's name of a sample."""
        return self._keys[row]

    def arrays(self, row: int) -> tuple[Image, Labels]:
        """Image uint8 ``(3, H, W)``, a view of ``(H, W, 3)``, and labels uint8 or uint16 ``(H, W)``."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is outside 0..{len(self) - 1} of {self.folder}, {self.split}")
        if row in self._cache:
            return self._cache[row]
        sample = self.source.load(self.split, self._keys[row])
        image = sample.image.copy().transpose(2, 0, 1)  # stays as decoded, which torch resizes fastest
        labels: Labels = np.ascontiguousarray(sample.labels, dtype=self.info.label_dtype)
        needed = image.nbytes + labels.nbytes
        if needed <= self._free:  # threads may overdraw by a sample each
            self._free -= needed
            self._cache[row] = image, labels
        return image, labels
