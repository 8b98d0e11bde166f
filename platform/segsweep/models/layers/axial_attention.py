"""Multi-head axial attention (Huang et al. 2019 and 2022; as in HFGD, guidance module)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.layers.conv_module import Projection


class AxialAttention(nn.Module):
    """Attention along the columns, then along the rows, both with maps from the same queries and keys.

    There is neither an output projection nor a residual; the caller adds one. A row costs ``w`` times its
    pixels instead of ``h * w`` times: ``h * w * (h + w)`` products of each query and value channel in all.

    Args:
        channels: Width of input and output, divisible by ``num_heads``.
        qk_channels: Width of queries and keys over all heads, divisible by ``num_heads``. 512 is what HFGD's
            Table 9 adds up to.
        num_heads: Heads; they do not change the cost.

    Raises:
        ValueError: If the heads do not divide the widths.
    """

    def __init__(self, channels: int, *, qk_channels: int = 512, num_heads: int = 4) -> None:
        super().__init__()
        if channels % num_heads or qk_channels % num_heads:
            raise ValueError(
                f"num_heads={num_heads} divides not both channels={channels} and qk_channels={qk_channels}; "
                "choose widths that are multiples of the number of heads"
            )
        self.num_heads = num_heads
        self.query = Projection(channels, qk_channels)
        self.key = Projection(channels, qk_channels)
        self.value = Projection(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        rows = [self._heads(layer(features)) for layer in (self.query, self.key, self.value)]
        query, key, value = rows  # (B, h, w, heads, d)
        value = _attend(*(part.transpose(1, 2) for part in (query, key, value))).transpose(1, 2)
        value = _attend(query, key, value)
        return value.flatten(3).permute(0, 3, 1, 2)

    def _heads(self, projected: Tensor) -> Tensor:
        return torch.unflatten(projected.permute(0, 2, 3, 1), -1, (self.num_heads, -1))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention along axis 2 of ``(B, lines, pixels, heads, d)``."""
    batch, lines = query.shape[:2]
    query, key, value = (part.flatten(0, 1).transpose(1, 2) for part in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value)  # scaled by 1 / sqrt(d)
    return torch.unflatten(attended.transpose(1, 2), 0, (batch, lines))
