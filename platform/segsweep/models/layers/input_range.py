"""From the normalisation of the data pipeline to the one that a network was trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# ImageNet's statistics over 255, with which images come in
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_HALF = 0.5  # mean and deviation of ViT (AugReg), BEiT and the policy networks of CTS


class HalfRange(nn.Module):
    """Images normalised by ImageNet's statistics to ``(x - 0.5) / 0.5`` of pixels in 0..1."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
        self.register_buffer("scale", std / _HALF, persistent=False)
        self.register_buffer("shift", (mean - _HALF) / _HALF, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W) -> (B, 3, H, W)``."""
        return images * self.scale + self.shift
