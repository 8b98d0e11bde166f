"""Pyramid pooling (Zhao et al. 2017, PSPNet; the top of UPerNet's pyramid in Xiao et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.layers.conv_module import conv_bn_relu
from segsweep.models.layers.resize import resize_bilinear

DEFAULT_BINS = (1, 2, 3, 6)  # PSPNet, Sec. 3.2


class PyramidPooling(nn.Module):
    """Averages over grids of several sizes beside the input, merged by one 3x3 convolution.

    Args:
        in_channels: Width of the input.
        channels: Width of each pooled branch and of the output.
        bins: Cells a side of each grid.
    """

    def __init__(self, in_channels: int, *, channels: int, bins: Sequence[int] = DEFAULT_BINS) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.branches = nn.ModuleList(conv_bn_relu(in_channels, channels) for _ in self.bins)
        self.bottleneck = conv_bn_relu(in_channels + len(self.bins) * channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C_in, h, w) -> (B, channels, h, w)``."""
        size = (features.shape[-2], features.shape[-1])
        parts = [features]
        for cells, branch in zip(self.bins, self.branches, strict=True):
            parts.append(resize_bilinear(branch(F.adaptive_avg_pool2d(features, cells)), size))
        return self.bottleneck(torch.cat(parts, dim=1))  # type: ignore[no-any-return]
