"""Intervals of an mIoU: against a resampling that concatenates the images themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segsweep.metrics.bootstrap import image_counts, mean_iou_of, percentile_interval, resampled_mean_iou
from segsweep.metrics.confusion import confusion_matrix, mean_iou

CLASSES = 4


def _matrices(images: int, *, seed: int = 0) -> NDArray[np.int64]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(images):
        labels = torch.randint(
            0, CLASSES - 1, (8, 8), generator=generator
        )  # the last class is only predicted
        wrong = torch.rand(8, 8, generator=generator) < 0.3
        predictions = torch.where(wrong, torch.randint(0, CLASSES, (8, 8), generator=generator), labels)
        found.append(confusion_matrix(predictions, labels, num_classes=CLASSES).numpy())
    return np.stack(found)


def test_counts_summed_over_images_give_the_miou_of_the_split() -> None:
    matrices = _matrices(7)
    counts = np.stack([image_counts(matrix) for matrix in matrices])
    assert float(mean_iou_of(counts.sum(axis=0))) == pytest.approx(
        mean_iou(torch.from_numpy(matrices.sum(0)))
    )


def test_a_class_that_occurs_nowhere_is_left_out() -> None:
    matrix = np.diag([5, 5, 0, 0]) + np.eye(4, k=1, dtype=int) * np.array([5, 0, 0, 0])[:, None]
    # class 0: 5 of 10, class 1: 5 of 10, classes 2 and 3 nowhere
    assert float(mean_iou_of(image_counts(matrix))) == pytest.approx(0.5)
    assert np.isnan(mean_iou_of(np.zeros((3, 4))))


def test_resampled_splits_are_those_of_the_drawn_images() -> None:
    matrices = _matrices(5)
    counts = np.stack([image_counts(matrix) for matrix in matrices])
    found = resampled_mean_iou(counts, resamples=20, seed=3)
    draws = np.random.default_rng(3).multinomial(5, [0.2] * 5, size=20)
    expected = [
        mean_iou(torch.from_numpy(sum(matrices[i] for i in range(5) for _ in range(draw[i]))))
        for draw in draws
    ]
    assert found == pytest.approx(expected)


def test_the_interval_covers_the_true_value_as_often_as_it_says() -> None:
    """150 splits of 60 images with equally frequent classes, three pixels in ten of which are guessed.

    So 0.7 + 0.3 / 4 of all pixels are right, and every class has the IoU 0.775 / (2 - 0.775).
    """
    rng = np.random.default_rng(0)

    def drawn(images: int) -> NDArray[np.int64]:
        labels = rng.integers(0, CLASSES, (images, 64))
        guessed = rng.random((images, 64)) < 0.3
        predictions = np.where(guessed, rng.integers(0, CLASSES, (images, 64)), labels)
        cells = np.arange(images)[:, None] * CLASSES**2 + labels * CLASSES + predictions
        matrices = np.bincount(cells.ravel(), minlength=images * CLASSES**2)
        return np.stack([image_counts(matrix) for matrix in matrices.reshape(images, CLASSES, CLASSES)])

    intervals = [percentile_interval(resampled_mean_iou(drawn(60), resamples=300)) for _ in range(150)]
    covered = sum(low <= 0.775 / 1.225 <= high for low, high in intervals)
    assert 133 <= covered <= 149  # 142.5 expected, with a standard deviation of 2.7


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        resampled_mean_iou(np.zeros((0, 3, 4)))
