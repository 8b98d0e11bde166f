"""FaPN (Huang et al. 2021): a pyramid whose upper level is aligned to the lower one before they are added."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from segsweep.models.heads.semantic_fpn import SemanticMerge, spatial_size
from segsweep.models.layers.conv import conv
from segsweep.models.layers.conv_module import Projection, conv_bn_relu
from segsweep.models.layers.deform_conv import DeformConv2d
from segsweep.models.layers.resize import resize_bilinear

_OFFSET_GROUPS = 8  # FaPN, its modulated deformable convolution
_OFFSET_STD = 0.01


class FaPN(nn.Module):
    """Feature-aligned pyramid under a semantic feature, merged as in Semantic FPN.

    Args:
        in_channels: Width of each backbone level below the top, levels consecutive (2, 3, 4).
        top_channels: Width of the semantic feature that stands one level above.
        channels: Width inside and of the output.
        output_stride: 4, or 2 as in ``SemanticFPN``.
    """

    def __init__(
        self,
        in_channels: Mapping[int, int],
        *,
        top_channels: int,
        channels: int = 256,
        output_stride: Literal[4, 2] = 4,
    ) -> None:
        super().__init__()
        self.levels = tuple(sorted(in_channels))
        self.top = nn.Identity() if top_channels == channels else conv_bn_relu(top_channels, channels)
        self.selections = nn.ModuleDict(
            {str(level): FeatureSelection(in_channels[level], channels) for level in self.levels}
        )
        self.alignments = nn.ModuleDict({str(level): FeatureAlignment(channels) for level in self.levels})
        self.merge = SemanticMerge(
            (*self.levels, self.levels[-1] + 1), channels=channels, output_stride=output_stride
        )

    def forward(
        self, pyramid: Mapping[int, Tensor], top: Tensor, *, size: tuple[int, int] | None = None
    ) -> Tensor:
        """Align and merge; arguments and result as in ``SemanticFPN``."""
        merged = {self.levels[-1] + 1: self.top(top)}
        for level in reversed(self.levels):
            selected = self.selections[str(level)](pyramid[level])
            upper = resize_bilinear(merged[level + 1], spatial_size(selected))
            merged[level] = selected + self.alignments[str(level)](selected, upper)
        return self.merge(merged, size=size)  # type: ignore[no-any-return]


class FeatureSelection(nn.Module):
    """FaPN's FSM: channels are weighed by a gate of the image's mean, kept beside themselves, then reduced.

    Args:
        in_channels: Width of the input.
        channels: Width of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        # With bias and without norm: batch norm of single pixels would fail for a batch of one image.
        self.gate = Projection(in_channels, in_channels)
        self.reduce = nn.Sequential(conv(in_channels, channels), nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        """``(B, in_channels, h, w) -> (B, channels, h, w)``."""
        importance = self.gate(features.mean((2, 3), keepdim=True)).sigmoid()
        return self.reduce(features + features * importance)  # type: ignore[no-any-return]


class FeatureAlignment(nn.Module):
    """FaPN's FAM: the upper level, resized, is read where offsets from both levels point to.

    Args:
        channels: Width of both levels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.difference = nn.Sequential(conv(2 * channels, channels), nn.BatchNorm2d(channels))
        self.sample = DeformConv2d(channels, channels, offset_groups=math.gcd(_OFFSET_GROUPS, channels))
        self.offsets = conv(channels, self.sample.num_offsets, 3, bias=True)
        self.modulation = conv(channels, self.sample.num_modulations, 3, bias=True)
        _start_near_zero(self.offsets)
        _start_near_zero(self.modulation)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, selected: Tensor, upper: Tensor) -> Tensor:
        """Lower level and resized upper level, both ``(B, channels, h, w)`` -> the upper one, aligned."""
        difference = self.difference(torch.cat([selected, 2 * upper], dim=1))
        modulation = self.modulation(difference).sigmoid()
        aligned = self.sample(upper, self.offsets(difference), modulation)
        return self.activation(aligned)  # type: ignore[no-any-return]


def _start_near_zero(layer: nn.Conv2d) -> None:
    """Begin as nearly a plain convolution (Zhu et al. 2019: exactly so, which starves the layers before)."""
    if layer.weight.is_meta:
        return
    nn.init.normal_(layer.weight, std=_OFFSET_STD)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
