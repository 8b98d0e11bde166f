"""Feature pyramid out of maps of one stride, by transposed convolutions and pooling (BEiT's UPerNet)."""

from __future__ import annotations

from torch import Tensor, nn

from segsweep.models.necks.multi_level import LEVELS


class FeaturePyramid(nn.Module):
    """Levels 2 to 5 of four maps of stride 16: enlarged four and two times, as it is, max-pooled.

    Args:
        channels: Width of every map of input and output.

    Attributes:
        channels: Width of each level of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = dict.fromkeys(LEVELS, channels)
        self.up4 = nn.Sequential(_Double(channels), nn.BatchNorm2d(channels), nn.GELU(), _Double(channels))
        self.up2 = _Double(channels)
        self.down2 = nn.MaxPool2d(2, 2)

    def forward(self, maps: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{l: (B, C, H / 16, W / 16)} -> {l: (B, C, H / 2**l, W / 2**l)}``; H and W divisible by 32."""
        return {2: self.up4(maps[2]), 3: self.up2(maps[3]), 4: maps[4], 5: self.down2(maps[5])}


class _Double(nn.ConvTranspose2d):
    """``(B, C, h, w) -> (B, C, 2 h, 2 w)``: every pixel becomes 2x2."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 2, 2)

    def reset_parameters(self) -> None:
        """Draw new weights; nothing on the meta device, where drawing would import torch._dynamo (1.3 s)."""
        if not self.weight.is_meta:
            super().reset_parameters()
