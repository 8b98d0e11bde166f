"""Pixel metrics from one int64 confusion matrix over a whole split.

The matrix of a split is the sum of the matrices of its batches (and of its workers), so no metric
here is ever a mean of per-image values. All results are shares in [0, 1]; per cent only in reports.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segsweep.labels import IGNORE_INDEX


def confusion_matrix(
    predictions: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Count pixels by true and predicted class.

    Args:
        predictions: Class ids in ``0..num_classes-1``, any integer type and shape.
        labels: Class ids or ``ignore_index``, same shape and device.
        num_classes: K.
        ignore_index: Label of pixels that do not count, outside ``0..num_classes-1``.

    Returns:
        ``(K, K)`` int64, rows are the truth, columns the prediction.

    Raises:
        ValueError: If shapes differ or an id is outside the classes; the message names the ids.
    """
    _check_shapes(predictions, labels, num_classes=num_classes, ignore_index=ignore_index)
    if predictions.numel() == 0:
        return torch.zeros(num_classes, num_classes, dtype=torch.int64, device=labels.device)
    labels = labels.reshape(-1).to(torch.int32)
    predictions = predictions.reshape(-1).to(torch.int32)
    _check_ids("predictions", predictions, num_classes=num_classes)
    # Labels from K on share one row, which is dropped: clamping is ten times faster than masking.
    rows = (labels if ignore_index >= 0 else labels.where(labels != ignore_index, num_classes)).clamp(
        max=num_classes
    )
    if int(rows.min()) < 0:
        _check_ids("labels", labels, num_classes=num_classes, ignore_index=ignore_index)
    bins = torch.bincount(
        torch.add(predictions, rows, alpha=num_classes), minlength=(num_classes + 1) * num_classes
    )
    counts = bins.view(num_classes + 1, num_classes)
    if int(counts[num_classes].sum()) != int(torch.count_nonzero(labels == ignore_index)):
        _check_ids("labels", labels, num_classes=num_classes, ignore_index=ignore_index)
    return counts[:num_classes]


def per_class_iou(matrix: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        matrix: ``(K, K)`` counts, rows are the truth.

    Returns:
        ``(K,)`` float64. NaN for a class that occurs neither in the labels nor in the predictions;
        0 for one that is only predicted, as in Cityscapes' and mmsegmentation's definition.
    """
    counts = matrix.to(torch.float64)
    intersection = counts.diagonal()
    return intersection / (counts.sum(dim=0) + counts.sum(dim=1) - intersection)  # 0 / 0 is NaN


def mean_iou(matrix: Tensor) -> float:
    """Mean of ``per_class_iou`` over the classes where it is defined; NaN if no pixel counted."""
    return float(per_class_iou(matrix).nanmean())


def pixel_accuracy(matrix: Tensor) -> float:
    """Share of counted pixels with the right class; NaN if no pixel counted."""
    counts = matrix.to(torch.float64)
    return float(counts.diagonal().sum() / counts.sum())


def mean_accuracy(matrix: Tensor) -> float:
    """Mean recall over the classes that occur in the labels; NaN if no pixel counted."""
    counts = matrix.to(torch.float64)
    return float((counts.diagonal() / counts.sum(dim=1)).nanmean())


def frequency_weighted_iou(matrix: Tensor) -> float:
    """IoU weighted by each class's share of the labels; NaN if no pixel counted."""
    frequency = matrix.sum(dim=1).to(torch.float64) / matrix.sum()
    return float((frequency * per_class_iou(matrix)).nansum()) if matrix.sum() else float("nan")


def _check_shapes(predictions: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int) -> None:
    if predictions.shape != labels.shape:
        found = f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)}"
        raise ValueError(f"{found} differ in shape; resize the logits to the labels before the argmax")
    if predictions.is_floating_point() or labels.is_floating_point():
        raise ValueError(
            f"found {predictions.dtype} predictions and {labels.dtype} labels; class ids are integers: "
            "take the argmax of the logits first"
        )
    if 0 <= ignore_index < num_classes:
        raise ValueError(
            f"ignore_index={ignore_index} is a class id (0..{num_classes - 1}); choose one outside"
        )


def _check_ids(name: str, ids: Tensor, *, num_classes: int, ignore_index: int | None = None) -> None:
    low, high = torch.aminmax(ids)
    if int(low) >= 0 and int(high) < num_classes:
        return
    wrong = torch.unique(ids[(ids < 0) | (ids >= num_classes)]).tolist()
    wrong = [found for found in wrong if found != ignore_index]
    allowed = f"0..{num_classes - 1}" + ("" if ignore_index is None else f" and ignore_index={ignore_index}")
    raise ValueError(f"{name} hold ids {wrong[:10]} outside {allowed}; check num_classes and the label table")
