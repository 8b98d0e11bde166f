"""Resize-then-crop that only computes the pixels of the crop.

Both functions give what resizing the whole image and then cropping would give: ``bilinear_crop`` that of
``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``, ``nearest_crop`` that of the
nearest pixel centre: target pixel i of n takes source pixel floor((i + 1/2) N / n) of N, in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import Image, Labels


@dataclass(frozen=True, kw_only=True)
class CropWindow:
    """A part of a resized image.

    Attributes:
        resized: Height and width of the whole image after resizing, in pixels.
        top: First kept row of the resized image; ``left``: first kept column.
        crop: Height and width to keep; less is kept where the resized image ends before.
        flip: Whether the result is mirrored left-right.
    """

    resized: tuple[int, int]
    top: int
    left: int
    crop: tuple[int, int]
    flip: bool = False

    def rows(self) -> NDArray[np.int64]:
        """Rows of the resized image that are kept."""
        return np.arange(self.top, min(self.top + self.crop[0], self.resized[0]))

    def columns(self) -> NDArray[np.int64]:
        """Columns of the resized image in the order of the result."""
        columns = np.arange(self.left, min(self.left + self.crop[1], self.resized[1]))
        return columns[::-1] if self.flip else columns


def nearest_crop(labels: Labels, window: CropWindow) -> Labels:
    """Labels ``(H, W)`` of a window, at most ``window.crop`` large."""
    rows = _nearest(window.rows(), labels.shape[0], window.resized[0])
    columns = _nearest(window.columns(), labels.shape[1], window.resized[1])
    if len(rows) > labels.shape[0]:  # the slow step, along the rows, on as few of them as possible
        return labels.take(columns, axis=1).take(rows, axis=0)
    return labels.take(rows, axis=0).take(columns, axis=1)


def bilinear_crop(image: Image, window: CropWindow) -> NDArray[np.float32]:
    """Image ``(3, H, W)`` of a window as float32 in 0..255, at most ``window.crop`` large."""
    top, bottom, below = _neighbours(window.rows(), image.shape[1], window.resized[0])
    left, right, beyond = _neighbours(window.columns(), image.shape[2], window.resized[1])
    rows = _blend(image.take(top, axis=1), image.take(bottom, axis=1), below[:, None])
    return _blend(rows.take(left, axis=2), rows.take(right, axis=2), beyond)


def _nearest(targets: NDArray[np.int64], source: int, resized: int) -> NDArray[np.int64]:
    return (2 * targets + 1) * source // (2 * resized)


def _neighbours(
    targets: NDArray[np.int64], source: int, resized: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The two source pixels around each target pixel's centre and the weight of the second."""
    centres = np.maximum((targets + 0.5) * (source / resized) - 0.5, 0)
    first = np.minimum(centres.astype(np.int64), source - 1)
    second = np.minimum(first + 1, source - 1)
    return first, second, (centres - first).astype(np.float32)


def _blend(
    first: NDArray[np.uint8] | NDArray[np.float32],
    second: NDArray[np.uint8] | NDArray[np.float32],
    weight: NDArray[np.float32],
) -> NDArray[np.float32]:
    start = first.astype(np.float32, copy=False)
    difference = second - start
    difference *= weight
    difference += start
    return difference
