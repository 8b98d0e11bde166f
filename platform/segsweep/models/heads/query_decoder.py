"""The transformer decoder of MaskFormer (Cheng et al. 2021, Sec. 3.4): learned queries read the top level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segsweep.models.layers.attention import FeedForward, MultiHeadAttention
from segsweep.models.layers.sine_position import sine_positions
from segsweep.models.necks.pixel_decoder import FanInConv2d, TransformerShape


class QueryDecoder(nn.Module):
    """Layers in which queries attend to each other and to the positions of a map.

    Every state that leaves the decoder passes one layer norm that all layers share; what the next layer reads
    does not.

    Args:
        in_channels: Width of the map.
        num_queries: Q.
        shape: Size of the layers.
        self_attention: Whether queries attend to each other; without, its layer norm is gone too.
        project: Whether a 1x1 convolution brings the map to the width of the layers.

    Raises:
        ValueError: If the map is not projected and has another width.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_queries: int,
        shape: TransformerShape,
        self_attention: bool = True,
        project: bool = True,
    ) -> None:
        super().__init__()
        if not project and in_channels != shape.channels:
            raise ValueError(
                f"a map of width {in_channels} for a decoder of width {shape.channels}; use project=True"
            )
        self.project = FanInConv2d(in_channels, shape.channels) if project else nn.Identity()
        self.queries = nn.Parameter(torch.empty(num_queries, shape.channels))
        if not self.queries.is_meta:
            nn.init.normal_(self.queries)
        self.layers = nn.ModuleList(
            _DecoderLayer(shape, self_attention=self_attention) for _ in range(shape.num_layers)
        )
        self.norm = nn.LayerNorm(shape.channels)

    def forward(self, features: Tensor, *, every_layer: bool) -> list[Tensor]:
        """States of the queries, normalised.

        Args:
            features: ``(B, C_in, h, w)``.
            every_layer: Whether those after each layer are wanted, and not only after the last.

        Returns:
            ``(B, Q, C)`` of each wanted layer.
        """
        features = self.project(features)
        positions = sine_positions(features)
        values = features.flatten(2).transpose(1, 2)
        keys = values + positions
        places = self.queries.to(keys.dtype).expand(len(keys), -1, -1)
        states = torch.zeros_like(places)
        wanted = []
        for index, layer in enumerate(self.layers):
            states = layer(states, places, keys, values)
            if every_layer or index == len(self.layers) - 1:
                wanted.append(self.norm(states))
        return wanted


class _DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward network, each followed by a layer norm."""

    def __init__(self, shape: TransformerShape, *, self_attention: bool) -> None:
        super().__init__()
        channels, heads = shape.channels, shape.num_heads
        self.attention = (
            MultiHeadAttention(channels, heads, dropout=shape.dropout) if self_attention else None
        )
        self.norm1 = nn.LayerNorm(channels) if self_attention else None
        self.cross_attention = MultiHeadAttention(channels, heads, dropout=shape.dropout)
        self.norm2 = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, shape.hidden, dropout=shape.dropout)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor, places: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """States and places of the queries ``(B, Q, C)``, keys and values of the map ``(B, n, C)``."""
        if self.attention is not None and self.norm1 is not None:
            placed = states + places
            states = self.norm1(states + self.dropout(self.attention(placed, placed, states)))
        states = self.norm2(states + self.dropout(self.cross_attention(states + places, keys, values)))
        return self.norm3(states + self.dropout(self.feed_forward(states)))  # type: ignore[no-any-return]
