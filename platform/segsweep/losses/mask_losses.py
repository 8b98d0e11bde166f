"""Focal and dice loss of binary masks, one value a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA = 0.25  # weight of the pixels inside of the mask (Lin et al. 2017, Sec. 3.3); gamma is 2


def focal_losses(logits: Tensor, masks: Tensor, *, counted: Tensor | None = None) -> Tensor:
    """Focal loss with alpha 0.25 and gamma 2, mean over the pixels of each mask (Lin et al. 2017, Eq. 5).

    Args:
        logits: ``(N, P)``.
        masks: ``(N, P)`` bool.
        counted: ``(N, P)`` bool, pixels that count; all if ``None``.

    Returns:
        ``(N,)``.
    """
    wanted = masks.to(logits.dtype)
    error = logits.sigmoid() - wanted
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * error.square()
    losses = losses * ((1 - FOCAL_ALPHA) + (2 * FOCAL_ALPHA - 1) * wanted)
    if counted is None:
        return losses.mean(1)
    return (losses * counted).sum(1) / counted.sum(1).clamp_min(1)


def dice_losses(logits: Tensor, masks: Tensor, *, counted: Tensor | None = None) -> Tensor:
    """Dice loss with one added above and below the fraction (Milletari et al. 2016; MaskFormer's code).

    Args:
        logits: ``(N, P)``.
        masks: ``(N, P)`` bool; false where ``counted`` is.
        counted: ``(N, P)`` bool, pixels that count; all if ``None``.

    Returns:
        ``(N,)``.
    """
    inside = logits.sigmoid() if counted is None else logits.sigmoid() * counted
    wanted = masks.to(logits.dtype)
    shared: Tensor = torch.linalg.vecdot(inside, wanted)
    return 1 - (2 * shared + 1) / (inside.sum(1) + wanted.sum(1) + 1)
