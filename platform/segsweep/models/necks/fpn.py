"""Feature pyramid network (Lin et al. 2017; as in the ablation of ESeg, Table 2)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from segsweep.models.layers.conv import batch_norm, conv
from segsweep.models.layers.resize import resize_nearest


class FPN(nn.Module):
    """Lateral 1x1 convolutions, top-down sum, one dense 3x3 convolution a level; batch norm, no activation.

    Args:
        in_channels: Width of each level of the input; levels are consecutive.
        channels: Width of every level of the output.

    Attributes:
        channels: Width of each level of the output.
    """

    def __init__(self, in_channels: Mapping[int, int], *, channels: int) -> None:
        super().__init__()
        self.channels = dict.fromkeys(sorted(in_channels), channels)
        self.laterals = nn.ModuleDict(
            {str(level): _lateral(in_channels[level], channels) for level in self.channels}
        )
        self.outputs = nn.ModuleDict({str(level): _smoothing(channels) for level in self.channels})

    def forward(self, pyramid: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{l: (B, C_l, h_l, w_l)} -> {l: (B, C, h_l, w_l)}`` for the levels given at construction."""
        merged = {level: self.laterals[str(level)](pyramid[level]) for level in self.channels}
        for level in sorted(merged, reverse=True)[1:]:
            size = (merged[level].shape[-2], merged[level].shape[-1])
            merged[level] = merged[level] + resize_nearest(merged[level + 1], size)
        return {level: self.outputs[str(level)](merged[level]) for level in self.channels}


def _lateral(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(conv(in_channels, channels, bias=True), batch_norm(channels))


def _smoothing(channels: int) -> nn.Sequential:
    return nn.Sequential(conv(channels, channels, 3), batch_norm(channels))
