"""Semantic FPN (Kirillov et al. 2019) and HFGD's U-SFPN, up to the feature that is classified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from torch import Tensor, nn

from segsweep.models.layers.conv_module import conv_bn_relu
from segsweep.models.layers.resize import resize_bilinear


class SemanticFPN(nn.Module):
    """Top-down pyramid under a semantic feature, then branches that are enlarged and added up.

    Lateral 3x3 convolutions make it HFGD's U-SFPN, 1x1 convolutions the ordinary SemanticFPN (Huang et al.,
    HFGD, section on the upsampler). Every convolution is followed by batch norm and ReLU.

    Args:
        in_channels: Width of each backbone level below the top, levels consecutive (2, 3, 4).
        top_channels: Width of the semantic feature that stands one level above; it has no lateral if it is
            ``channels`` wide.
        channels: Width inside and of the output.
        lateral_kernel: 3 (U-SFPN) or 1 (SFPN).
        output_stride: 4, or 2 with one more convolution and enlargement on every branch.
    """

    def __init__(
        self,
        in_channels: Mapping[int, int],
        *,
        top_channels: int,
        channels: int = 256,
        lateral_kernel: Literal[1, 3] = 3,
        output_stride: Literal[4, 2] = 4,
    ) -> None:
        super().__init__()
        self.levels = tuple(sorted(in_channels))
        self.laterals = nn.ModuleDict(
            {str(level): conv_bn_relu(in_channels[level], channels, lateral_kernel) for level in self.levels}
        )
        self.top = nn.Identity() if top_channels == channels else conv_bn_relu(top_channels, channels)
        self.merge = SemanticMerge(
            (*self.levels, self.levels[-1] + 1), channels=channels, output_stride=output_stride
        )

    def forward(
        self, pyramid: Mapping[int, Tensor], top: Tensor, *, size: tuple[int, int] | None = None
    ) -> Tensor:
        """Merge a pyramid under its semantic feature.

        Args:
            pyramid: ``{l: (B, C_l, h_l, w_l)}`` with the levels given at construction; others are left alone.
            top: ``(B, top_channels, h, w)``.
            size: Height and width of the output at output stride 2, ``ceil(H / 2), ceil(W / 2)``; without it
                twice the finest level.

        Returns:
            ``(B, channels, h_2, w_2)`` at the finest level, or ``(B, channels, *size)`` at output stride 2.
        """
        merged = {self.levels[-1] + 1: self.top(top)}
        for level in reversed(self.levels):
            lateral = self.laterals[str(level)](pyramid[level])
            merged[level] = lateral + resize_bilinear(merged[level + 1], spatial_size(lateral))
        return self.merge(merged, size=size)  # type: ignore[no-any-return]


class SemanticMerge(nn.Module):
    """Semantic FPN's merge: each level is convolved and enlarged step by step to the finest, then summed.

    Each enlargement follows a 3x3 convolution and goes to the size of the next finer level. HFGD adds
    branches of 256 channels, where Kirillov et al. have 128, and has one 1x1 convolution on the sum.

    Args:
        levels: Consecutive levels, finest first.
        channels: Width of every level and of the output.
        output_stride: Stride of the output, ``2**levels[0]`` or half of it.
    """

    def __init__(self, levels: tuple[int, ...], *, channels: int, output_stride: int) -> None:
        super().__init__()
        finest = levels[0]
        if output_stride not in {2**finest, 2 ** (finest - 1)}:
            raise ValueError(
                f"output_stride={output_stride} is neither that of the finest level ({2**finest}) nor half "
                f"of it ({2 ** (finest - 1)}); use one of them"
            )
        self.halves = output_stride < 2**finest
        self.finest = finest
        self.branches = nn.ModuleDict(
            {
                str(level): nn.ModuleList(conv_bn_relu(channels, channels, 3) for _ in self._targets(level))
                for level in levels
            }
        )
        self.fuse = conv_bn_relu(channels, channels)

    def _targets(self, level: int) -> list[int]:
        """Level whose size each convolution of a branch is enlarged to."""
        steps = list(range(level - 1, self.finest - 1, -1)) or [self.finest]
        return [*steps, self.finest - 1] if self.halves else steps

    def forward(self, pyramid: Mapping[int, Tensor], *, size: tuple[int, int] | None = None) -> Tensor:
        """``{l: (B, channels, h_l, w_l)} -> (B, channels, h, w)``; ``size`` as in ``SemanticFPN``."""
        sizes = {level: spatial_size(features) for level, features in pyramid.items()}
        height, width = sizes[self.finest]
        sizes[self.finest - 1] = size or (2 * height, 2 * width)
        enlarged = [self._enlarge(level, pyramid[level], sizes) for level in map(int, self.branches)]
        total = enlarged[0]
        for branch in enlarged[1:]:
            total = total + branch
        return self.fuse(total)  # type: ignore[no-any-return]

    def _enlarge(self, level: int, features: Tensor, sizes: Mapping[int, tuple[int, int]]) -> Tensor:
        branch = cast(nn.ModuleList, self.branches[str(level)])
        for convolution, target in zip(branch, self._targets(level), strict=True):
            features = resize_bilinear(convolution(features), sizes[target])
        return features


def spatial_size(features: Tensor) -> tuple[int, int]:
    """Height and width of ``(B, C, h, w)``."""
    return features.shape[-2], features.shape[-1]
