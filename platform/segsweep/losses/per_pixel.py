"""Losses on logits of every pixel, as sums with counts, so that ranks and batches can be averaged exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from segsweep.labels import IGNORE_INDEX


class PixelLoss(NamedTuple):
    """A loss that is still to be averaged.

    Attributes:
        total: Scalar sum over the pixels that count; zero, with a gradient path, if none does.
        count: Scalar number of those pixels, int64.
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs


class PerPixelLoss(Protocol):
    """Any loss here: full-size logits and labels to a sum with its count."""

    @property
    def ignore_index(self) -> int:
        """Label of pixels that do not count."""

    def __call__(self, logits: Tensor, labels: Tensor) -> PixelLoss:
        """Sum the loss of ``(B, K, H, W)`` logits over ``(B, H, W)`` int64 labels."""


class LossTerm(NamedTuple):
    """One summand of a training loss: ``weight * total / count``, both summed over all ranks first.

    A term that is computed over all ranks already (CAR's centres) gives its value as the total and 1 as the
    count of each rank.

    Attributes:
        loss: Sum and count of this rank.
        weight: Factor in the training loss.
    """

    loss: PixelLoss
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy of the labelled pixels.

    Attributes:
        ignore_index: Label of pixels that do not count.
        count_ignored: Divide by the number of all pixels, ignored ones included, as the heads of
            mmsegmentation 0.x do.
    """

    ignore_index: int = IGNORE_INDEX
    count_ignored: bool = False

    def __call__(self, logits: Tensor, labels: Tensor) -> PixelLoss:
        """Sum the loss of ``(B, K, H, W)`` logits over ``(B, H, W)`` int64 labels."""
        total = F.cross_entropy(logits.float(), labels, ignore_index=self.ignore_index, reduction="sum")
        labelled = (labels != self.ignore_index).sum()
        return PixelLoss(total, torch.full_like(labelled, labels.numel()) if self.count_ignored else labelled)


@dataclass(frozen=True, kw_only=True)
class OhemCrossEntropy:
    """Cross-entropy of the hard pixels of each image (online hard example mining).

    A labelled pixel is kept if the model gives its true class a probability below ``prob_threshold``, or if
    it is among the ``min_kept`` hardest of its image (all that tie with the last of them are kept). The
    choice is made for each image alone: it does not depend on how a batch is spread over ranks.

    Attributes:
        prob_threshold: Probability of the true class under which a pixel is hard (HRNet, OCR: 0.9).
        min_kept: Pixels an image keeps at least, if it has them (HRNet, OCR: 131072, of 512 x 1024).
        ignore_index: Label of pixels that do not count.
    """

    prob_threshold: float = 0.9
    min_kept: int = 131072
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        if not 0 < self.prob_threshold <= 1:
            raise ValueError(f"prob_threshold={self.prob_threshold} is outside (0, 1]")
        if self.min_kept < 0:
            raise ValueError(f"min_kept={self.min_kept} is negative; use 0 or more")

    def __call__(self, logits: Tensor, labels: Tensor) -> PixelLoss:
        """Sum the loss of ``(B, K, H, W)`` logits over the hard pixels of ``(B, H, W)`` int64 labels."""
        losses = F.cross_entropy(logits.float(), labels, ignore_index=self.ignore_index, reduction="none")
        kept = self._hard(losses.detach().flatten(1), (labels != self.ignore_index).flatten(1))
        return PixelLoss((losses.flatten(1) * kept).sum(), kept.sum())

    def _hard(self, losses: Tensor, labelled: Tensor) -> Tensor:
        hard = losses > -math.log(self.prob_threshold)
        if self.min_kept >= losses.shape[1]:
            return labelled
        if self.min_kept > 0:
            ranked = torch.where(labelled, losses, -math.inf)  # unlabelled pixels last
            smallest_kept = ranked.kthvalue(losses.shape[1] - self.min_kept + 1, dim=1, keepdim=True).values
            hard = hard | (losses >= smallest_kept)
        return hard & labelled
