"""Two-dimensional sine position encoding (Carion et al. 2020, DETR; Parmar et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000
_EPSILON = 1e-6


def sine_positions(features: Tensor) -> Tensor:
    """Encoding of every position of a map, for any size of it.

    Rows and columns are counted from 1, divided by their number and spread over one turn. The first half of
    the channels encodes the row, the second the column; sines and cosines alternate.

    Args:
        features: ``(B, C, h, w)``, of which only size, type and device are read; C a multiple of 4.

    Returns:
        ``(1, h * w, C)`` of the same type, computed in float32 at least.
    """
    channels, height, width = features.shape[1:]
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    rows, columns = (_encode(pixels, channels // 2, dtype, features.device) for pixels in (height, width))
    grid = torch.cat(
        [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)],
        dim=-1,
    )
    return grid.reshape(1, height * width, channels).to(features.dtype)


def _encode(pixels: int, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(pixels, channels)``."""
    angles = torch.arange(1, pixels + 1, dtype=dtype, device=device) * (2 * math.pi / (pixels + _EPSILON))
    pairs = torch.arange(channels // 2, dtype=dtype, device=device)
    turned = angles[:, None] / _TEMPERATURE ** (2 * pairs / channels)
    return torch.stack([turned.sin(), turned.cos()], dim=-1).flatten(1)
