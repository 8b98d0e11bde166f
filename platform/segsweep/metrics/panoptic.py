"""Panoptic quality from per-image overlaps of segments, and its semantic form PQ^St.

A split's quality comes from one table, the sum of the tables of its images (and of its workers): float64
``(K, 4)`` with the columns ``IOU_SUM, TP, FP, FN``. It cannot be had from a confusion matrix that is summed
over images. Definition: Kirillov et al. 2019, "Panoptic Segmentation", Sec. 4, with the void and crowd rules
of its evaluation on COCO; PQ^St: Cheng et al. 2021, "MaskFormer", Sec. 4.1. All results are shares in [0, 1].
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segsweep.labels import IGNORE_INDEX

IOU_SUM, TP, FP, FN = range(4)  # columns of a table


@dataclass(frozen=True, kw_only=True)
class SegmentMap:
    """The segments of one image.

    Attributes:
        ids: ``(H, W)``, any integer type: 0 where there is no segment (void), n on segment n of 1..N.
        classes: Class of segment n at place n - 1.
        crowd: Whether segment n stands for several objects that nobody told apart, at place n - 1; empty: no
            segment does. Only the truth has crowds.
    """

    ids: Tensor
    classes: Sequence[int]
    crowd: Sequence[bool] = ()

    def __post_init__(self) -> None:
        if self.crowd and len(self.crowd) != len(self.classes):
            raise ValueError(
                f"found {len(self.crowd)} crowd flags for {len(self.classes)} segments; give one per segment "
                "or none"
            )


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Means over the classes that occur.

    Attributes:
        pq: Panoptic quality; NaN if no class occurs, like the other two.
        sq: Segmentation quality: mean IoU of the matched segments; 0 for a class without a match.
        rq: Recognition quality: the F1 score of the matches.
        classes: Number of classes with a true or predicted segment that counts.
    """

    pq: float
    sq: float
    rq: float
    classes: int


@dataclass(frozen=True, kw_only=True)
class PanopticQuality:
    """Quality over all classes, over those of countable things and over the rest (stuff)."""

    all: Quality
    things: Quality
    stuff: Quality


def match_panoptic(truth: SegmentMap, prediction: SegmentMap, *, num_classes: int) -> Tensor:
    """Match the segments of one image.

    A predicted and a true segment of one class match if their IoU is over 0.5, where the predicted pixels on
    void do not count. True crowds never match and are never missed. An unmatched prediction counts as false
    unless more than half of it lies on void or on crowds of its class.

    Args:
        truth: Labelled segments; a segment without pixels does not count.
        prediction: Predicted segments on the same pixels; its crowd flags are ignored.
        num_classes: K.

    Returns:
        ``(K, 4)`` float64 table on the device of the ids.

    Raises:
        ValueError: If sizes differ or an id or class is out of range.
    """
    for name, segments in (("truth", truth), ("prediction", prediction)):
        _check_classes(name, segments.classes, num_classes=num_classes)
    overlap = overlap_matrix(
        truth.ids, prediction.ids, num_true=len(truth.classes), num_predicted=len(prediction.classes)
    )
    device = overlap.device
    crowd = torch.tensor(truth.crowd or [False] * len(truth.classes), dtype=torch.bool, device=device)
    true_classes = torch.tensor(list(truth.classes), dtype=torch.int64, device=device)
    predicted_classes = torch.tensor(list(prediction.classes), dtype=torch.int64, device=device)

    shared, on_void = overlap[1:, 1:], overlap[0, 1:]
    true_area, predicted_area = overlap.sum(1)[1:], overlap.sum(0)[1:]
    same_class = true_classes[:, None] == predicted_classes[None]
    union = true_area[:, None] + predicted_area[None] - shared - on_void[None]
    matched = same_class & ~crowd[:, None] & (2 * shared > union)  # at most one in a row and in a column
    on_crowd = (shared * (same_class & crowd[:, None])).sum(0)
    missed = ~matched.any(1) & ~crowd & (true_area > 0)
    false = ~matched.any(0) & (predicted_area > 0) & (2 * (on_void + on_crowd) <= predicted_area)

    iou = torch.where(matched, shared / union.clamp(min=1).to(torch.float64), 0).sum(1)
    table = torch.zeros(num_classes, 4, dtype=torch.float64, device=device)
    table[:, IOU_SUM].index_add_(0, true_classes, iou)
    table[:, TP].index_add_(0, true_classes, matched.any(1).to(torch.float64))
    table[:, FP].index_add_(0, predicted_classes, false.to(torch.float64))
    table[:, FN].index_add_(0, true_classes, missed.to(torch.float64))
    return table


def match_classes(
    predictions: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Match class maps: every class of an image is one segment (PQ^St).

    Args:
        predictions: ``(B, H, W)`` class ids; K or ``ignore_index`` where nothing is predicted (void): such
            pixels belong to no segment and count as missed.
        labels: ``(B, H, W)`` class ids or ``ignore_index``, which is void.
        num_classes: K.
        ignore_index: Label of pixels that do not count, not below K.

    Returns:
        ``(K, 4)`` float64 table, summed over the images of the batch.

    Raises:
        ValueError: If shapes differ or an id is out of range; the message names the ids.
    """
    if predictions.shape != labels.shape or labels.ndim != 3:
        raise ValueError(
            f"found predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)}; both must be "
            "(B, H, W): segments are matched image by image"
        )
    true = _segment_of_class("labels", labels, num_classes=num_classes, void=(ignore_index,))
    predicted = _segment_of_class(
        "predictions", predictions, num_classes=num_classes, void=(ignore_index, num_classes)
    )
    batch, side = len(labels), num_classes + 1
    image = torch.arange(batch, device=labels.device)[:, None]
    pairs = (image * side + true.flatten(1)) * side + predicted.flatten(1)
    overlap = torch.bincount(pairs.flatten(), minlength=batch * side * side).view(batch, side, side)

    shared, on_void = overlap.diagonal(dim1=1, dim2=2)[:, 1:], overlap[:, 0, 1:]
    true_area, predicted_area = overlap.sum(2)[:, 1:], overlap.sum(1)[:, 1:]
    union = true_area + predicted_area - shared - on_void
    matched = 2 * shared > union
    missed = ~matched & (true_area > 0)
    false = ~matched & (predicted_area > 0) & (2 * on_void <= predicted_area)
    iou = torch.where(matched, shared / union.clamp(min=1).to(torch.float64), 0)
    columns = (iou, matched, false, missed)  # in the order IOU_SUM, TP, FP, FN
    return torch.stack([column.to(torch.float64).sum(0) for column in columns], dim=1)


def overlap_matrix(truth: Tensor, prediction: Tensor, *, num_true: int, num_predicted: int) -> Tensor:
    """Pixels that a true and a predicted segment share.

    Args:
        truth: Segment ids 0..``num_true``, 0 is void; any integer type and shape.
        prediction: Segment ids 0..``num_predicted``, 0 is void; same shape and device.
        num_true: Number of true segments.
        num_predicted: Number of predicted segments.

    Returns:
        ``(num_true + 1, num_predicted + 1)`` int64; row and column 0 are void.

    Raises:
        ValueError: If shapes differ or an id is out of range.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"truth {tuple(truth.shape)} and prediction {tuple(prediction.shape)} differ in shape; resize "
            "the predicted masks to the labels before segments are formed"
        )
    for name, ids, count in (("truth", truth, num_true), ("prediction", prediction, num_predicted)):
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) > count):
            raise ValueError(
                f"segment ids of the {name} span {int(ids.min())}..{int(ids.max())}; allowed are 0 (void) to "
                f"{count}, the number of its classes: number the segments from 1 without gaps"
            )
    pairs = truth.to(torch.int64) * (num_predicted + 1) + prediction.to(torch.int64)
    counts = torch.bincount(pairs.flatten(), minlength=(num_true + 1) * (num_predicted + 1))
    return counts.view(num_true + 1, num_predicted + 1)


def per_class_quality(table: Tensor) -> Tensor:
    """PQ, SQ and RQ of each class.

    Args:
        table: ``(K, 4)``, summed over the split.

    Returns:
        ``(K, 3)`` float64; NaN for a class without any segment that counts. SQ is 0 for a class that occurs
        but never matches.
    """
    iou, matches, false, missed = table.to(torch.float64).unbind(1)
    segments = matches + false / 2 + missed / 2  # 0 / 0 below is NaN
    sq = torch.where(segments > 0, iou / matches.clamp(min=1), torch.nan)
    return torch.stack([iou / segments, sq, matches / segments], dim=1)


def mean_quality(table: Tensor, classes: Collection[int] | None = None) -> Quality:
    """Mean of ``per_class_quality`` over the classes that occur.

    Args:
        table: ``(K, 4)``, summed over the split.
        classes: The classes to look at; ``None``: all.
    """
    if classes is not None:
        table = table[sorted(classes)]
    qualities = per_class_quality(table)
    pq, sq, rq = qualities.nanmean(0).tolist()
    return Quality(pq=pq, sq=sq, rq=rq, classes=int((~qualities[:, 0].isnan()).sum()))


def panoptic_quality(table: Tensor, *, things: Collection[int]) -> PanopticQuality:
    """Quality over all classes, things and stuff.

    Args:
        table: ``(K, 4)``, summed over the split.
        things: Classes of countable objects; all others are stuff.
    """
    stuff = [index for index in range(len(table)) if index not in set(things)]
    return PanopticQuality(
        all=mean_quality(table), things=mean_quality(table, things), stuff=mean_quality(table, stuff)
    )


def _check_classes(name: str, classes: Sequence[int], *, num_classes: int) -> None:
    wrong = sorted({index for index in classes if not 0 <= index < num_classes})
    if wrong:
        raise ValueError(
            f"segments of the {name} have classes {wrong[:10]} outside 0..{num_classes - 1}; check "
            "num_classes"
        )


def _segment_of_class(name: str, ids: Tensor, *, num_classes: int, void: Collection[int]) -> Tensor:
    """Class c as segment c + 1, void as 0."""
    ids = ids.to(torch.int64)
    is_void = torch.zeros_like(ids, dtype=torch.bool)
    for value in void:
        is_void |= ids == value
    segments = torch.where(is_void, 0, ids + 1)
    wrong = (segments < 0) | (segments > num_classes) | ((segments == 0) & ~is_void)
    if bool(wrong.any()):
        found = torch.unique(ids[wrong]).tolist()[:10]
        raise ValueError(
            f"{name} hold ids {found} outside 0..{num_classes - 1} and void {sorted(set(void))}; check "
            "num_classes and the label table"
        )
    return segments
