"""Backbone, neck and head in a row, with an auxiliary head that only teaches."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from segsweep.errors import ImageSizeError
from segsweep.models.interface import SegmentationOutput

AUXILIARY_LEVEL = 4  # mmsegmentation's auxiliary heads read C4


class Segmenter(nn.Module):
    """A segmentation network without branches at inference.

    Args:
        backbone: Images to pyramid.
        neck: Pyramid to pyramid; ``nn.Identity()`` where the head reads the backbone.
        head: Pyramid to logits, or to a ``SegmentationOutput``.
        levels: Finest and coarsest level that neck and head work on.
        num_classes: Number of classes.
        auxiliary: One level of the backbone to logits; run in training mode only.
        auxiliary_level: The level that ``auxiliary`` reads.

    Attributes:
        stride: Stride of the logits.
        num_classes: Number of classes.
        training_only: Names of the submodules that inference does not need.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        *,
        levels: tuple[int, int],
        num_classes: int,
        auxiliary: nn.Module | None = None,
        auxiliary_level: int = AUXILIARY_LEVEL,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.auxiliary = auxiliary
        self.auxiliary_level = auxiliary_level
        self.bottom_level, self.top_level = levels
        self.stride: int = 2**self.bottom_level
        self.num_classes = num_classes
        self.training_only: tuple[str, ...] = () if auxiliary is None else ("auxiliary",)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Segment a batch of images of any size that leaves the coarsest level something to see.

        Args:
            images: Normalised RGB, ``(B, 3, H, W)``; level l has ``ceil(H / 2**l) x ceil(W / 2**l)`` pixels.

        Returns:
            Logits at ``stride``; ``semantic_logits(size)`` gives ``(B, K, H, W)``.

        Raises:
            ImageSizeError: If the coarsest level would be smaller than one pixel.
        """
        height, width = images.shape[-2:]
        check_image_size((height, width), top_level=self.top_level)
        if images.device.type == "cpu":
            # Pooling and resizing are 4 to 6 times as fast in this layout; so inference takes less than half,
            # a training step three quarters of the time.
            images = images.contiguous(memory_format=torch.channels_last)
        features = self.backbone(images)  # {2: (B, C2, H/4, W/4), ..., 5: (B, C5, H/32, W/32)}
        output = self.head(self.neck(features))  # neck: levels bottom..top, one width
        if isinstance(output, Tensor):
            output = SegmentationOutput(logits=output)
        if self.auxiliary is None or not self.training:
            return output  # type: ignore[no-any-return]
        return replace(output, auxiliary_logits=self.auxiliary(features[self.auxiliary_level]))  # type: ignore[no-any-return]


def check_image_size(size: tuple[int, int], *, top_level: int) -> None:
    """Refuse images so small that the coarsest level has nothing left to see.

    Args:
        size: Height and width in pixels.
        top_level: Coarsest level.

    Raises:
        ImageSizeError: The message names the smallest size and the highest level that fit.
    """
    smallest = 2 ** (top_level - 1) + 1  # below that, the level under the top has one pixel already
    if min(size) < smallest:
        fitting = (min(size) - 1).bit_length()
        raise ImageSizeError(
            f"an image of {size[0]}x{size[1]} pixels leaves level {top_level} less than one pixel; "
            f"use images of at least {smallest} pixels a side or a top level of at most {fitting}"
        )
