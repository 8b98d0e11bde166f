"""MaskFormer's pixel decoder (Cheng et al. 2021, Sec. 4.1): one map of mask features at stride 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from segsweep.models.layers.attention import FeedForward, MultiHeadAttention
from segsweep.models.layers.resize import resize_nearest
from segsweep.models.layers.sine_position import sine_positions

GROUPS = 32  # of every group norm; divides the width


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    """Size of a transformer's layers, encoder or decoder.

    Attributes:
        channels: Width.
        num_heads: Attention heads; divides ``channels``.
        hidden: Width between the layers of the feed-forward network.
        dropout: In attention weights, feed-forward network and every residual branch, in training.
        num_layers: Layers.
    """

    channels: int = 256
    num_heads: int = 8
    hidden: int = 2048
    dropout: float = 0.1
    num_layers: int = 6


class FanInConv2d(nn.Conv2d):
    """Convolution with uniform weights of variance 1 / fan-in and zero biases (Caffe2's Xavier fill).

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel: Odd kernel size.
        bias: Whether a bias is added.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)

    def reset_parameters(self) -> None:
        """Draw new weights; nothing on the meta device, where drawing would import torch._dynamo (1.3 s)."""
        if self.weight.is_meta:
            return
        nn.init.kaiming_uniform_(self.weight, a=1)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class PixelDecoder(nn.Module):
    """A top-down pyramid that ends in mask features; optionally a transformer encoder on its top level.

    Args:
        in_channels: Width of each level of the backbone.
        channels: Width of the pyramid and of the mask features, a multiple of 32.
        encoder: Transformer encoder of width ``channels``; ``None`` for none.

    Attributes:
        channels: Width of each level of the output: mask features, and what a query decoder reads.
    """

    def __init__(
        self, in_channels: Mapping[int, int], *, channels: int, encoder: TransformerShape | None = None
    ) -> None:
        super().__init__()
        *self.laterals_of, self.top_level = sorted(in_channels)
        top_channels = in_channels[self.top_level]
        self.encoder = None if encoder is None else TransformerEncoder(top_channels, shape=encoder)
        top_channels = top_channels if encoder is None else encoder.channels
        self.channels = {self.laterals_of[0]: channels, self.top_level: top_channels}
        self.top = _conv_norm_relu(top_channels, channels)
        self.laterals = nn.ModuleDict(
            {
                str(level): nn.Sequential(
                    FanInConv2d(in_channels[level], channels, bias=False), nn.GroupNorm(GROUPS, channels)
                )
                for level in self.laterals_of
            }
        )
        self.outputs = nn.ModuleDict(
            {str(level): _conv_norm_relu(channels, channels) for level in self.laterals_of}
        )
        self.mask_features = FanInConv2d(channels, channels, 3)

    def forward(self, pyramid: dict[int, Tensor]) -> dict[int, Tensor]:
        """Mask features and the map that queries attend to.

        Args:
            pyramid: ``{l: (B, C_l, h_l, w_l)}`` of the backbone.

        Returns:
            ``{2: (B, C, h_2, w_2)}``, the mask features, and ``{5: ...}``, the encoder's output or, without
            one, the backbone's top level as it came.
        """
        memory = pyramid[self.top_level]
        if self.encoder is not None:
            memory = self.encoder(memory)
        features = self.top(memory)
        for level in reversed(self.laterals_of):
            lateral = self.laterals[str(level)](pyramid[level])
            size = (lateral.shape[-2], lateral.shape[-1])
            features = self.outputs[str(level)](lateral + resize_nearest(features, size))
        return {self.laterals_of[0]: self.mask_features(features), self.top_level: memory}


class TransformerEncoder(nn.Module):
    """A 1x1 convolution and layers of self-attention over all positions of a map.

    Args:
        in_channels: Width of the input.
        shape: Size of the layers and width of the output.
    """

    def __init__(self, in_channels: int, *, shape: TransformerShape) -> None:
        super().__init__()
        self.project = FanInConv2d(in_channels, shape.channels)
        self.layers = nn.ModuleList(_EncoderLayer(shape) for _ in range(shape.num_layers))

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C_in, h, w) -> (B, C, h, w)``."""
        features = self.project(features)
        positions = sine_positions(features)
        tokens = features.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, positions)
        return tokens.transpose(1, 2).reshape(features.shape)


class _EncoderLayer(nn.Module):
    """Self-attention and feed-forward network, each followed by a layer norm."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(shape.channels, shape.num_heads, dropout=shape.dropout)
        self.norm1 = nn.LayerNorm(shape.channels)
        self.feed_forward = FeedForward(shape.channels, shape.hidden, dropout=shape.dropout)
        self.norm2 = nn.LayerNorm(shape.channels)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """``(B, n, C)`` and ``(1, n, C) -> (B, n, C)``."""
        placed = tokens + positions
        tokens = self.norm1(tokens + self.dropout(self.attention(placed, placed, tokens)))
        return self.norm2(tokens + self.dropout(self.feed_forward(tokens)))  # type: ignore[no-any-return]


def _conv_norm_relu(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        FanInConv2d(in_channels, channels, 3, bias=False),
        nn.GroupNorm(GROUPS, channels),
        nn.ReLU(inplace=True),
    )
