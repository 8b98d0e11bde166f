"""Oracles: scikit-learn, torchmetrics, and counts by hand for the cases on which tools disagree."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from segsweep.labels import IGNORE_INDEX, IGNORE_INDEX_16
from segsweep.metrics.panoptic import mean_quality
from segsweep.metrics.scores import SegmentationScores, class_segments, pixel_counts
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from torchmetrics.classification import MulticlassJaccardIndex  # noqa: E402  # imports torchvision
from torchmetrics.functional.detection import panoptic_quality as oracle_quality  # noqa: E402

Maps = tuple[torch.Tensor, torch.Tensor, int]


@st.composite
def label_maps(draw: st.DrawFn) -> Maps:
    """Predictions (void is K), labels with ignored pixels (one at least is kept), number of classes."""
    num_classes = draw(st.integers(2, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    labels = generator.integers(draw(st.integers(1, num_classes)), size=shape)
    labels[generator.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = IGNORE_INDEX
    labels.flat[0] = 0
    predictions = generator.integers(draw(st.integers(1, num_classes + 1)), size=shape)
    return torch.from_numpy(predictions), torch.from_numpy(labels), num_classes


def scores_of(predictions: list[int], labels: list[int], *, num_classes: int) -> SegmentationScores:
    counts = pixel_counts(torch.tensor(predictions), torch.tensor(labels), num_classes=num_classes)
    return SegmentationScores(counts[:-1])


def quality_of(predictions: list[int], labels: list[int], *, num_classes: int) -> float:
    counts = pixel_counts(torch.tensor(predictions), torch.tensor(labels), num_classes=num_classes)
    return mean_quality(class_segments(counts)).pq


@given(label_maps())
def test_counts_equal_scikit_learn_with_void_as_one_more_class(maps: Maps) -> None:
    predictions, labels, num_classes = maps
    truth = torch.where(labels == IGNORE_INDEX, num_classes, labels)
    expected = sklearn_confusion_matrix(truth.ravel(), predictions.ravel(), labels=range(num_classes + 1))
    counts = pixel_counts(predictions, labels, num_classes=num_classes)
    assert counts.dtype == torch.int64
    np.testing.assert_array_equal(counts, expected)


@given(label_maps())
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_scores_equal_scikit_learn_and_torchmetrics(maps: Maps) -> None:
    predictions, labels, num_classes = maps
    predictions = predictions.clamp(max=num_classes - 1)  # they know no void
    scores = SegmentationScores(pixel_counts(predictions, labels, num_classes=num_classes)[:-1])
    kept = labels != IGNORE_INDEX
    truth, found = labels[kept], predictions[kept]
    assert scores.miou == pytest.approx(jaccard_score(truth, found, average="macro"), abs=1e-12)
    assert scores.fwiou == pytest.approx(jaccard_score(truth, found, average="weighted"), abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(truth, found), abs=1e-12)
    assert scores.mean_accuracy == pytest.approx(balanced_accuracy_score(truth, found), abs=1e-12)
    occurring = sorted(set(truth.tolist()))
    in_truth = jaccard_score(truth, found, average="macro", labels=occurring)
    assert scores.miou_gt == pytest.approx(in_truth, abs=1e-12)
    index = MulticlassJaccardIndex(num_classes, ignore_index=IGNORE_INDEX)
    assert scores.miou == pytest.approx(float(index(predictions, labels)), abs=1e-6)


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    """torchmetrics divides integers in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64_by_default")
@pytest.mark.parametrize("void_share", [0.0, 0.4])
def test_class_segments_of_counts_equal_torchmetrics(void_share: float) -> None:
    generator = np.random.default_rng(1)
    labels = torch.from_numpy(np.repeat(generator.integers(5, size=(8, 4, 4)), 6, axis=2))
    chosen = torch.from_numpy(generator.random(labels.shape) < 0.3)
    predictions = torch.where(chosen, torch.from_numpy(generator.integers(6, size=labels.shape)), labels)
    labels[torch.from_numpy(generator.random(labels.shape) < void_share)] = IGNORE_INDEX
    counts = torch.stack(
        [pixel_counts(found, truth, num_classes=6) for found, truth in zip(predictions, labels, strict=True)]
    )
    quality = mean_quality(class_segments(counts).sum(0))
    pictures = [torch.stack([each, torch.zeros_like(each)], dim=-1) for each in (predictions, labels)]
    expected = oracle_quality(*pictures, things=set(), stuffs=set(range(6)), return_sq_and_rq=True)
    assert (quality.pq, quality.sq, quality.rq) == pytest.approx(expected.tolist(), abs=1e-9)


def test_class_that_is_only_predicted_counts_as_zero_in_the_union_but_not_in_gt() -> None:
    scores = scores_of([0, 0, 0, 1], [0, 0, 0, 0], num_classes=2)
    assert scores.iou.tolist() == [0.75, 0.0]
    assert (scores.miou, scores.miou_gt) == (pytest.approx(0.375), pytest.approx(0.75))
    assert scores.mean_accuracy == pytest.approx(0.75)


def test_class_that_is_nowhere_is_left_out() -> None:
    scores = scores_of([0, 0, 1], [0, 0, 1], num_classes=5)
    assert scores.iou[:2].tolist() == [1, 1] and scores.iou[2:].isnan().all()
    assert scores.miou == scores.miou_gt == 1


def test_class_that_is_predicted_on_ignored_pixels_only_is_left_out() -> None:
    scores = scores_of([0, 1, 1], [0, IGNORE_INDEX, IGNORE_INDEX], num_classes=2)
    assert scores.iou[0] == 1 and scores.iou[1].isnan()
    assert scores.miou == 1


def test_segment_with_an_iou_of_one_half_does_not_match() -> None:
    # by hand: class 0 shares 1 of 2, no match: one false, one missed; class 1 shares 2 of 3
    assert quality_of([0, 1, 1, 1], [0, 0, 1, 1], num_classes=2) == pytest.approx((0 + 2 / 3) / 2)


@pytest.mark.parametrize(("on_void", "false"), [(2, 1), (3, 0)])
def test_segment_of_which_half_lies_on_void_is_false_and_more_is_not(on_void: int, false: int) -> None:
    labels = torch.tensor([IGNORE_INDEX] * on_void + [0] * (6 - on_void))
    predictions = torch.tensor([1, 1, 1, 1, 0, 0])
    table = class_segments(pixel_counts(predictions, labels, num_classes=2))
    assert table[1].tolist() == [0, 0, false, 0]


def test_image_that_is_all_void_counts_for_nothing() -> None:
    counts = pixel_counts(torch.zeros(4, 4, dtype=torch.int64), torch.full((4, 4), 255), num_classes=3)
    assert not counts[:-1].any() and not class_segments(counts).any()
    scores = SegmentationScores(counts[:-1])
    values = (scores.miou, scores.miou_gt, scores.pixel_accuracy, scores.mean_accuracy, scores.fwiou)
    assert all(math.isnan(value) for value in values)


@pytest.mark.parametrize("void", [2, IGNORE_INDEX])
def test_void_prediction_is_missed_and_belongs_to_no_class(void: int) -> None:
    scores = scores_of([0, void, 1, void], [0, 0, 1, 1], num_classes=2)
    assert scores.matrix.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert scores.iou.tolist() == [0.5, 0.5]  # by hand: 1 right, 1 missed, nothing false
    assert (scores.pixel_accuracy, scores.void_share) == (0.5, 0.5)


def test_score_of_the_ade20k_server_is_the_mean_of_two() -> None:
    scores = scores_of([0, 0, 1, 1], [0, 0, 0, 1], num_classes=2)
    assert scores.ade_score == pytest.approx((3 / 4 + (2 / 3 + 1 / 2) / 2) / 2)


def test_square_matrix_is_one_without_void_predictions() -> None:
    matrix = torch.tensor([[3, 1], [2, 4]])
    with_void = torch.cat([matrix, torch.zeros(2, 1, dtype=torch.int64)], dim=1)
    assert torch.equal(SegmentationScores(matrix).iou, SegmentationScores(with_void).iou)
    assert SegmentationScores(matrix).void_share == 0


def test_sixteen_bit_labels_have_their_own_void() -> None:
    labels = torch.tensor([0, 846, IGNORE_INDEX_16], dtype=torch.uint16)
    predictions = torch.tensor([0, 846, 847])
    counts = pixel_counts(predictions, labels, num_classes=847, ignore_index=IGNORE_INDEX_16)
    assert (counts.sum(), counts[0, 0], counts[846, 846], counts[847, 847]) == (3, 1, 1, 1)


def test_many_classes_and_pixels_are_counted_to_the_last() -> None:
    generator = np.random.default_rng(0)
    labels = torch.from_numpy(generator.integers(150, size=100_003))
    predictions = torch.from_numpy(generator.integers(150, size=100_003))
    expected = sklearn_confusion_matrix(labels, predictions, labels=range(151))
    np.testing.assert_array_equal(pixel_counts(predictions, labels, num_classes=150), expected)


@pytest.mark.parametrize("ignore_index", [200, IGNORE_INDEX, 1000, IGNORE_INDEX_16])
@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.int32, torch.int64])
def test_any_void_id_and_integer_type_count_the_same(ignore_index: int, dtype: torch.dtype) -> None:
    if ignore_index > torch.iinfo(dtype).max:
        dtype = torch.int32
    labels = torch.tensor([0, 0, 1, ignore_index]).to(dtype)
    predictions = torch.tensor([0, 2, ignore_index, 1])
    counts = pixel_counts(predictions, labels, num_classes=2, ignore_index=ignore_index)
    assert counts.tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    wrong = torch.tensor([0, 0, 1, ignore_index - 1]).to(dtype)
    with pytest.raises(ValueError, match=rf"labels hold ids \[{ignore_index - 1}\]"):
        pixel_counts(predictions, wrong, num_classes=2, ignore_index=ignore_index)


def test_bytes_are_counted_and_left_as_they_were() -> None:
    labels = torch.tensor([0, 1, 255], dtype=torch.uint8)
    counts = pixel_counts(torch.tensor([0, 0, 1], dtype=torch.uint8), labels, num_classes=2)
    assert counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert labels.tolist() == [0, 1, 255]


def test_wrong_ids_shapes_and_types_are_named() -> None:
    ids = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=r"labels hold ids \[7\] outside 0\.\.2 and void \[255\]"):
        pixel_counts(ids, torch.tensor([0, 7, 255]), num_classes=3)
    with pytest.raises(ValueError, match=r"labels hold ids \[-1, 256\]"):
        pixel_counts(ids, torch.tensor([0, 256, -1]), num_classes=3)
    with pytest.raises(ValueError, match=r"labels hold ids \[3\]"):
        pixel_counts(ids, torch.tensor([0, 3, 1]), num_classes=3)
    with pytest.raises(
        ValueError, match=r"predictions hold ids \[-1, 9\] outside 0\.\.2 and void \[3, 255\]"
    ):
        pixel_counts(torch.tensor([-1, 9, 3]), ids, num_classes=3)
    with pytest.raises(ValueError, match=r"predictions hold ids \[9\] .* labels hold ids \[40000\]"):
        pixel_counts(torch.tensor([9]), torch.tensor([40000]), num_classes=3, ignore_index=IGNORE_INDEX_16)
    with pytest.raises(ValueError, match=r"\(3,\) and labels \(2,\) differ in shape"):
        pixel_counts(ids, ids[:2], num_classes=3)
    with pytest.raises(ValueError, match="take the argmax"):
        pixel_counts(ids.float(), ids, num_classes=3)
    with pytest.raises(ValueError, match="ignore_index=2 must be 3 or more"):
        pixel_counts(ids, ids, num_classes=3, ignore_index=2)


def test_no_pixels_count_nothing() -> None:
    empty = torch.empty(0, 4, dtype=torch.int64)
    assert torch.equal(pixel_counts(empty, empty, num_classes=2), torch.zeros(3, 3, dtype=torch.int64))
