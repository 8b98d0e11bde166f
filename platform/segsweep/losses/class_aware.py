"""Class-aware regularisation (Huang et al. 2022, CAR), as HFGD trains its encoder with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor

from segsweep.labels import IGNORE_INDEX
from segsweep.losses.per_pixel import LossTerm, PixelLoss

_INTRA_FLOOR = 1e-5  # CAR's code; below it the term has no gradient
_CLIP = 1e-7  # Keras' epsilon
_INTER_CLASS_MARGIN = 0.5  # CAR, eq. 5: shared by the other classes
_INTER_PIXEL_MARGIN = 0.25  # CAR, eq. 7


class ClassCentres(NamedTuple):
    """Mean feature of each class.

    Attributes:
        means: ``(K, C)`` float32, zero for an absent class; carries the gradient of the features.
        counts: ``(K,)`` float32, pixels of each class.
    """

    means: Tensor
    counts: Tensor


def class_centres(
    features: Tensor, labels: Tensor, num_classes: int, *, ignore_index: int = IGNORE_INDEX
) -> ClassCentres:
    """Mean features of the classes over the batch of all ranks.

    With ``torch.distributed`` initialised, sums and counts are added up over ranks before they are divided,
    with the gradient of that sum; every rank must then call this.

    Args:
        features: ``(B, C, h, w)``.
        labels: ``(B, H, W)`` int64; resized by nearest neighbour.
        num_classes: Number of classes K.
        ignore_index: Label of pixels that do not count.
    """
    with torch.autocast(features.device.type, enabled=False):
        pixels, members = _flatten(features, labels, num_classes, ignore_index)
        return _centres(pixels, members)


@dataclass(frozen=True, kw_only=True)
class ClassAwareLoss:
    """Pull features to the centre of their class and push centres and pixels from other classes' centres.

    Attributes:
        intra: Weight of the distance of pixels to the centre of their own class.
        inter_class: Weight of the similarity between centres.
        inter_pixel: Weight of the similarity of pixels to centres of other classes.
        mask_ignored: Leave ignored pixels out of the inter-pixel term. CAR's code does not: there they are
            pushed from every centre.
        ignore_index: Label of pixels that do not count.
    """

    intra: float = 1.0
    inter_class: float = 1.0
    inter_pixel: float = 1.0
    mask_ignored: bool = True
    ignore_index: int = IGNORE_INDEX

    def __call__(self, features: Tensor, labels: Tensor, num_classes: int) -> dict[str, LossTerm]:
        """The terms with a weight, named ``car_intra``, ``car_inter_class`` and ``car_inter_pixel``.

        They are squared means over all pixels of all ranks, so no sums over ranks: each rank has the same
        total and a count of 1. In float32 whatever the autocast.

        Args:
            features: ``(B, C, h, w)``.
            labels: ``(B, H, W)`` int64; resized by nearest neighbour.
            num_classes: Number of classes, 2 or more.

        Raises:
            ValueError: If there is only one class, which has no others to be kept from.
        """
        if num_classes < 2:
            raise ValueError(
                f"class-aware losses compare classes, but num_classes={num_classes}; use data with 2 or more "
                "or switch them off (weights 0)"
            )
        with torch.autocast(features.device.type, enabled=False):
            pixels, members = _flatten(features, labels, num_classes, self.ignore_index)
            values = self._values(pixels, members)
        weights = {
            "car_intra": self.intra,
            "car_inter_class": self.inter_class,
            "car_inter_pixel": self.inter_pixel,
        }
        one = torch.ones((), dtype=torch.int64, device=features.device)
        return {
            name: LossTerm(PixelLoss(values[name], one), weight) for name, weight in weights.items() if weight
        }

    def _values(self, pixels: Tensor, members: Tensor) -> dict[str, Tensor]:
        means = _centres(pixels, members).means
        distances = _distance_to_own_centre(pixels, means.detach(), members)
        similarities = _similarity_to_other_centres(pixels, means.detach(), members)
        counted = members.any(1) if self.mask_ignored else torch.ones_like(members[:, 0])
        sums = [distances.sum(), (similarities * counted).sum(), counted.sum().float()]
        distance, similarity, num_counted, num_pixels = _sum_over_ranks(
            torch.stack([*sums, sums[0].new_tensor(float(len(pixels)))])
        )
        return {
            # Ignored pixels have distance 0 and are in the mean.
            "car_intra": (distance / num_pixels).square().clamp(min=_INTRA_FLOOR),
            "car_inter_class": _similarity_between_centres(means).mean().square(),
            "car_inter_pixel": (similarity / num_counted.clamp(min=1)).square(),
        }


def _flatten(features: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Features as ``(P, C)`` float32 and whether each pixel has each class, ``(P, K)`` bool."""
    height, width = features.shape[-2:]
    pixels = features.float().permute(0, 2, 3, 1).flatten(0, 2)
    classes = _nearest(labels, (height, width)).flatten()[:, None]
    members = classes == torch.arange(num_classes, device=labels.device)
    return pixels, members & (classes != ignore_index)


def _nearest(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """The label in the middle of each cell: corners not aligned, as the logits are resized."""
    rows, columns = (
        (2 * torch.arange(cells, device=labels.device) + 1) * pixels // (2 * cells)
        for cells, pixels in zip(size, labels.shape[-2:], strict=True)
    )
    return labels[:, rows[:, None], columns]


def _centres(pixels: Tensor, members: Tensor) -> ClassCentres:
    shares = members.T.float()  # (K, P)
    sums = _sum_over_ranks(torch.cat([shares @ pixels, shares.sum(1, keepdim=True)], dim=1))
    totals, counts = sums[:, :-1], sums[:, -1:]
    return ClassCentres(totals / counts.clamp(min=1), counts[:, 0].detach())


def _distance_to_own_centre(pixels: Tensor, means: Tensor, members: Tensor) -> Tensor:
    """Mean absolute difference over the channels, ``(P,)``; zero where the label is ignored."""
    own = members.float() @ means
    return (own - pixels).abs().mean(1) * members.any(1)


def _similarity_between_centres(means: Tensor) -> Tensor:
    """How far each class's attention to the others exceeds the margin, ``(K,)``.

    An absent class has a zero centre and so a constant without gradient (as in CAR's code).
    """
    num_classes, channels = means.shape
    relations = (means @ means.detach().T / math.sqrt(channels)).softmax(-1)
    excess = (relations - _INTER_CLASS_MARGIN / (num_classes - 1)).relu()
    others = ~torch.eye(num_classes, dtype=torch.bool, device=means.device)
    return (excess * others).sum(1).clamp(_CLIP, 1 - _CLIP)


def _similarity_to_other_centres(pixels: Tensor, means: Tensor, members: Tensor) -> Tensor:
    """How far each pixel's attention to other classes exceeds the margin, ``(P,)``.

    The own class competes with the energy of its centre with itself, not with the pixel.
    """
    num_classes, channels = means.shape
    energies = torch.where(members, means.square().sum(1), pixels @ means.T)
    relations = (energies / math.sqrt(channels)).softmax(-1)
    excess = (relations - _INTER_PIXEL_MARGIN / (num_classes - 1)).relu()
    return (excess * ~members).sum(1).clamp(_CLIP, 1 - _CLIP)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()  # every rank's loss depends on every rank's values
        dist.all_reduce(total)
        return total


def _sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return cast(Tensor, _SumOverRanks.apply(values))  # type: ignore[no-untyped-call]
    return values
