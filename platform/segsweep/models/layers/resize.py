"""Resizing between pyramid levels; level l + 1 has ``ceil(n / 2)`` pixels where level l has n."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_bilinear(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear ``(B, C, h, w) -> (B, C, *size)``, corners not aligned; the same tensor if the size fits."""
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def resize_nearest(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest neighbour ``(B, C, h, w) -> (B, C, *size)``."""
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode="nearest")


def halve_max(features: Tensor) -> Tensor:
    """Max pooling 3x3, stride 2: ``(B, C, h, w) -> (B, C, ceil(h/2), ceil(w/2))``."""
    return F.max_pool2d(features, kernel_size=3, stride=2, padding=1)


def halve_average(features: Tensor) -> Tensor:
    """Average pooling 3x3, stride 2, padding left out: ``(B, C, h, w) -> (B, C, ceil(h/2), ceil(w/2))``."""
    return F.avg_pool2d(features, kernel_size=3, stride=2, padding=1, count_include_pad=False)
