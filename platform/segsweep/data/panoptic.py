"""Segments: what a panoptic data set says beyond a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import DatasetInfo, Image, Labels, Source

if TYPE_CHECKING:
    from segsweep.metrics.panoptic import SegmentMap


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One object, or all of one kind of stuff, in one image.

    Attributes:
        train_id: Class, 0..K-1.
        thing: Whether the class is of countable objects.
        area: Visible pixels, at least 1.
        crowd: Whether it stands for several objects that nobody told apart.
        stored_id: Its id in the files, for messages.
    """

    train_id: int
    thing: bool
    area: int
    crowd: bool = False
    stored_id: int


@dataclass(frozen=True, kw_only=True)
class PanopticSample:
    """One picture with its segments.

    Attributes:
        key: Name inside its split, for messages.
        image: RGB, uint8, ``(H, W, 3)``.
        segment_ids: ``(H, W)`` int32: 0 void, n on segment n of 1..N.
        segments: Segment n at place n - 1.
    """

    key: str
    image: Image
    segment_ids: NDArray[np.int32]
    segments: tuple[Segment, ...]

    def labels(self, info: DatasetInfo) -> Labels:
        """The class of every pixel, crowds included; void becomes the ignore index; ``(H, W)``."""
        classes = [info.ignore_index, *(segment.train_id for segment in self.segments)]
        return np.array(classes, dtype=info.label_dtype)[self.segment_ids]

    def segment_map(self) -> SegmentMap:
        """What ``metrics.panoptic`` compares a prediction with."""
        import torch  # 1.2 s: who only reads files does not pay

        from segsweep.metrics.panoptic import SegmentMap

        return SegmentMap(
            ids=torch.from_numpy(self.segment_ids),
            classes=[segment.train_id for segment in self.segments],
            crowd=[segment.crowd for segment in self.segments],
        )

    def masks(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """What a mask classifier learns: classes ``(M,)`` and masks ``(M, H, W)``, crowds left out."""
        kept = [number for number, segment in enumerate(self.segments, start=1) if not segment.crowd]
        classes = np.array([self.segments[number - 1].train_id for number in kept], dtype=np.int64)
        return classes, self.segment_ids == np.array(kept, dtype=np.int32)[:, None, None]


class PanopticSource(Source, Protocol):
    """A ``Source`` that can tell segments as well as classes."""

    @property
    def things(self) -> tuple[int, ...]:
        """Train ids of countable objects; all others are stuff."""
        ...

    def load_segments(self, split: str, key: str) -> PanopticSample:
        """Read one sample with its segments; raises ``DataError`` that names the file."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRecord:
    """What an annotation says of a stored id: its class, and whether it is a thing or a crowd."""

    train_id: int
    thing: bool
    crowd: bool = False


def number_segments(
    stored_ids: NDArray[np.int32], records: Mapping[int, SegmentRecord]
) -> tuple[NDArray[np.int32], tuple[Segment, ...], tuple[int, ...]]:
    """Number the segments that have pixels from 1 without gaps, in the order of their records.

    Args:
        stored_ids: ``(H, W)``, 0 is void.
        records: What each stored id is.

    Returns:
        The map of the new numbers, the segments, and the stored ids that have pixels but no record.
    """
    found, inverse, areas = np.unique(stored_ids, return_inverse=True, return_counts=True)
    place = {int(stored): index for index, stored in enumerate(found)}
    numbers = np.zeros(len(found), dtype=np.int32)
    segments = []
    for stored, record in records.items():
        if stored in place:
            segments.append(
                Segment(
                    train_id=record.train_id,
                    thing=record.thing,
                    area=int(areas[place[stored]]),
                    crowd=record.crowd,
                    stored_id=stored,
                )
            )
            numbers[place[stored]] = len(segments)
    unknown = tuple(stored for stored in place if stored != 0 and stored not in records)
    return numbers[inverse].reshape(stored_ids.shape), tuple(segments), unknown
