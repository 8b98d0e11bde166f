"""Decoders by name, without their classifier: a pyramid and a semantic feature in, one fine feature out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from segsweep.models.heads.deeplab import DeepLabDecoder
from segsweep.models.heads.fapn import FaPN
from segsweep.models.heads.semantic_fpn import SemanticFPN
from segsweep.models.heads.uper import UperFusion, UperTopDown

UpsamplerKind = Literal["none", "sfpn", "usfpn", "fapn", "uper", "deeplab"]

_LOW_LEVEL = 2  # where DeepLabV3+ takes its details from


def build_upsampler(
    kind: UpsamplerKind, in_channels: Mapping[int, int], *, channels: int, output_stride: Literal[4, 2] = 4
) -> nn.Module | None:
    """Make a decoder.

    Args:
        kind: ``usfpn`` and ``sfpn`` (``SemanticFPN``), ``fapn``, ``uper``, ``deeplab``, or ``none``.
        in_channels: Width of each backbone level under the top, ``{2: C_2, 3: C_3, 4: C_4}``.
        channels: Width of the semantic feature on top and of the output.
        output_stride: Stride of the output; 2 only for the first three.

    Returns:
        Module ``(pyramid, top, size=(h, w)) -> (B, channels, h, w)``; ``None`` for ``none``.
    """
    if kind == "none":
        return None
    if kind == "uper":
        return UperUpsampler(in_channels, channels=channels)
    if kind == "deeplab":
        return DeepLabUpsampler(in_channels, channels=channels)
    if kind == "fapn":
        return FaPN(in_channels, top_channels=channels, channels=channels, output_stride=output_stride)
    return SemanticFPN(
        in_channels,
        top_channels=channels,
        channels=channels,
        lateral_kernel=3 if kind == "usfpn" else 1,
        output_stride=output_stride,
    )


class UperUpsampler(nn.Module):
    """UPerNet (Xiao et al. 2018) under a given top: the fused feature that it would classify.

    Args:
        in_channels: Width of each backbone level below the top.
        channels: Width of the top and of the output.
    """

    def __init__(self, in_channels: Mapping[int, int], *, channels: int) -> None:
        super().__init__()
        self.top_level = max(in_channels) + 1
        self.top_down = UperTopDown(in_channels, channels=channels)
        self.fusion = UperFusion((*in_channels, self.top_level), channels=channels)

    def forward(
        self, pyramid: Mapping[int, Tensor], top: Tensor, *, size: tuple[int, int] | None = None
    ) -> Tensor:
        """``(B, channels, h, w)`` at the finest level, whatever the ``size``."""
        merged = self.top_down(dict(pyramid), top)
        return self.fusion({**merged, self.top_level: top})  # type: ignore[no-any-return]


class DeepLabUpsampler(nn.Module):
    """DeepLabV3+'s decoder (Chen et al. 2018) under a given top: the feature that it would classify.

    Args:
        in_channels: Width of each backbone level; only level 2 is used.
        channels: Width of the top and of the output.
    """

    def __init__(self, in_channels: Mapping[int, int], *, channels: int) -> None:
        super().__init__()
        self.decoder = DeepLabDecoder(in_channels[_LOW_LEVEL], channels, channels=channels)

    def forward(
        self, pyramid: Mapping[int, Tensor], top: Tensor, *, size: tuple[int, int] | None = None
    ) -> Tensor:
        """``(B, channels, h, w)`` at level 2, whatever the ``size``."""
        return self.decoder(pyramid[_LOW_LEVEL], top)  # type: ignore[no-any-return]
