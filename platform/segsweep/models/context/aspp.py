"""Atrous spatial pyramid pooling (Chen et al. 2017, DeepLabV3, Sec. 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segsweep.models.layers.conv_module import conv_bn_relu, separable_conv_bn_relu

DEFAULT_RATES = (6, 12, 18)  # DeepLabV3, Sec. 3.3, at output stride 16; doubled at 8


class ASPP(nn.Module):
    """A 1x1 convolution, one atrous 3x3 convolution for each rate and the image's mean, merged by a 1x1.

    Args:
        in_channels: Width of the input.
        channels: Width of each branch and of the output.
        rates: Distance of the taps of each atrous convolution in pixels.
        separable: Depthwise separable atrous convolutions (DeepLabV3+) instead of dense ones.
        dropout: Share of the output that is dropped in training.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int,
        rates: Sequence[int] = DEFAULT_RATES,
        separable: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pixel = conv_bn_relu(in_channels, channels)
        self.atrous = nn.ModuleList(
            separable_conv_bn_relu(in_channels, channels, dilation=rate)
            if separable
            else conv_bn_relu(in_channels, channels, 3, dilation=rate)
            for rate in rates
        )
        self.image = conv_bn_relu(in_channels, channels)
        self.merge = conv_bn_relu((len(rates) + 2) * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C_in, h, w) -> (B, channels, h, w)``."""
        parts = [self.pixel(features), *(branch(features) for branch in self.atrous)]
        image = self.image(features.mean((2, 3), keepdim=True))  # (B, channels, 1, 1)
        parts.append(image.expand(-1, -1, *features.shape[-2:]))
        return self.dropout(self.merge(torch.cat(parts, dim=1)))  # type: ignore[no-any-return]
