"""Decoder of DeepLabV3+ (Chen et al. 2018, Sec. 3.1)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from segsweep.models.layers.conv_module import Classifier, conv_bn_relu, separable_conv_bn_relu
from segsweep.models.layers.resize import resize_bilinear

LOW_LEVEL_CHANNELS = 48  # DeepLabV3+, Table 1


class DeepLabDecoder(nn.Module):
    """Narrowed low-level features beside the enlarged context, refined by 3x3 convolutions.

    Args:
        low_level_in_channels: Width of the backbone's low-level features.
        context_channels: Width of the encoded context.
        channels: Width of the output.
        low_level_channels: Width that the low-level features are narrowed to.
        num_convs: Number of 3x3 convolutions, 1 or more (DeepLabV3+: 2).
        separable: Depthwise separable convolutions instead of dense ones.
    """

    def __init__(
        self,
        low_level_in_channels: int,
        context_channels: int,
        *,
        channels: int = 256,
        low_level_channels: int = LOW_LEVEL_CHANNELS,
        num_convs: int = 2,
        separable: bool = True,
    ) -> None:
        super().__init__()
        self.low_level = conv_bn_relu(low_level_in_channels, low_level_channels)
        widths = [context_channels + low_level_channels, *[channels] * num_convs]
        self.convs = nn.Sequential(
            *(
                separable_conv_bn_relu(inside, outside) if separable else conv_bn_relu(inside, outside, 3)
                for inside, outside in pairwise(widths)
            )
        )

    def forward(self, low_level: Tensor, context: Tensor) -> Tensor:
        """Refine the context at the size of the low-level features.

        Args:
            low_level: ``(B, C_low, h, w)``, level 2 of the backbone.
            context: ``(B, C_context, h', w')``, ASPP of level 5.

        Returns:
            ``(B, channels, h, w)``.
        """
        narrow = self.low_level(low_level)
        context = resize_bilinear(context, (low_level.shape[-2], low_level.shape[-1]))
        return self.convs(torch.cat([context, narrow], dim=1))  # type: ignore[no-any-return]


class DeepLabHead(nn.Module):
    """Context of the coarsest level, decoder and linear classifier.

    Args:
        context: Module ``(B, C, h, w) -> (B, C_context, h, w)`` such as ``ASPP``.
        decoder: Decoder of ``channels`` channels.
        channels: Width of the decoder's output.
        num_classes: Number of classes.
        levels: Low level, whose stride the logits have, and the level of the context.
    """

    def __init__(
        self,
        context: nn.Module,
        decoder: DeepLabDecoder,
        *,
        channels: int,
        num_classes: int,
        levels: tuple[int, int] = (2, 5),
    ) -> None:
        super().__init__()
        self.context = context
        self.decoder = decoder
        self.classifier = Classifier(channels, num_classes)
        self.levels = levels

    def forward(self, pyramid: dict[int, Tensor]) -> Tensor:
        """``{l: (B, C_l, h_l, w_l)} -> (B, K, h, w)``, logits at the low level."""
        low, high = self.levels
        features = self.decoder(pyramid[low], self.context(pyramid[high]))
        return self.classifier(features)  # type: ignore[no-any-return]
