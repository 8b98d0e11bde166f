"""Losses on more predictions than the one that counts: learners of an ensemble, auxiliary heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segsweep.losses.per_pixel import CrossEntropy, LossTerm, PerPixelLoss, PixelLoss


def ensemble_terms(
    log_merged: Tensor, learner_logits: Sequence[Tensor], labels: Tensor, *, pixel_loss: PerPixelLoss
) -> dict[str, LossTerm]:
    """Loss of the merged prediction and mean loss of the learners (SenFormer, Sec. 3.5 and official code).

    The logarithm is enlarged, not the probabilities; as the pixel loss normalises over the classes, a factor
    common to all merged probabilities of a map (sum or mean) changes nothing.

    Args:
        log_merged: Logarithm of the merged probabilities, ``(B, K, h, w)``.
        learner_logits: ``(B, K, h, w)`` of each learner.
        labels: ``(B, H, W)`` int64.
        pixel_loss: Loss of both.

    Returns:
        Terms ``ensemble`` and ``learners``, each of weight 1.
    """
    losses = [pixel_loss(_enlarge(logits, labels), labels) for logits in learner_logits]
    # Learners are counted like images of a batch. So the quotient is their mean.
    learners = PixelLoss(
        torch.stack([loss.total for loss in losses]).sum(), torch.stack([loss.count for loss in losses]).sum()
    )
    return {
        "ensemble": LossTerm(pixel_loss(_enlarge(log_merged, labels), labels)),
        "learners": LossTerm(learners),
    }


def auxiliary_term(logits: Tensor, labels: Tensor, *, ignore_index: int, weight: float) -> LossTerm:
    """Cross-entropy of an auxiliary head, divided by all pixels, ignored ones too (mmsegmentation 0.x).

    Args:
        logits: ``(B, K, h, w)``.
        labels: ``(B, H, W)`` int64.
        ignore_index: Label of pixels that do not count.
        weight: Factor in the training loss.
    """
    loss = CrossEntropy(ignore_index=ignore_index, count_ignored=True)
    return LossTerm(loss(_enlarge(logits, labels), labels), weight)


def _enlarge(logits: Tensor, labels: Tensor) -> Tensor:
    size = (labels.shape[-2], labels.shape[-1])
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
