"""Every score of a class map from one table of counts, with predictions that may be void.

``pixel_counts`` gives each image a table with one row and one column more than there are classes: pixels
without a true class (void) and pixels that the model gave to no class. The sum of the tables of a split (and
of its workers) holds the confusion matrix; PQ^St needs the table of each image. All results are shares in
[0, 1]. Definitions: Everingham et al. 2010 (IoU), Long et al. 2015, Sec. 5 (accuracies, frequency-weighted
IoU), Cheng et al. 2021, "MaskFormer", Sec. 4.1 (PQ^St).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from segsweep.labels import IGNORE_INDEX, IGNORE_INDEX_16

# Integers of which the number after the void id is 0.
_BEFORE_ZERO = {IGNORE_INDEX: torch.uint8, IGNORE_INDEX_16: torch.int16}
_ORDERED = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # torch has no minimum of others


def pixel_counts(
    predictions: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Count the pixels of an image (or of several together) by true and predicted class, void included.

    Args:
        predictions: Class ids in ``0..num_classes-1``; ``num_classes`` or ``ignore_index`` where no class is
            predicted. Any integer type and shape.
        labels: Class ids or ``ignore_index``, same shape and device.
        num_classes: K.
        ignore_index: Label of pixels that do not count, K or more.

    Returns:
        ``(K + 1, K + 1)`` int64: rows are the truth, the last one void; columns the prediction, the last one
        void. The first K rows are the confusion matrix.

    Raises:
        ValueError: If shapes differ or an id is out of range; the message names the ids.
    """
    _check(predictions, labels, num_classes=num_classes, ignore_index=ignore_index)
    side = num_classes + 1
    if labels.numel() == 0:
        return torch.zeros(side, side, dtype=torch.int64, device=labels.device)
    columns = _columns(predictions.reshape(-1), num_classes=num_classes, ignore_index=ignore_index)
    rows = _rows(labels.reshape(-1), num_classes=num_classes, ignore_index=ignore_index)
    if columns is None or rows is None:
        raise _wrong_ids(predictions, labels, num_classes=num_classes, ignore_index=ignore_index)
    # Short integers: a pass over the pixels takes as long as it reads and writes bytes.
    dtype = torch.int16 if side * side <= torch.iinfo(torch.int16).max else torch.int32
    cells = torch.add(columns.to(dtype), rows.to(dtype), alpha=side)
    return torch.bincount(cells, minlength=side * side).view(side, side).roll(-1, 0)


def class_segments(counts: Tensor) -> Tensor:
    """Match the classes of one image as segments: one segment for each class that occurs (PQ^St).

    A class matches if its IoU, without the predicted pixels on void, is over 0.5; a class that is only
    predicted is false unless more than half of it lies on void.

    Args:
        counts: ``(..., K + 1, K + 1)`` of one image each.

    Returns:
        ``(..., K, 4)`` float64 tables for ``segsweep.metrics.panoptic``; those of a split add up.
    """
    shared, on_void = counts.diagonal(dim1=-2, dim2=-1)[..., :-1], counts[..., -1, :-1]
    true_area, predicted_area = counts.sum(-1)[..., :-1], counts.sum(-2)[..., :-1]
    union = true_area + predicted_area - shared - on_void
    matched = 2 * shared > union
    missed = ~matched & (true_area > 0)
    false = ~matched & (predicted_area > 0) & (2 * on_void <= predicted_area)
    iou = torch.where(matched, shared / union.clamp(min=1).to(torch.float64), 0)
    return torch.stack([iou, *(part.to(torch.float64) for part in (matched, false, missed))], dim=-1)


@dataclass(frozen=True, eq=False)
class SegmentationScores:
    """Scores of one confusion matrix.

    Attributes:
        matrix: ``(K, K + 1)`` int64, rows are the truth, the last column is void; or ``(K, K)`` where every
            pixel has a predicted class.
    """

    matrix: Tensor

    @cached_property
    def iou(self) -> Tensor:
        """``(K,)`` float64; NaN for a class that is neither in the truth nor predicted."""
        return self._right / (self._true + self._predicted - self._right)  # 0 / 0 is NaN

    @cached_property
    def accuracy(self) -> Tensor:
        """Recall of each class, ``(K,)`` float64; NaN for a class that is not in the truth."""
        return self._right / self._true

    @property
    def miou(self) -> float:
        """Mean IoU over the classes in truth or prediction ("union": mmsegmentation, Cityscapes)."""
        return float(self.iou.nanmean())

    @property
    def miou_gt(self) -> float:
        """Mean IoU over the classes in the truth ("gt": detectron2 since July 2022)."""
        return float(self.iou[self._true > 0].mean())

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels with the right class; NaN if there are none."""
        return float(self._right.sum() / self._true.sum())

    @property
    def mean_accuracy(self) -> float:
        """Mean of ``accuracy`` over the classes in the truth."""
        return float(self.accuracy.nanmean())

    @property
    def fwiou(self) -> float:
        """IoU weighted by each class's share of the labelled pixels; NaN if there are none."""
        labelled = self._true.sum()
        return float((self._true / labelled * self.iou).nansum()) if labelled else math.nan

    @property
    def ade_score(self) -> float:
        """The score of ADE20K's test server: mean of pixel accuracy and mIoU."""
        return (self.pixel_accuracy + self.miou) / 2

    @property
    def void_share(self) -> float:
        """Share of labelled pixels that got no class."""
        return float((self._true.sum() - self._counts[:, : len(self._counts)].sum()) / self._true.sum())

    @cached_property
    def _counts(self) -> Tensor:
        return self.matrix.to(torch.float64)

    @cached_property
    def _right(self) -> Tensor:
        return self._counts.diagonal()

    @cached_property
    def _true(self) -> Tensor:
        return self._counts.sum(dim=1)

    @cached_property
    def _predicted(self) -> Tensor:
        return self._counts[:, : len(self._counts)].sum(dim=0)


def _columns(predictions: Tensor, *, num_classes: int, ignore_index: int) -> Tensor | None:
    """Predicted classes, K for void; ``None`` if there are other ids."""
    predictions, low, high = _bounded(predictions)
    if high > num_classes:
        predictions = torch.where(predictions == ignore_index, num_classes, predictions)
        high = int(predictions.max())
    return predictions if low >= 0 and high <= num_classes else None


def _rows(labels: Tensor, *, num_classes: int, ignore_index: int) -> Tensor | None:
    """True classes from 1 on, 0 for void; ``None`` if there are other ids."""
    labels, low, high = _bounded(labels)
    if low < 0 or high > max(ignore_index, num_classes):
        return None
    if ignore_index in _BEFORE_ZERO:  # ten times as fast as a comparison
        rows = labels.to(_BEFORE_ZERO[ignore_index]) + 1
    else:
        rows = torch.where(labels == ignore_index, 0, labels + 1)
    low, high = _bounded(rows)[1:]
    return rows if low >= 0 and high <= num_classes else None


def _bounded(ids: Tensor) -> tuple[Tensor, int, int]:
    """The ids, their minimum and maximum."""
    if ids.dtype not in _ORDERED:
        ids = ids.to(torch.int64)
    low, high = torch.aminmax(ids)
    return ids, int(low), int(high)


def _check(predictions: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int) -> None:
    if predictions.shape != labels.shape:
        found = f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)}"
        raise ValueError(f"{found} differ in shape; resize the class maps to the labels before the argmax")
    if predictions.is_floating_point() or labels.is_floating_point():
        found = f"found {predictions.dtype} predictions and {labels.dtype} labels"
        raise ValueError(f"{found}; class ids are integers: take the argmax of the class maps first")
    if ignore_index < num_classes:
        raise ValueError(f"ignore_index={ignore_index} must be {num_classes} or more: lower ids are classes")


def _wrong_ids(predictions: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int) -> ValueError:
    messages = []
    for name, ids, void in (
        ("predictions", predictions, {num_classes, ignore_index}),
        ("labels", labels, {ignore_index}),
    ):
        found = torch.unique(ids.to(torch.int64)).tolist()
        wrong = [value for value in found if not 0 <= value < num_classes and value not in void]
        if wrong:
            messages.append(
                f"{name} hold ids {wrong[:10]} outside 0..{num_classes - 1} and void {sorted(void)}"
            )
    return ValueError(f"{'; '.join(messages)}; check num_classes and the label table")
