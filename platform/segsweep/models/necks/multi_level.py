"""Multi-level neck: a pyramid out of maps of one stride (mmsegmentation, for SETR and UPerNet on ViT)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segsweep.models.layers.conv_module import Projection
from segsweep.models.layers.resize import resize_bilinear
from segsweep.models.layers.vit_block import PatchConv2d

STRIDE_LEVEL = 4  # the input has stride 16
LEVELS = (2, 3, 4, 5)


class MultiLevelNeck(nn.Module):
    """For each level a 1x1 convolution, bilinear resizing and a 3x3 convolution, without norms.

    Args:
        channels: Width of every map of input and output.
        levels: Levels of the output, one for each map of the input.

    Attributes:
        channels: Width of each level of the output.
    """

    def __init__(self, channels: int, *, levels: Sequence[int] = LEVELS) -> None:
        super().__init__()
        self.channels = dict.fromkeys(levels, channels)
        names = [str(level) for level in levels]
        self.laterals = nn.ModuleDict({name: Projection(channels, channels) for name in names})
        self.outputs = nn.ModuleDict({name: PatchConv2d(channels, channels, 3, padding=1) for name in names})

    def forward(self, maps: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{l: (B, C, H / 16, W / 16)} -> {l: (B, C, H / 2**l, W / 2**l)}``; H and W divisible by 32."""
        pyramid = {}
        for level, features in maps.items():
            size = resized_size((features.shape[-2], features.shape[-1]), level)
            lateral = self.laterals[str(level)](features)
            pyramid[level] = self.outputs[str(level)](resize_bilinear(lateral, size))
        return pyramid


def resized_size(size: tuple[int, int], level: int) -> tuple[int, int]:
    """Pixels of a level where stride 16 has ``size``."""
    if level <= STRIDE_LEVEL:
        factor: int = 2 ** (STRIDE_LEVEL - level)
        return size[0] * factor, size[1] * factor
    return size[0] >> (level - STRIDE_LEVEL), size[1] >> (level - STRIDE_LEVEL)
