"""A segmenter for networks that were published with padded images."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from torch import Tensor

from segsweep.errors import ImageSizeError
from segsweep.models.heads.mask_classification import FramedOutput
from segsweep.models.interface import SegmentationOutput
from segsweep.models.layers.padding import pad_to_multiple
from segsweep.models.segmenter import Segmenter

_UNIT = 32  # pixels: the stride of the coarsest level
_SMALLEST = _UNIT + 1  # so that the coarsest level has more than one pixel, which a group norm needs


class PaddedSegmenter(Segmenter):
    """A segmentation network that sees images padded with zeros to whole strides of its coarsest level.

    Arguments and attributes as ``Segmenter``; the head gives a ``FramedOutput``.
    """

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Segment a batch of images of any size from 33 pixels a side.

        Args:
            images: Normalised RGB, ``(B, 3, H, W)``.

        Returns:
            Output on the grid of the padded image at ``stride``; ``semantic_logits(size)`` gives
            ``(B, K, H, W)`` without the padding.

        Raises:
            ImageSizeError: If a side is too short.
        """
        check_padded_size((images.shape[-2], images.shape[-1]))
        padded, frame = pad_to_multiple(images, _UNIT)
        return replace(cast(FramedOutput, super().forward(padded)), frame=frame)


def check_padded_size(size: tuple[int, int]) -> None:
    """Refuse images that leave the coarsest level one pixel, which cannot be normalised.

    Raises:
        ImageSizeError: The message names the smallest size.
    """
    if min(size) < _SMALLEST:
        raise ImageSizeError(
            f"an image of {size[0]}x{size[1]} pixels leaves the coarsest level one pixel; "
            f"use images of at least {_SMALLEST} pixels a side"
        )
