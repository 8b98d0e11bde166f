"""Coarser levels than the backbone has, by pooling (ESeg: P6 to P9)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from segsweep.models.layers.resize import halve_average


class PooledLevels(nn.Module):
    """Add levels above the backbone's top by repeated 3x3 average pooling: no parameters, same width.

    Args:
        in_channels: Width of each level of the backbone.
        top_level: Coarsest level to make.

    Attributes:
        channels: Width of each level of the output.
    """

    def __init__(self, in_channels: Mapping[int, int], *, top_level: int) -> None:
        super().__init__()
        self.top_level = top_level
        top = max(in_channels)
        pooled = dict.fromkeys(range(top + 1, top_level + 1), in_channels[top])
        self.channels = dict(in_channels) | pooled

    def forward(self, pyramid: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{2: ..., 5: (B, C5, h, w)} -> {2: ..., 5: ..., 6: (B, C5, ceil(h/2), ceil(w/2)), ...}``."""
        pyramid = dict(pyramid)
        for level in range(max(pyramid) + 1, self.top_level + 1):
            pyramid[level] = halve_average(pyramid[level - 1])
        return pyramid
