"""How sure an mIoU is: the bootstrap over the images of a validation split.

The mIoU of a split is computed from counts summed over its images, so a resampled split needs three counts
per image and class and no picture (Efron & Tibshirani 1993, Sec. 13.3: percentile intervals).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95


def image_counts(matrix: NDArray[Any]) -> NDArray[np.int64]:
    """What the IoU of each class needs from one image.

    Args:
        matrix: Its confusion matrix, ``(K, K)``, rows are the truth.

    Returns:
        ``(3, K)`` pixels: rightly predicted, in the labels, in the prediction.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    return np.stack([counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)])


def mean_iou_of(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Mean IoU of summed counts ``(..., 3, K)``; classes that occur nowhere are left out; ``(...)``."""
    right, labelled, predicted = np.moveaxis(np.asarray(counts, dtype=np.float64), -2, 0)
    union = labelled + predicted - right
    occurs = union > 0
    iou = np.divide(right, union, out=np.zeros_like(right), where=occurs)
    number = occurs.sum(axis=-1)
    found = np.full(number.shape, np.nan)
    np.divide(iou.sum(axis=-1), number, out=found, where=number > 0)
    return found


def resampled_mean_iou(
    counts: NDArray[Any], *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """mIoU of splits drawn from the images with replacement.

    Two models on the same images and with the same seed meet the same splits, so their difference is paired.

    Args:
        counts: ``(n, 3, K)``, see ``image_counts``.
        resamples: Number of splits.
        seed: Of the draw.

    Returns:
        ``(resamples,)``.
    """
    images = len(counts)
    if images == 0:
        raise ValueError("no image to draw from; count at least one")
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    flat = np.asarray(counts, dtype=np.float64).reshape(images, -1)
    return mean_iou_of((draws.astype(np.float64) @ flat).reshape(resamples, *counts.shape[1:]))


def percentile_interval(values: NDArray[np.float64], *, level: float = LEVEL) -> tuple[float, float]:
    """The middle ``level`` of the values: lower and upper end."""
    low, high = np.nanpercentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
