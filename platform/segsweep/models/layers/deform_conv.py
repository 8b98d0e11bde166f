"""Deformable convolution (Dai et al. 2017; modulated: Zhu et al. 2019) in plain torch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformConv2d(nn.Module):
    """Convolution of stride 1 that reads each tap at a place of its own, ``sum_k w_k x(p + p_k + dp_k) m_k``.

    Values between pixels are bilinear, those outside the image zero. One tap after another is sampled and
    multiplied, so that inference holds one sampled map of the input's size, not one for each tap; training
    keeps all of them for the gradient of the weights: ``kernel**2`` times the input. MACs are those of the
    ordinary convolution of the same kernel; sampling adds 4 multiply-adds a value and tap, which
    no convention counts.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel: Odd kernel size.
        offset_groups: Groups of input channels with offsets of their own; divides ``in_channels``.

    Attributes:
        weight: ``(out_channels, in_channels, kernel, kernel)``.
        num_offsets: Channels of the offsets, ``2 * offset_groups * kernel**2``.
        num_modulations: Channels of the modulation, ``offset_groups * kernel**2``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, *, offset_groups: int = 1
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} is even and has no centre; use {kernel - 1} or {kernel + 1}")
        if in_channels % offset_groups:
            raise ValueError(
                f"offset_groups={offset_groups} does not divide in_channels={in_channels}; "
                f"use {math.gcd(offset_groups, in_channels)}"
            )
        self.kernel, self.offset_groups = kernel, offset_groups
        self.num_modulations = offset_groups * kernel**2
        self.num_offsets = 2 * self.num_modulations
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        if not self.weight.is_meta:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Conv2d

    def forward(self, features: Tensor, offsets: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            features: ``(B, in_channels, h, w)``.
            offsets: ``(B, num_offsets, h, w)`` in pixels; channels are group, tap (row by row), then y and x.
            modulation: ``(B, num_modulations, h, w)``, factors of the sampled values; ``None`` for ones.

        Returns:
            ``(B, out_channels, h, w)``.
        """
        batch, _, height, width = features.shape
        # bfloat16 has 8 bits: at 256 pixels a place would be a pixel off
        exact = torch.promote_types(offsets.dtype, torch.float32)
        groups = features.to(exact).reshape(batch * self.offset_groups, -1, height, width)
        places = self._places(offsets.to(exact))
        taps = self.weight.flatten(2).unbind(2)
        output = torch.zeros((), dtype=features.dtype, device=features.device)
        for index, weight in enumerate(taps):
            sampled = F.grid_sample(groups, places[:, index], padding_mode="zeros", align_corners=False)
            sampled = sampled.reshape(batch, self.offset_groups, -1, height, width)
            if modulation is not None:
                factors = modulation.reshape(batch, self.offset_groups, -1, height, width)[:, :, index, None]
                sampled = sampled * factors
            sampled = sampled.reshape(batch, -1, height, width).to(features.dtype)
            output = output + F.conv2d(sampled, weight[:, :, None, None])
        return output

    def _places(self, offsets: Tensor) -> Tensor:
        """Where each tap reads, ``(B * groups, taps, h, w, 2)`` for grid_sample: x, y from -1 to 1."""
        batch, _, height, width = offsets.shape
        offsets = offsets.reshape(batch * self.offset_groups, self.kernel**2, 2, height, width)
        steps = torch.arange(self.kernel, dtype=offsets.dtype, device=offsets.device) - self.kernel // 2
        rows = torch.arange(height, dtype=offsets.dtype, device=offsets.device)[:, None]
        columns = torch.arange(width, dtype=offsets.dtype, device=offsets.device)
        y = offsets[:, :, 0] + steps.repeat_interleave(self.kernel)[:, None, None] + rows
        x = offsets[:, :, 1] + steps.repeat(self.kernel)[:, None, None] + columns
        return torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
