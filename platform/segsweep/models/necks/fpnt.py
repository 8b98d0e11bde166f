"""Feature pyramid with a window transformer on every level (Bousselham et al. 2021, SenFormer, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from segsweep.models.layers.resize import resize_nearest
from segsweep.models.layers.window_attention import WindowBlock

FPNTKind = Literal["fpnt", "fpn", "none"]


class FPNT(nn.Module):
    """Lateral 1x1 convolutions, top-down sum, one window-transformer block a level, the coarsest included.

    The paper's equation leaves the coarsest level without a block; its code and its parameter counts have
    one there.

    Args:
        in_channels: Width of each level of the input; levels are consecutive.
        channels: Width of every level of the output.
        window: Side of a window in tokens.
        num_heads: Attention heads; divides ``channels``.
        kind: ``fpnt``; ``fpn`` has a 3x3 convolution in place of each block; ``none`` has the laterals only,
            without the top-down sum (SenFormer, Table 3).

    Attributes:
        channels: Width of each level of the output.
    """

    def __init__(
        self,
        in_channels: Mapping[int, int],
        *,
        channels: int = 512,
        window: int = 7,
        num_heads: int = 8,
        kind: FPNTKind = "fpnt",
    ) -> None:
        super().__init__()
        self.channels = dict.fromkeys(sorted(in_channels), channels)
        self.top_down = kind != "none"
        self.laterals = nn.ModuleDict(
            {str(level): _XavierConv2d(in_channels[level], channels, 1) for level in self.channels}
        )
        self.outputs = nn.ModuleDict(
            {str(level): _output(channels, window, num_heads, kind) for level in self.channels}
        )

    def forward(self, pyramid: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{l: (B, C_l, h_l, w_l)} -> {l: (B, C, h_l, w_l)}`` for the levels given at construction."""
        merged = {level: self.laterals[str(level)](pyramid[level]) for level in self.channels}
        if self.top_down:
            for level in sorted(merged, reverse=True)[1:]:
                size = (merged[level].shape[-2], merged[level].shape[-1])
                merged[level] = merged[level] + resize_nearest(merged[level + 1], size)
        return {level: self.outputs[str(level)](merged[level]) for level in self.channels}


class _XavierConv2d(nn.Conv2d):
    """Convolution with Xavier-uniform weights and zero bias, as the necks of mmsegmentation."""

    def reset_parameters(self) -> None:
        """Draw new weights; nothing on the meta device, where drawing would import torch._dynamo (1.3 s)."""
        if self.weight.is_meta:
            return
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class _WindowTransformer(nn.Module):
    """One block without shift on a map of features."""

    def __init__(self, channels: int, window: int, num_heads: int) -> None:
        super().__init__()
        self.block = WindowBlock(channels, num_heads, window=window)
        nn.init.zeros_(self.block.attn.relative_position_bias_table)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        return self.block(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def _output(channels: int, window: int, num_heads: int, kind: FPNTKind) -> nn.Module:
    if kind == "fpnt":
        return _WindowTransformer(channels, window, num_heads)
    if kind == "fpn":
        return _XavierConv2d(channels, channels, 3, padding=1)
    return nn.Identity()
