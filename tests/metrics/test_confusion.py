"""Oracles: scikit-learn, torchmetrics, and counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from segsweep.labels import IGNORE_INDEX, IGNORE_INDEX_16
from segsweep.metrics.confusion import (
    confusion_matrix,
    frequency_weighted_iou,
    mean_accuracy,
    mean_iou,
    per_class_iou,
    pixel_accuracy,
)
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from torchmetrics.classification import MulticlassJaccardIndex  # noqa: E402  # imports torchvision


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Predictions, labels with ignored pixels (one at least is kept), number of classes."""
    num_classes = draw(st.integers(2, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    used = draw(st.integers(1, num_classes))  # so that some classes occur nowhere
    labels = generator.integers(used, size=shape)
    labels[generator.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = IGNORE_INDEX
    labels.flat[0] = 0
    predictions = generator.integers(draw(st.integers(1, num_classes)), size=shape)
    return torch.from_numpy(predictions), torch.from_numpy(labels), num_classes


@given(label_maps())
def test_matrix_equals_scikit_learn(maps: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    predictions, labels, num_classes = maps
    kept = labels != IGNORE_INDEX
    expected = sklearn_confusion_matrix(labels[kept], predictions[kept], labels=range(num_classes))
    matrix = confusion_matrix(predictions, labels, num_classes=num_classes)
    assert matrix.dtype == torch.int64
    np.testing.assert_array_equal(matrix, expected)


@given(label_maps())
@settings(deadline=None)
def test_mean_iou_equals_scikit_learn_and_torchmetrics(maps: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    predictions, labels, num_classes = maps
    kept = labels != IGNORE_INDEX
    result = mean_iou(confusion_matrix(predictions, labels, num_classes=num_classes))
    # without labels= scikit-learn averages over the classes in the truth or the predictions
    assert result == pytest.approx(jaccard_score(labels[kept], predictions[kept], average="macro"))
    index = MulticlassJaccardIndex(num_classes, ignore_index=IGNORE_INDEX)
    assert result == pytest.approx(float(index(predictions, labels)), abs=1e-6)


@given(label_maps())
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_accuracies_equal_scikit_learn(maps: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    predictions, labels, num_classes = maps
    kept = labels != IGNORE_INDEX
    matrix = confusion_matrix(predictions, labels, num_classes=num_classes)
    assert pixel_accuracy(matrix) == pytest.approx(accuracy_score(labels[kept], predictions[kept]))
    assert mean_accuracy(matrix) == pytest.approx(balanced_accuracy_score(labels[kept], predictions[kept]))


@given(label_maps())
def test_frequency_weighted_iou_equals_weighted_jaccard(maps: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    predictions, labels, num_classes = maps
    kept = labels != IGNORE_INDEX
    expected = jaccard_score(labels[kept], predictions[kept], average="weighted")
    matrix = confusion_matrix(predictions, labels, num_classes=num_classes)
    assert frequency_weighted_iou(matrix) == pytest.approx(expected)


@given(label_maps(), st.integers(0, 3))
def test_matrices_of_the_parts_add_up_to_that_of_the_whole(
    maps: tuple[torch.Tensor, torch.Tensor, int], cut: int
) -> None:
    predictions, labels, num_classes = maps
    parts = [
        confusion_matrix(predictions[part], labels[part], num_classes=num_classes)
        for part in (slice(None, cut), slice(cut, None))
    ]
    assert torch.equal(parts[0] + parts[1], confusion_matrix(predictions, labels, num_classes=num_classes))


def test_ignored_pixels_do_not_count() -> None:
    labels = torch.tensor([[0, 1, IGNORE_INDEX]])
    predictions = torch.tensor([[0, 0, 1]])
    matrix = confusion_matrix(predictions, labels, num_classes=2)
    assert mean_iou(matrix) == pytest.approx((1 / 2 + 0 / 1) / 2)  # by hand: class 0 1/2, class 1 0/1


def test_class_that_occurs_nowhere_is_left_out_of_the_mean() -> None:
    matrix = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(per_class_iou(matrix), [3 / 4, 2 / 3, math.nan])
    assert mean_iou(matrix) == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_class_that_is_only_predicted_counts_as_zero() -> None:
    matrix = torch.tensor([[3, 1], [0, 0]])
    assert mean_iou(matrix) == pytest.approx((3 / 4 + 0) / 2)
    assert mean_accuracy(matrix) == pytest.approx(3 / 4)  # recall is not defined for it


def test_nothing_counted_is_nan_and_not_zero() -> None:
    labels = torch.full((1, 4), IGNORE_INDEX)
    matrix = confusion_matrix(torch.zeros(1, 4, dtype=torch.int64), labels, num_classes=3)
    assert int(matrix.sum()) == 0
    for metric in (mean_iou, pixel_accuracy, mean_accuracy, frequency_weighted_iou):
        assert math.isnan(metric(matrix))


def test_batch_without_images_counts_nothing() -> None:
    empty = torch.empty(0, 4, 4, dtype=torch.int64)
    assert torch.equal(confusion_matrix(empty, empty, num_classes=2), torch.zeros(2, 2, dtype=torch.int64))


def test_sixteen_bit_labels_with_their_own_ignore_index() -> None:
    labels = torch.tensor([[0, 846, IGNORE_INDEX_16]], dtype=torch.uint16)
    predictions = torch.tensor([[0, 846, 3]])
    matrix = confusion_matrix(predictions, labels, num_classes=847, ignore_index=IGNORE_INDEX_16)
    assert (int(matrix.sum()), int(matrix[846, 846])) == (2, 1)


def test_undeclared_label_is_named() -> None:
    with pytest.raises(ValueError, match=r"labels hold ids \[7, 9\] outside 0\.\.2 and ignore_index=255"):
        confusion_matrix(torch.zeros(3, dtype=torch.int64), torch.tensor([7, 9, 0]), num_classes=3)


def test_negative_label_is_named_unless_it_is_the_ignore_index() -> None:
    labels, predictions = torch.tensor([-1, 0, 1]), torch.tensor([1, 0, 0])
    with pytest.raises(ValueError, match=r"labels hold ids \[-1\] outside 0\.\.1 and ignore_index=255"):
        confusion_matrix(predictions, labels, num_classes=2)
    matrix = confusion_matrix(predictions, labels, num_classes=2, ignore_index=-1)
    assert matrix.tolist() == [[1, 0], [1, 0]]


def test_inputs_are_left_as_they_were() -> None:
    labels = torch.tensor([0, IGNORE_INDEX], dtype=torch.int32)
    predictions = torch.tensor([1, 1], dtype=torch.int32)
    confusion_matrix(predictions, labels, num_classes=2)
    assert (labels.tolist(), predictions.tolist()) == ([0, IGNORE_INDEX], [1, 1])


def test_prediction_outside_the_classes_is_named() -> None:
    with pytest.raises(ValueError, match=r"predictions hold ids \[-1, 3\] outside 0\.\.2"):
        confusion_matrix(torch.tensor([-1, 3, 0]), torch.zeros(3, dtype=torch.int64), num_classes=3)


def test_maps_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\) and labels \(1, 4\) differ"):
        confusion_matrix(
            torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64), num_classes=2
        )


def test_logits_instead_of_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="argmax"):
        confusion_matrix(torch.zeros(2), torch.zeros(2, dtype=torch.int64), num_classes=2)


def test_ignore_index_among_the_classes_is_refused() -> None:
    ids = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="ignore_index=1 is a class id"):
        confusion_matrix(ids, ids, num_classes=2, ignore_index=1)
