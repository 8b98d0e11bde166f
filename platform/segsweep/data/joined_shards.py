"""Labelled shards and shards with pseudo labels as one training set, mixed batch by batch (ESeg, 4.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import DatasetInfo, Image, Labels
from segsweep.data.shard_reader import ShardDataset, ShardSet, open_shards
from segsweep.errors import DataError

TRAIN = "train"  # the split that is joined, and the one of pseudo-labelled data
_SHOWN = 4  # class names in one message


@dataclass(frozen=True, kw_only=True)
class JoinedShards(ShardSet):
    """Shards whose split ``train`` is joined by that of others; other splits are as they were.

    Attributes:
        extra: The shards that join.
        share: Of every batch that comes from them.
    """

    extra: ShardSet
    share: float

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each split."""
        return {**super().counts, TRAIN: super().counts[TRAIN] + self.extra.counts[TRAIN]}

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of both and of the share."""
        content = f"{super().digest} {self.extra.digest} {self.share}"
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def class_histogram(self) -> dict[str, tuple[int, ...]]:
        """Pixels of each class in each split; ignored pixels are not among them."""
        both = zip(super().class_histogram[TRAIN], self.extra.class_histogram[TRAIN], strict=True)
        return {**super().class_histogram, TRAIN: tuple(own + extra for own, extra in both)}

    @property
    def ignored_pixels(self) -> dict[str, int]:
        """Pixels of each split that do not count."""
        both = super().ignored_pixels[TRAIN] + self.extra.ignored_pixels[TRAIN]
        return {**super().ignored_pixels, TRAIN: both}

    def verify(self) -> None:
        """Read every pixel; raises ``DataError`` if any has changed since it was written."""
        ShardSet(path=self.path, index=self.index).verify()
        self.extra.verify()

    def dataset(self, split: str) -> ShardDataset:
        """The samples of a split; raises ``DataError`` if there is no such split."""
        if split != TRAIN:
            return super().dataset(split)
        return JoinedDataset(super().dataset(TRAIN), self.extra.dataset(TRAIN), share=self.share)


class JoinedDataset(ShardDataset):
    """Rows of the one, then rows of the other; epochs have a fixed share of the latter in every batch.

    Args:
        labelled: First rows.
        extra: Rows after them.
        share: Of every batch.
    """

    def __init__(self, labelled: ShardDataset, extra: ShardDataset, *, share: float) -> None:
        super().__init__(labelled.folder, labelled.split)
        self._parts = (labelled, extra)
        self.share = share

    def __len__(self) -> int:
        return len(self._parts[0]) + len(self._parts[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts, "share": self.share}

    @property
    def info(self) -> DatasetInfo:
        """The data set."""
        return self._parts[0].info

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every sample; ``None`` if they differ."""
        sizes = {part.size for part in self._parts}
        return sizes.pop() if len(sizes) == 1 else None

    def key(self, row: int) -> str:
        """The source's name of a sample."""
        part, inner = self._place(row)
        return part.key(inner)

    def arrays(self, row: int) -> tuple[Image, Labels]:
        """Image uint8 ``(3, H, W)`` and labels ``(H, W)``; rows from ``len(self)`` on are repetitions."""
        part, inner = self._place(row)
        return part.arrays(inner)

    def epoch_rows(self, epoch: int, *, batch_size: int, seed: Sequence[int]) -> NDArray[np.int64]:
        """Rows of an epoch in their order, as many as there are samples.

        Both kinds go round in shuffled passes, each sample once before any comes again, also over the ends of
        epochs; so an epoch sees the smaller kind several times. Within a batch they are spread evenly, for
        the ranks that share it. A sample that comes again within the epoch has another row number (its own
        plus a multiple of ``len(self)``), so that it is augmented anew.

        Args:
            epoch: Number from 0.
            batch_size: Images per optimiser step over all ranks.
            seed: Of the shuffling.

        Raises:
            DataError: If the share leaves one kind out of the batches.
        """
        from_extra = self._pattern(batch_size)
        rows = np.empty(len(self), np.int64)
        starts = (0, len(self._parts[0]))
        for kind, (part, start) in enumerate(zip(self._parts, starts, strict=True)):
            places = np.flatnonzero(from_extra == bool(kind))
            used = int(np.count_nonzero(places < len(self) // batch_size * batch_size))
            drawn, again = _draw(len(part), epoch * used, len(places), seed=(*seed, kind))
            rows[places] = start + drawn + again * len(self)
        return rows

    def _pattern(self, batch_size: int) -> NDArray[np.bool_]:
        """Which places of an epoch are for samples of the second kind."""
        count = round(batch_size * self.share)
        if not 0 < count < batch_size:
            raise DataError(
                f"pseudo_labels.share = {self.share:g} of a batch of {batch_size} images is {count}: one "
                "kind would be left out; change the share or raise recipe.batch_size"
            )
        places = np.arange(len(self)) % batch_size
        pattern: NDArray[np.bool_] = (places + 1) * count // batch_size > places * count // batch_size
        return pattern

    def _place(self, row: int) -> tuple[ShardDataset, int]:
        row %= len(self)
        labelled, extra = self._parts
        return (labelled, row) if row < len(labelled) else (extra, row - len(labelled))


def join_shards(labelled: ShardSet, extra: Path, *, share: float) -> JoinedShards:
    """Let the shards of a folder join the training images.

    Raises:
        DataError: If there are no shards, or their classes or sizes are others.
    """
    found = open_shards(extra)
    if TRAIN not in found.counts or TRAIN not in labelled.counts:
        raise DataError(f"{extra}: has no split 'train'; give the shards of a pseudo_labels job")
    check_joins(labelled.info, found.info, where=str(extra))
    if labelled.size != found.size:
        raise DataError(
            f"{extra}: its images are {size_text(found.size)}, those they join {size_text(labelled.size)}; "
            "prepare both at one data.size"
        )
    return JoinedShards(path=labelled.path, index=labelled.index, extra=found, share=share)


def check_joins(labelled: DatasetInfo, extra: DatasetInfo, *, where: str) -> None:
    """Raise ``DataError`` unless both label the same classes with the same ids."""
    if (labelled.class_names, labelled.ignore_index) != (extra.class_names, extra.ignore_index):
        raise DataError(
            f"{where}: labels {_named(extra)}, the images that they join have {_named(labelled)}; the "
            "teacher must have been trained on the student's classes"
        )


def _named(info: DatasetInfo) -> str:
    shown = ", ".join(info.class_names[:_SHOWN])
    return f"{info.num_classes} classes ({shown}{', ...' if info.num_classes > _SHOWN else ''})"


def size_text(size: tuple[int, int] | None) -> str:
    """A size of images for messages; ``None`` is what differs between them."""
    return "of several sizes" if size is None else f"{size[0]}x{size[1]}"


def _draw(
    count: int, first: int, number: int, *, seed: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws ``first`` to ``first + number`` of endless shuffled passes: samples, and passes from 0."""
    positions = np.arange(first, first + number)
    passes = positions // count
    drawn = np.empty(number, np.int64)
    for one in np.unique(passes):
        order = np.random.default_rng((*seed, int(one))).permutation(count)
        drawn[passes == one] = order[positions[passes == one] % count]
    return drawn, passes - (passes[0] if number else 0)
