"""Bi-directional feature pyramid (Tan et al. 2020, EfficientDet; as ESeg uses it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segsweep.models.layers.conv import Activation, activation_layer, batch_norm, conv, separable_conv
from segsweep.models.layers.resize import halve_max, resize_nearest

_FUSION_EPS = 1e-4  # EfficientDet, fast normalised fusion


class BiFPN(nn.Module):
    """Repeated top-down and bottom-up fusion over all levels.

    Args:
        in_channels: Width of each level of the input; levels are consecutive.
        channels: Width of every level of the output.
        repeats: Number of BiFPN layers.
        activation: Activation before each fusion convolution.

    Attributes:
        channels: Width of each level of the output.
    """

    def __init__(
        self,
        in_channels: Mapping[int, int],
        *,
        channels: int,
        repeats: int,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        levels = sorted(in_channels)
        self.channels = dict.fromkeys(levels, channels)
        # One lateral a level, shared by the top-down and the bottom-up node of that level: EfficientDet keeps
        # two for the inner levels, but then ESeg-S has 7.01 M parameters where the paper has 6.9 M.
        self.laterals = nn.ModuleDict(
            {str(level): _lateral(in_channels[level], channels) for level in levels}
        )
        self.layers = nn.ModuleList(_BiFPNLayer(levels, channels, activation) for _ in range(repeats))

    def forward(self, pyramid: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{l: (B, C_l, h_l, w_l)} -> {l: (B, C, h_l, w_l)}`` for the levels given at construction."""
        pyramid = {level: self.laterals[str(level)](pyramid[level]) for level in self.channels}
        for layer in self.layers:
            pyramid = layer(pyramid)
        return pyramid


def _lateral(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(conv(in_channels, channels, bias=True), batch_norm(channels))


class _BiFPNLayer(nn.Module):
    def __init__(self, levels: Sequence[int], channels: int, activation: Activation) -> None:
        super().__init__()
        self.levels = tuple(levels)
        low, *inner, high = levels
        self.top_down = nn.ModuleDict(
            {str(level): _Fusion(2, channels, activation) for level in (low, *inner)}
        )
        self.bottom_up = nn.ModuleDict(
            {str(level): _Fusion(3 if level < high else 2, channels, activation) for level in (*inner, high)}
        )

    def forward(self, inputs: dict[int, Tensor]) -> dict[int, Tensor]:
        low, high = self.levels[0], self.levels[-1]
        middle = {high: inputs[high]}  # top-down, P_td of EfficientDet
        for level in range(high - 1, low - 1, -1):
            middle[level] = self.top_down[str(level)]([inputs[level]], coarser=middle[level + 1])
        outputs = {low: middle[low]}  # bottom-up, P_out
        for level in range(low + 1, high + 1):
            same = [inputs[level], middle[level]] if level < high else [inputs[level]]
            outputs[level] = self.bottom_up[str(level)]([*same, halve_max(outputs[level - 1])])
        return outputs


class _Fusion(nn.Module):
    """Fast normalised fusion (EfficientDet, Sec. 3.3), activation, separable convolution, batch norm."""

    def __init__(self, num_inputs: int, channels: int, activation: Activation) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.activation = activation_layer(activation)
        self.conv = separable_conv(channels, channels, bias=True)

    def forward(self, same: list[Tensor], coarser: Tensor | None = None) -> Tensor:
        weights = self.weights.relu()
        weights = weights / (weights.sum() + _FUSION_EPS)
        fused = weights[0] * same[0]
        for weight, features in zip(weights[1:], same[1:], strict=False):
            fused = fused + weight * features
        if coarser is not None:
            # Weighted before it is enlarged: the same values from a quarter of the multiplications.
            fused = fused + resize_nearest(weights[-1] * coarser, (fused.shape[-2], fused.shape[-1]))
        return self.conv(self.activation(fused))  # type: ignore[no-any-return]
