"""Oracles: torchmetrics, the rules of panopticapi written out pixel by pixel, and counts by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from segsweep.labels import IGNORE_INDEX
from segsweep.metrics.confusion import confusion_matrix
from segsweep.metrics.panoptic import (
    SegmentMap,
    match_classes,
    match_panoptic,
    mean_quality,
    panoptic_quality,
    per_class_quality,
)
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from torchmetrics.functional.detection import panoptic_quality as oracle_quality  # noqa: E402

THINGS = (0, 1, 2)
STUFF = (3, 4)


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    """torchmetrics divides integers in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def blobs(generator: np.random.Generator, *, parts: int, side: int = 24) -> torch.Tensor:
    """``(side, side)`` ids 0..parts-1 of the nearest of some random points."""
    points = generator.random((parts, 2)) * side
    rows, columns = np.mgrid[:side, :side]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    return torch.from_numpy(distance.argmin(-1))


def disturbed(
    ids: torch.Tensor, generator: np.random.Generator, *, share: float, values: int
) -> torch.Tensor:
    chosen = torch.from_numpy(generator.random(ids.shape) < share)
    return torch.where(chosen, torch.from_numpy(generator.integers(values, size=ids.shape)), ids)


def brute_force(truth: SegmentMap, prediction: SegmentMap, *, num_classes: int) -> np.ndarray:
    """The rules of panopticapi on sets of pixels; columns IoU sum, TP, FP, FN."""
    true = [set(np.flatnonzero(truth.ids == n + 1)) for n in range(len(truth.classes))]
    predicted = [set(np.flatnonzero(prediction.ids == n + 1)) for n in range(len(prediction.classes))]
    void = set(np.flatnonzero(truth.ids == 0))
    crowd = truth.crowd or [False] * len(true)
    table = np.zeros((num_classes, 4))
    matched_true, matched_predicted = set(), set()
    for i, t in enumerate(true):
        for j, p in enumerate(predicted):
            if crowd[i] or truth.classes[i] != prediction.classes[j] or not t & p:
                continue
            iou = len(t & p) / len(t | (p - void))
            if iou > 0.5:
                table[truth.classes[i], :2] += iou, 1
                matched_true.add(i)
                matched_predicted.add(j)
    for i, t in enumerate(true):
        if t and i not in matched_true and not crowd[i]:
            table[truth.classes[i], 3] += 1
    for j, p in enumerate(predicted):
        ignored = void.union(
            *(t for i, t in enumerate(true) if crowd[i] and truth.classes[i] == prediction.classes[j])
        )
        if p and j not in matched_predicted and len(p & ignored) <= len(p) / 2:
            table[prediction.classes[j], 2] += 1
    return table


def random_maps(seed: int, *, crowds: bool) -> tuple[SegmentMap, SegmentMap]:
    generator = np.random.default_rng(seed)
    parts = int(generator.integers(3, 9))
    ids = blobs(generator, parts=parts + 1)
    classes = generator.integers(5, size=parts).tolist()
    crowd = (generator.random(parts) < 0.3).tolist() if crowds else []
    changed = disturbed(ids, generator, share=float(generator.choice([0.05, 0.3])), values=parts + 2)
    others = [int(c) if generator.random() < 0.8 else int(generator.integers(5)) for c in [*classes, 0]]
    return SegmentMap(ids=ids, classes=classes, crowd=crowd), SegmentMap(ids=changed, classes=others)


@pytest.mark.parametrize("seed", range(25))
def test_table_follows_the_rules_of_panopticapi_with_crowds_and_void(seed: int) -> None:
    truth, prediction = random_maps(seed, crowds=True)
    table = match_panoptic(truth, prediction, num_classes=5)
    np.testing.assert_allclose(table.numpy(), brute_force(truth, prediction, num_classes=5), atol=1e-12)


@pytest.mark.usefixtures("float64_by_default")
def test_things_and_stuff_equal_torchmetrics() -> None:
    generator = np.random.default_rng(3)
    table, pictures = torch.zeros(5, 4, dtype=torch.float64), []
    for _ in range(6):
        ids = blobs(generator, parts=8)
        classes = [*generator.integers(3, size=5).tolist(), 3, 4]  # one segment of each kind of stuff
        changed = disturbed(ids, generator, share=0.15, values=8)
        changed = torch.where(
            changed == 0, 1, changed
        )  # torchmetrics ignores predicted void, the rules do not
        truth, prediction = (SegmentMap(ids=each, classes=classes) for each in (ids, changed))
        table += match_panoptic(truth, prediction, num_classes=5)
        of_class = torch.tensor([IGNORE_INDEX, *classes])
        pictures.append([torch.stack([of_class[each], each], dim=-1) for each in (changed, ids)])
    predicted, target = (torch.stack([picture[side] for picture in pictures]) for side in (0, 1))
    expected = oracle_quality(predicted, target, things=set(THINGS), stuffs=set(STUFF), return_sq_and_rq=True)
    result = panoptic_quality(table, things=THINGS)
    assert (result.all.pq, result.all.sq, result.all.rq) == pytest.approx(expected.tolist(), abs=1e-9)
    per_class = oracle_quality(
        predicted, target, things=set(THINGS), stuffs=set(STUFF), return_sq_and_rq=True, return_per_class=True
    )
    np.testing.assert_allclose(per_class_quality(table).numpy(), per_class.squeeze(0).numpy(), atol=1e-9)
    assert result.things.pq == pytest.approx(float(per_class.squeeze(0)[:3, 0].mean()), abs=1e-9)
    assert result.stuff.pq == pytest.approx(float(per_class.squeeze(0)[3:, 0].mean()), abs=1e-9)


@pytest.mark.usefixtures("float64_by_default")
@pytest.mark.parametrize("void_share", [0.0, 0.4])
def test_class_segments_equal_torchmetrics(void_share: float) -> None:
    generator = np.random.default_rng(5)
    labels = torch.stack([blobs(generator, parts=5) for _ in range(8)])  # class 5 occurs nowhere in the truth
    predictions = disturbed(labels, generator, share=0.3, values=6)
    labels[torch.from_numpy(generator.random(labels.shape) < void_share)] = IGNORE_INDEX
    quality = mean_quality(match_classes(predictions, labels, num_classes=6))
    pictures = [torch.stack([each, torch.zeros_like(each)], dim=-1) for each in (predictions, labels)]
    expected = oracle_quality(*pictures, things=set(), stuffs=set(range(6)), return_sq_and_rq=True)
    assert (quality.pq, quality.sq, quality.rq) == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_class_segments_are_segments_of_one_class_each(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = torch.stack([blobs(generator, parts=6) for _ in range(3)])
    predictions = disturbed(labels, generator, share=0.4, values=6)  # 5 of 5 classes is predicted void
    labels = torch.where(labels == 5, IGNORE_INDEX, labels)
    table = match_classes(predictions, labels, num_classes=5)
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for true, predicted in zip(labels, predictions, strict=True):
        maps = [
            SegmentMap(ids=torch.where(each >= 5, 0, each + 1), classes=range(5))
            for each in (true, predicted)
        ]
        expected += match_panoptic(*maps, num_classes=5)
    torch.testing.assert_close(table, expected, rtol=0, atol=1e-12)


def test_tables_of_images_add_up() -> None:
    labels = torch.tensor([[[0, 0, 0, 1]], [[0, 1, 1, 1]]])
    predictions = torch.tensor([[[0, 0, 0, 0]], [[0, 0, 1, 1]]])
    table = match_classes(predictions, labels, num_classes=2)
    parts = [match_classes(predictions[[i]], labels[[i]], num_classes=2) for i in range(2)]
    assert torch.equal(table, parts[0] + parts[1])
    # by hand: class 0 matches with 3/4, then 1/2 is no match; class 1 is missed, then matches with 2/3
    assert table.tolist() == [[0.75, 1, 1, 1], [pytest.approx(2 / 3), 1, 0, 1]]


def test_quality_cannot_be_had_from_a_matrix_summed_over_images() -> None:
    labels = torch.zeros(2, 1, 4, dtype=torch.int64)
    halves = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 1, 1]]])
    one_right = torch.tensor([[[0, 0, 0, 0]], [[1, 1, 1, 1]]])
    matrices = [confusion_matrix(each, labels, num_classes=2) for each in (halves, one_right)]
    assert torch.equal(*matrices)
    tables = [match_classes(each, labels, num_classes=2) for each in (halves, one_right)]
    assert tables[0].tolist() == [[0, 0, 2, 2], [0, 0, 2, 0]]
    assert tables[1].tolist() == [[1, 1, 0, 1], [0, 0, 1, 0]]


def test_iou_of_one_half_is_no_match() -> None:
    truth = torch.tensor([[[0, 0, 1, 1]]])
    prediction = torch.tensor([[[0, 1, 1, 1]]])
    # by hand: class 0 shares 1 of 2, which is 1/2; class 1 shares 2 of 3
    table = match_classes(prediction, truth, num_classes=2)
    assert table.tolist() == [[0, 0, 1, 1], [pytest.approx(2 / 3), 1, 0, 0]]
    assert mean_quality(table).pq == pytest.approx((0 + 2 / 3) / 2)


@pytest.mark.parametrize(("void", "false"), [(1, 1), (2, 1), (3, 0)])
def test_prediction_with_more_than_half_on_void_is_not_false(void: int, false: int) -> None:
    truth = torch.full((1, 1, 6), 0)
    truth[..., :void] = IGNORE_INDEX
    prediction = torch.tensor([[[1, 1, 1, 1, 0, 0]]])
    assert match_classes(prediction, truth, num_classes=2)[1].tolist() == [0, 0, false, 0]


def test_void_pixels_under_a_prediction_do_not_lower_its_iou() -> None:
    truth = torch.tensor([[[0, 0, 255, 255, 255, 255]]])
    prediction = torch.zeros(1, 1, 6, dtype=torch.int64)
    assert match_classes(prediction, truth, num_classes=1).tolist() == [[1, 1, 0, 0]]


def test_image_that_is_all_void_counts_for_nothing() -> None:
    truth = torch.full((2, 4, 4), IGNORE_INDEX)
    table = match_classes(torch.zeros_like(truth), truth, num_classes=3)
    assert not table.any()
    quality = mean_quality(table)
    assert quality.classes == 0
    assert all(math.isnan(value) for value in (quality.pq, quality.sq, quality.rq))


@pytest.mark.parametrize("void", [2, IGNORE_INDEX])
def test_predicting_void_misses_but_claims_nothing(void: int) -> None:
    truth = torch.tensor([[[0, 0, 0, 1]]])
    table = match_classes(torch.full_like(truth, void), truth, num_classes=2)
    assert table.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]
    partly = match_classes(torch.tensor([[[0, 0, void, 1]]]), truth, num_classes=2)
    assert partly.tolist() == [[pytest.approx(2 / 3), 1, 0, 0], [1, 1, 0, 0]]


def test_crowd_is_neither_matched_nor_missed_and_excuses_its_own_class_only() -> None:
    ids = torch.tensor([[1, 1, 1, 1]])
    truth = SegmentMap(ids=ids, classes=[0], crowd=[True])
    own, other = (SegmentMap(ids=ids, classes=[label]) for label in (0, 1))
    assert match_panoptic(truth, own, num_classes=2).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]
    assert match_panoptic(truth, other, num_classes=2).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]


def test_segmentation_quality_counts_a_class_without_matches_as_zero() -> None:
    table = torch.tensor([[0.8, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=torch.float64)
    quality = mean_quality(table)
    assert (quality.sq, quality.rq, quality.classes) == (pytest.approx(0.4), pytest.approx(0.5), 2)
    assert per_class_quality(table)[2].isnan().all()


def test_empty_maps_of_segments_make_an_empty_table() -> None:
    nothing = SegmentMap(ids=torch.zeros(4, 4, dtype=torch.int64), classes=[])
    assert not match_panoptic(nothing, nothing, num_classes=3).any()


def test_wrong_ids_and_shapes_are_named() -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"predictions hold ids \[7\] outside 0\.\.4"):
        match_classes(labels + 7, labels, num_classes=5)
    with pytest.raises(ValueError, match=r"labels hold ids \[-1\] outside"):
        match_classes(labels, labels - 1, num_classes=5)
    with pytest.raises(ValueError, match="matched image by image"):
        match_classes(labels[0], labels[0], num_classes=5)
    one = SegmentMap(ids=torch.tensor([[0, 2]]), classes=[0])
    with pytest.raises(ValueError, match=r"span 0\.\.2; allowed are 0 \(void\) to 1"):
        match_panoptic(one, one, num_classes=5)
    with pytest.raises(ValueError, match=r"classes \[5\] outside 0\.\.4"):
        match_panoptic(SegmentMap(ids=one.ids, classes=[0, 5]), one, num_classes=5)
    with pytest.raises(ValueError, match="differ in shape"):
        match_panoptic(SegmentMap(ids=torch.zeros(2, 2), classes=[]), one, num_classes=5)
    with pytest.raises(ValueError, match="1 crowd flags for 2 segments"):
        SegmentMap(ids=one.ids, classes=[0, 1], crowd=[True])
