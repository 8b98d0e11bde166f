"""From masks to segments, on images of a few pixels worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from segsweep.models.heads.mask_classification import MaskOutput
from segsweep.models.heads.panoptic_inference import (
    ADE_THRESHOLDS,
    COCO_THRESHOLDS,
    PanopticThresholds,
    panoptic_segments,
)
from segsweep.models.layers.padding import Frame

CLASSES = 3
SKY, CAR, ROAD = range(CLASSES)
THINGS = {CAR}


def output(
    queries: list[tuple[int, float]], masks: list[list[float]], frame: Frame | None = None
) -> MaskOutput:
    """One image of one row; each query has a class with a probability, the other classes share the rest."""
    classes = torch.empty(1, len(queries), CLASSES + 1)
    for query, (class_id, probability) in enumerate(queries):
        classes[0, query] = torch.tensor((1 - probability) / CLASSES).log()
        classes[0, query, class_id] = torch.tensor(probability).log()
    return MaskOutput(logits=torch.tensor([masks])[:, :, None], class_logits=classes, frame=frame)


def ids(found: Tensor) -> list[int]:
    return found[0].tolist()


def test_things_stay_apart_and_stuff_is_merged() -> None:
    masks = [[9.0, -9, -9, -9], [-9.0, 9, -9, -9], [-9.0, -9, 9, -9], [-9.0, -9, -9, 9]]
    found = output([(CAR, 0.95), (CAR, 0.9), (ROAD, 0.95), (ROAD, 0.9)], masks)
    ((segment_ids, segments),) = panoptic_segments(found, (1, 4), things=THINGS)
    assert ids(segment_ids) == [1, 2, 3, 3]
    assert [(s.id, s.class_id, s.area) for s in segments] == [(1, CAR, 1), (2, CAR, 1), (3, ROAD, 2)]
    assert [round(s.score, 2) for s in segments] == [0.95, 0.9, 0.95]


def test_a_query_that_keeps_too_little_of_its_mask_gets_nothing() -> None:
    """The second mask covers three pixels, of which the first leaves it two: 2 / 3 is below 0.8."""
    masks = [[9.0, 9, -9, -9], [-9.0, 6, 6, 6]]
    found = output([(CAR, 0.95), (ROAD, 0.9)], masks)
    ((strict, segments),) = panoptic_segments(found, (1, 4), things=THINGS)
    assert ids(strict) == [1, 1, 0, 0]
    assert len(segments) == 1
    loose = PanopticThresholds(overlap=0.6)
    ((kept, _),) = panoptic_segments(found, (1, 4), things=THINGS, thresholds=loose)
    assert ids(kept) == [1, 1, 2, 2]


def test_doubtful_and_empty_queries_take_no_part() -> None:
    masks = [[9.0, 9], [9.0, 9], [9.0, 9]]
    found = output([(CAR, 0.75), (CLASSES, 0.99), (SKY, 0.72)], masks)
    ((coco, segments),) = panoptic_segments(found, (1, 2), things=THINGS, thresholds=COCO_THRESHOLDS)
    assert ids(coco) == [0, 0]
    assert segments == ()
    ((ade, segments),) = panoptic_segments(found, (1, 2), things=THINGS, thresholds=ADE_THRESHOLDS)
    assert ids(ade) == [1, 1]
    assert [s.class_id for s in segments] == [CAR]


def test_a_mask_that_is_nowhere_sure_gets_nothing() -> None:
    """It owns every pixel but has no area at probability 0.5."""
    ((found, segments),) = panoptic_segments(output([(CAR, 0.95)], [[-1.0, -1]]), (1, 2), things=THINGS)
    assert ids(found) == [0, 0]
    assert segments == ()


def test_padding_belongs_to_no_segment() -> None:
    """Eight columns are one mask each of two; the image has six of the eight pixels."""
    masks = [[9.0] * 4 + [-9.0] * 4, [-9.0] * 4 + [9.0] * 4]
    found = output([(CAR, 0.95), (ROAD, 0.95)], masks, Frame((1, 6), (1, 8)))
    ((segment_ids, segments),) = panoptic_segments(found, (1, 6), things=THINGS)
    assert ids(segment_ids) == [1, 1, 1, 1, 2, 2]
    assert [s.area for s in segments] == [4, 2]
    ((large, _),) = panoptic_segments(found, (2, 12), things=THINGS)
    assert large.shape == (2, 12)
