"""Self-attention over all pixels (Wang et al. 2018, non-local networks; as the baseline of CAR and HFGD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.context.output import ContextOutput
from segsweep.models.layers.conv_module import Projection, conv_bn_relu


class SelfAttention(nn.Module):
    """Single-head attention among all pixels, without scale, output projection and residual (CAR).

    Args:
        channels: Width of input and output.
        qk_channels: Width of queries and keys.
    """

    def __init__(self, channels: int, *, qk_channels: int = 64) -> None:
        super().__init__()
        self.query = Projection(channels, qk_channels)
        self.key = Projection(channels, qk_channels)
        self.value = Projection(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``; costs ``(h * w)**2`` products of each channel."""
        query, key, value = (
            layer(features).flatten(2).transpose(1, 2)[:, None]  # (B, 1, h * w, d)
            for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return torch.unflatten(attended[:, 0].transpose(1, 2), 2, features.shape[-2:])


class SelfAttentionContext(nn.Module):
    """3x3 convolution, self-attention with a residual, last convolution.

    Args:
        in_channels: Width of the input.
        channels: Width of the output.
        class_aware: CAR's variant: a linear map, on whose output the class-aware losses act, and a last
            convolution of 1x1 instead of 3x3.
        width: Width of the attention.
        qk_channels: Width of queries and keys.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int,
        class_aware: bool,
        width: int = 512,
        qk_channels: int = 64,
    ) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(in_channels, width, 3)
        self.attention = SelfAttention(width, qk_channels=qk_channels)
        self.class_linear = Projection(width, width) if class_aware else None
        self.merge = conv_bn_relu(width, channels, 1 if class_aware else 3)

    def forward(self, features: Tensor) -> ContextOutput:
        """``(B, C_in, h, w)`` to ``(B, channels, h, w)`` and, class-aware, ``(B, width, h, w)``."""
        features = self.reduce(features)
        features = features + self.attention(features)
        if self.class_linear is None:
            return ContextOutput(self.merge(features))
        class_features = self.class_linear(features)
        return ContextOutput(self.merge(class_features), class_features=class_features)
