"""Losses on a set of masks, each matched to one object of its image (MaskFormer, Cheng et al. 2021, 3.1).

Every decoder layer is matched anew and all count alike. The terms hold sums with counts: what they come to is
the same however a batch is spread over ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from segsweep.losses.mask_losses import FOCAL_ALPHA, dice_losses, focal_losses
from segsweep.losses.per_pixel import LossTerm, PixelLoss

_UNMATCHABLE = 1e6  # stands for NaN and infinity, which only a diverged model gives
_OUTSIDE = (1 - FOCAL_ALPHA) / FOCAL_ALPHA  # weight of a pixel outside of an object, if one inside has 1
_CACHED = 2**17  # values that a CPU works on at once: they and what is made of them fit its cache
_LINEAR_FROM = 30.0  # softplus(x) is x to 1e-13 from here on


class MaskPrediction(NamedTuple):
    """What one decoder layer says.

    Attributes:
        class_logits: ``(B, Q, K + 1)``, the last for "no object".
        mask_logits: ``(B, Q, h, w)``.
    """

    class_logits: Tensor
    mask_logits: Tensor


class MaskTargets(NamedTuple):
    """The objects of one image.

    Attributes:
        classes: ``(M,)`` int64.
        masks: ``(M, H, W)`` bool.
        counted: ``(H, W)`` bool, pixels on which masks are compared; all if ``None``.
    """

    classes: Tensor
    masks: Tensor
    counted: Tensor | None = None


class Match(NamedTuple):
    """Matched pairs of one image, ``min(Q, M)`` of them, queries ascending.

    Attributes:
        queries: ``(n,)`` int64.
        targets: ``(n,)`` int64.
    """

    queries: Tensor
    targets: Tensor


@dataclass(frozen=True, kw_only=True)
class MaskWeights:
    """Factors in the loss, and with the same values in the cost of a match (MaskFormer, Sec. 4.1).

    Attributes:
        classification: Of the cross-entropy.
        focal: Of the focal loss of the masks.
        dice: Of the dice loss of the masks.
        no_object: Of the class "no object" within the cross-entropy.
    """

    classification: float = 1.0
    focal: float = 20.0
    dice: float = 1.0
    no_object: float = 0.1


def semantic_targets(
    labels: Tensor, *, num_classes: int, ignore_index: int, ignore_void: bool = False
) -> list[MaskTargets]:
    """One mask for each class that occurs in an image, classes ascending.

    Args:
        labels: ``(B, H, W)`` int64.
        num_classes: K.
        ignore_index: Label of pixels that belong to no mask.
        ignore_void: Leave those pixels out where masks are compared; the published model counts them as
            background of every mask.
    """
    labelled = labels != ignore_index
    slots = torch.where(labelled, labels, num_classes).flatten(1)
    present = torch.zeros(len(labels), num_classes + 1, dtype=torch.bool, device=labels.device)
    present = present.scatter_(1, slots, True)[:, :num_classes].cpu()
    targets = []
    for image, occurs in enumerate(present):
        classes = occurs.nonzero().flatten().to(labels.device)
        masks = labels[image] == classes[:, None, None]
        targets.append(MaskTargets(classes, masks, labelled[image] if ignore_void else None))
    return targets


def mask_terms(
    predictions: Sequence[MaskPrediction], targets: Sequence[MaskTargets], *, weights: MaskWeights
) -> dict[str, LossTerm]:
    """Loss of all layers: each is matched anew, and their losses are summed.

    Args:
        predictions: One for each decoder layer.
        targets: One for each image.
        weights: Factors.

    Returns:
        ``classification``: cross-entropy of all queries over the sum of their weights. ``focal``
        and ``dice``: over the number of objects, those included that no query was left for.
    """
    matches = match_queries(predictions, targets, weights=weights)
    parts = [
        _layer_losses(prediction, targets, matched, weights)
        for prediction, matched in zip(predictions, matches, strict=True)
    ]
    classification, focal, dice = (torch.stack(losses).sum() for losses in zip(*parts, strict=True))
    device = classification.device
    matched_queries = sum(len(match.queries) for match in matches[0])
    queries = predictions[0].class_logits.shape[:2].numel()
    # The training loop takes counts below one for one: weights are told in units of the smallest.
    unit = min(1.0, weights.no_object) or 1.0
    weight = (matched_queries + weights.no_object * (queries - matched_queries)) / unit
    num_masks = torch.tensor(sum(len(target.classes) for target in targets), device=device)
    return {
        "classification": LossTerm(
            PixelLoss(classification / unit, classification.new_tensor(weight)), weights.classification
        ),
        "focal": LossTerm(PixelLoss(focal, num_masks), weights.focal),
        "dice": LossTerm(PixelLoss(dice, num_masks), weights.dice),
    }


@torch.no_grad()
def match_queries(
    predictions: Sequence[MaskPrediction], targets: Sequence[MaskTargets], *, weights: MaskWeights
) -> list[list[Match]]:
    """Assign objects to queries at the lowest total cost, for each layer and image alone.

    The cost is that of the loss, with minus the probability of the class for the cross-entropy; objects are
    brought to the size of the predictions by nearest neighbour (MaskFormer, Sec. 3.1 and official code).

    Args:
        predictions: One for each decoder layer.
        targets: One for each image.
        weights: Factors.

    Returns:
        For each layer the matches of each image.
    """
    size = predictions[0].mask_logits.shape[-2:]
    small = [_shrink(target, (size[0], size[1])) for target in targets]
    costs = [
        _costs(prediction.class_logits[image], prediction.mask_logits[image], target, weights)
        for prediction in predictions
        for image, target in enumerate(small)
    ]
    device = predictions[0].class_logits.device
    assigned = iter(_assign(costs))
    return [[_to_match(next(assigned), device) for _ in targets] for _ in predictions]


def _shrink(target: MaskTargets, size: tuple[int, int]) -> MaskTargets:
    """The objects at the size of the predictions, flattened: ``(M, h * w)`` uint8."""
    if len(target.classes) == 0:
        return target
    counted = None if target.counted is None else _nearest(target.counted[None], size)[0]
    return MaskTargets(target.classes, _nearest(target.masks, size), counted)


def _nearest(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(masks[None].to(torch.uint8), size=size, mode="nearest")[0].flatten(1)


def _costs(class_logits: Tensor, mask_logits: Tensor, target: MaskTargets, weights: MaskWeights) -> Tensor:
    """Cost of every pair, ``(Q, M)``."""
    if len(target.classes) == 0:
        return class_logits.new_empty(len(class_logits), 0)
    logits = upcast(mask_logits).flatten(1)
    masks = target.masks.to(logits.dtype).T  # (P, M)
    counted = None if target.counted is None else target.counted.to(logits.dtype)
    rows = max(1, _CACHED // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    costs = torch.cat([_mask_costs(part, masks, counted, weights) for part in torch.split(logits, rows)])
    probabilities = upcast(class_logits).softmax(-1)[:, target.classes]
    return costs - weights.classification * probabilities


def _mask_costs(logits: Tensor, masks: Tensor, counted: Tensor | None, weights: MaskWeights) -> Tensor:
    """Weighted focal and dice loss of every pair, ``(Q, M)``, of ``(Q, P)`` and ``(P, M)``."""
    inside = logits.sigmoid()
    softplus = F.softplus(logits, threshold=_LINEAR_FROM)
    # Focal loss of a pixel outside of the object: (1 - alpha) p**2 softplus(x); inside: alpha (1 - p)**2
    # softplus(-x). Both in units of alpha; softplus(-x) = softplus(x) - x.
    outside = inside.square().mul_(softplus)
    gain = torch.rsub(inside, 1).square_().mul_(softplus.sub_(logits)).sub_(outside, alpha=_OUTSIDE)
    pixels: Tensor | int = logits.shape[1]
    if counted is not None:
        pixels = counted.sum().clamp_min(1)
        outside, inside = outside * counted, inside * counted
    focal = (gain @ masks + _OUTSIDE * outside.sum(1, keepdim=True)) * (FOCAL_ALPHA / pixels)
    union = inside.sum(1, keepdim=True) + masks.sum(0)
    dice = 1 - (2 * (inside @ masks) + 1) / (union + 1)
    return weights.focal * focal + weights.dice * dice


def _assign(costs: Sequence[Tensor]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cheapest assignment of each cost matrix; all travel from the device at once."""
    flat = torch.cat([cost.flatten() for cost in costs])
    flat = flat.nan_to_num(_UNMATCHABLE, posinf=_UNMATCHABLE, neginf=_UNMATCHABLE).cpu()
    parts = torch.split(flat, [cost.numel() for cost in costs])
    return [
        linear_sum_assignment(part.view(cost.shape).numpy()) for part, cost in zip(parts, costs, strict=True)
    ]


def _to_match(pair: tuple[np.ndarray, np.ndarray], device: torch.device) -> Match:
    queries, targets = (torch.from_numpy(np.asarray(indices, dtype=np.int64)).to(device) for indices in pair)
    return Match(queries, targets)


def _layer_losses(
    prediction: MaskPrediction,
    targets: Sequence[MaskTargets],
    matches: Sequence[Match],
    weights: MaskWeights,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of cross-entropy, focal and dice loss of one layer."""
    classification = _classification_loss(prediction.class_logits, targets, matches, weights.no_object)
    logits = torch.cat([prediction.mask_logits[image, match.queries] for image, match in enumerate(matches)])
    if len(logits) == 0:
        nothing = logits.sum()  # zero, with a way back to the masks: no parameter goes without a gradient
        return classification, nothing, nothing
    masks = torch.cat([target.masks[match.targets] for target, match in zip(targets, matches, strict=True)])
    enlarged = F.interpolate(upcast(logits)[:, None], masks.shape[-2:], mode="bilinear", align_corners=False)
    counted = _counted(targets, matches)
    pixels, wanted = enlarged.flatten(1), masks.flatten(1)
    return (
        classification,
        focal_losses(pixels, wanted, counted=counted).sum(),
        dice_losses(pixels, wanted, counted=counted).sum(),
    )


def _classification_loss(
    class_logits: Tensor, targets: Sequence[MaskTargets], matches: Sequence[Match], no_object: float
) -> Tensor:
    """Sum over all queries of the weighted cross-entropy."""
    logits = upcast(class_logits)
    num_classes = logits.shape[-1] - 1
    classes = torch.full(logits.shape[:2], num_classes, device=logits.device)
    for image, (target, match) in enumerate(zip(targets, matches, strict=True)):
        classes[image, match.queries] = target.classes[match.targets]
    weight = logits.new_ones(num_classes + 1)
    weight[-1] = no_object
    return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight=weight, reduction="sum")


def _counted(targets: Sequence[MaskTargets], matches: Sequence[Match]) -> Tensor | None:
    """Pixels that count for each matched pair, ``(N, P)``; ``None`` for all."""
    if any(target.counted is None for target in targets):
        return None
    rows = [
        target.counted.flatten().expand(len(match.queries), -1)  # type: ignore[union-attr]
        for target, match in zip(targets, matches, strict=True)
    ]
    return torch.cat(rows)


def upcast(logits: Tensor) -> Tensor:
    """In float32 where they come in half precision."""
    return logits.float() if logits.dtype in {torch.float16, torch.bfloat16} else logits
