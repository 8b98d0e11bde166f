"""HFGD's class-aware encoder: wide 1x1 convolutions, self-attention and CAR's linear map."""

from __future__ import annotations

from torch import Tensor, nn

from segsweep.models.context.output import ContextOutput
from segsweep.models.context.self_attention import SelfAttention
from segsweep.models.layers.conv_module import Projection, conv_bn_relu


class ClassAwareEncoder(nn.Module):
    """Widen, reduce, attend with a residual, map linearly (the class-aware losses act here), merge.

    The linear map has neither norm nor activation, so at inference it could be folded into the last
    convolution.

    Args:
        in_channels: Width of the input.
        channels: Width of the output.
        wide_channels: Width of the first convolution (HFGD: 2048 for every backbone).
        wide_kernel: Kernel size of the first convolution; HFGD found 1 better than 3.
        width: Width of attention and class features.
        qk_channels: Width of queries and keys.
        attention: Whether there is self-attention at all.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int,
        wide_channels: int = 2048,
        wide_kernel: int = 1,
        width: int = 512,
        qk_channels: int = 64,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.widen = conv_bn_relu(in_channels, wide_channels, wide_kernel)
        self.reduce = conv_bn_relu(wide_channels, width)
        self.attention = SelfAttention(width, qk_channels=qk_channels) if attention else None
        self.class_linear = Projection(width, width)
        self.merge = conv_bn_relu(width, channels)

    def forward(self, features: Tensor) -> ContextOutput:
        """``(B, C_in, h, w)`` to ``(B, channels, h, w)`` and class features ``(B, width, h, w)``."""
        features = self.reduce(self.widen(features))
        if self.attention is not None:
            features = features + self.attention(features)
        class_features = self.class_linear(features)
        return ContextOutput(self.merge(class_features), class_features=class_features)
