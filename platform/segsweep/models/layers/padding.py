"""Padding of images to whole strides, and the way back."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from segsweep.models.layers.resize import resize_bilinear


class Frame(NamedTuple):
    """An image in a larger one, at its top left.

    Attributes:
        image: Height and width of the image in pixels.
        padded: Height and width that the network sees.
    """

    image: tuple[int, int]
    padded: tuple[int, int]

    def enlarge(self, maps: Tensor) -> Tensor:
        """Maps of the padded image at the image's size: bilinear ``(B, C, h, w) -> (B, C, H, W)``."""
        height, width = self.image
        return resize_bilinear(maps, self.padded)[..., :height, :width]

    def pad_labels(self, labels: Tensor, *, ignore_index: int) -> Tensor:
        """Labels ``(B, H, W)`` of the padded image: ``ignore_index`` beyond the image.

        Raises:
            ValueError: If the labels do not have the image's size.
        """
        if tuple(labels.shape[-2:]) != self.image:
            raise ValueError(
                f"labels of {labels.shape[-2]}x{labels.shape[-1]} pixels for images of "
                f"{self.image[0]}x{self.image[1]}; a loss on masks needs labels of the images' size"
            )
        return _pad(labels, self.padded, ignore_index)


def pad_to_multiple(images: Tensor, unit: int) -> tuple[Tensor, Frame]:
    """Pad images with zeros at their bottom and right.

    Args:
        images: Normalised, ``(B, 3, H, W)``: zero is the mean colour.
        unit: Pixels that height and width will be multiples of.
    """
    height, width = images.shape[-2:]
    padded = (-(-height // unit) * unit, -(-width // unit) * unit)
    return _pad(images, padded, 0), Frame((height, width), padded)


def _pad(maps: Tensor, size: tuple[int, int], value: float) -> Tensor:
    bottom, right = size[0] - maps.shape[-2], size[1] - maps.shape[-1]
    return F.pad(maps, (0, right, 0, bottom), value=value) if bottom or right else maps
