"""UPerNet (Xiao et al. 2018): pyramid pooling on top, a top-down pyramid below, one fusion of all levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segsweep.models.context.ppm import PyramidPooling
from segsweep.models.heads.fcn import DROPOUT, Classifier
from segsweep.models.layers.conv_module import conv_bn_relu
from segsweep.models.layers.resize import resize_bilinear


class UperTopDown(nn.Module):
    """The pyramid under a given top: 1x1 laterals, bilinear top-down sum, a 3x3 convolution a level.

    Args:
        in_channels: Width of each level below the top.
        channels: Width of the top and of every level of the output.
    """

    def __init__(self, in_channels: Mapping[int, int], *, channels: int) -> None:
        super().__init__()
        self.levels = tuple(sorted(in_channels))
        self.laterals = nn.ModuleDict(
            {str(level): conv_bn_relu(in_channels[level], channels) for level in self.levels}
        )
        self.outputs = nn.ModuleDict(
            {str(level): conv_bn_relu(channels, channels, 3) for level in self.levels}
        )

    def forward(self, pyramid: dict[int, Tensor], top: Tensor) -> dict[int, Tensor]:
        """``{l: (B, C_l, h_l, w_l)}`` and top ``(B, C, h, w) -> {l: (B, C, h_l, w_l)}`` without the top."""
        outputs: dict[int, Tensor] = {}
        coarser = top
        for level in reversed(self.levels):
            lateral = self.laterals[str(level)](pyramid[level])
            coarser = lateral + resize_bilinear(coarser, (lateral.shape[-2], lateral.shape[-1]))
            outputs[level] = self.outputs[str(level)](coarser)
        return {level: outputs[level] for level in self.levels}


class UperPyramid(nn.Module):
    """Pyramid pooling on the top level and the top-down pyramid below it.

    The top of the output is the bottleneck of the pyramid pooling itself: no convolution follows there.

    Args:
        in_channels: Width of each level of the input.
        channels: Width of every level of the output.

    Attributes:
        channels: Width of each level of the output.
    """

    def __init__(self, in_channels: Mapping[int, int], *, channels: int) -> None:
        super().__init__()
        self.channels = dict.fromkeys(sorted(in_channels), channels)
        *below, self.top_level = self.channels
        self.pooling = PyramidPooling(in_channels[self.top_level], channels=channels)
        self.top_down = UperTopDown({level: in_channels[level] for level in below}, channels=channels)

    def forward(self, pyramid: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{l: (B, C_l, h_l, w_l)} -> {l: (B, C, h_l, w_l)}`` for the levels given at construction."""
        top = self.pooling(pyramid[self.top_level])
        return {**self.top_down(pyramid, top), self.top_level: top}


class UperFusion(nn.Module):
    """All levels enlarged to the finest, concatenated and merged by one 3x3 convolution.

    Args:
        levels: Levels of the pyramid.
        channels: Width of every level and of the output.
    """

    def __init__(self, levels: Sequence[int], *, channels: int) -> None:
        super().__init__()
        self.levels = tuple(sorted(levels))
        self.conv = conv_bn_relu(len(self.levels) * channels, channels, 3)

    def forward(self, pyramid: dict[int, Tensor]) -> Tensor:
        """``{l: (B, C, h_l, w_l)} -> (B, C, h, w)`` at the finest level."""
        finest = pyramid[self.levels[0]]
        size = (finest.shape[-2], finest.shape[-1])
        return self.conv(torch.cat([resize_bilinear(pyramid[level], size) for level in self.levels], dim=1))  # type: ignore[no-any-return]


class UperHead(nn.Module):
    """UPerNet's decoder: pyramid, fusion, classifier.

    Args:
        in_channels: Width of each level of the backbone.
        channels: Width of every level and of the fused features.
        num_classes: Number of classes.
        dropout: Probability that a channel is dropped in training.
    """

    def __init__(
        self, in_channels: Mapping[int, int], *, channels: int, num_classes: int, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.pyramid = UperPyramid(in_channels, channels=channels)
        self.fusion = UperFusion(tuple(in_channels), channels=channels)
        self.classifier = Classifier(channels, num_classes, dropout=dropout)

    def forward(self, pyramid: dict[int, Tensor]) -> Tensor:
        """``{l: (B, C_l, h_l, w_l)} -> (B, K, h, w)``, logits at the finest level."""
        return self.classifier(self.fusion(self.pyramid(pyramid)))  # type: ignore[no-any-return]
