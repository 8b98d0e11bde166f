"""Attention, feed-forward network and their initial weights as DETR's transformer has them."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

_PACKED_GAIN = math.sqrt(0.5)  # Xavier's bound of a (3 C, C) matrix: query, key and value drawn as one


class PlainLinear(nn.Linear):
    """``nn.Linear`` that draws nothing on the meta device, where that would import torch._dynamo (1.3 s)."""

    def reset_parameters(self) -> None:
        """PyTorch's default initialisation."""
        if not self.weight.is_meta:
            super().reset_parameters()


class XavierLinear(PlainLinear):
    """Linear layer with Xavier-uniform weights.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        gain: Factor on the bound of the weights.
        zero_bias: Whether biases start at zero, and not as PyTorch draws them.
    """

    def __init__(
        self, in_features: int, out_features: int, *, gain: float = 1.0, zero_bias: bool = False
    ) -> None:
        self.gain, self.zero_bias = gain, zero_bias
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        super().reset_parameters()
        if self.weight.is_meta:
            return
        nn.init.xavier_uniform_(self.weight, self.gain)
        if self.zero_bias:
            nn.init.zeros_(self.bias)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017, Sec. 3.2).

    Args:
        channels: Width of queries, keys and values.
        num_heads: Heads; divides ``channels``.
        dropout: Share of the attention weights that is dropped in training.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(self, channels: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(
                f"num_heads={num_heads} does not divide channels={channels}; "
                "choose a width that is a multiple of the heads"
            )
        self.num_heads, self.dropout = num_heads, dropout
        self.to_query, self.to_key, self.to_value = (
            XavierLinear(channels, channels, gain=_PACKED_GAIN, zero_bias=True) for _ in range(3)
        )
        self.proj = XavierLinear(channels, channels, zero_bias=True)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """``(B, n, C)``, ``(B, m, C)``, ``(B, m, C) -> (B, n, C)``."""
        attended = F.scaled_dot_product_attention(
            self._split(self.to_query(queries)),
            self._split(self.to_key(keys)),
            self._split(self.to_value(values)),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, projected: Tensor) -> Tensor:
        """``(B, n, C) -> (B, heads, n, C / heads)``."""
        return projected.reshape(*projected.shape[:2], self.num_heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear: ``(..., C) -> (..., C)``.

    Args:
        channels: Width of input and output.
        hidden: Width between the layers.
        dropout: Share of the hidden values that is dropped in training.
    """

    def __init__(self, channels: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = XavierLinear(channels, hidden)
        self.act = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = XavierLinear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(..., C) -> (..., C)``."""
        return self.fc2(self.dropout(self.act(self.fc1(tokens))))  # type: ignore[no-any-return]
