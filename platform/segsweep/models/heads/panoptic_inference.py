"""From masks and classes to segments (MaskFormer, Sec. 3.3, general inference; panoptic form)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from segsweep.models.heads.mask_classification import MaskOutput

VOID_SEGMENT = 0
_INSIDE = 0.5  # of a mask's probability


@dataclass(frozen=True, kw_only=True)
class PanopticThresholds:
    """What a query needs to become a segment.

    Attributes:
        score: Its class probability must exceed this.
        overlap: The share of its own mask that is left to it must reach this.
    """

    score: float = 0.8
    overlap: float = 0.8


COCO_THRESHOLDS = PanopticThresholds()  # MaskFormer, Sec. 4.1
ADE_THRESHOLDS = PanopticThresholds(score=0.7)


class Segment(NamedTuple):
    """One segment of an image.

    Attributes:
        id: Its value in the map, from 1.
        class_id: Its class.
        score: Class probability of the query; of the first one where stuff was merged.
        area: Pixels.
    """

    id: int
    class_id: int
    score: float
    area: int


class PanopticPrediction(NamedTuple):
    """Segments of an image.

    Attributes:
        ids: ``(H, W)`` int64, 0 where there is none.
        segments: One for each other value in ``ids``.
    """

    ids: Tensor
    segments: tuple[Segment, ...]


@torch.no_grad()
def panoptic_segments(
    output: MaskOutput,
    size: tuple[int, int],
    *,
    things: Collection[int],
    thresholds: PanopticThresholds = COCO_THRESHOLDS,
) -> list[PanopticPrediction]:
    """Give every pixel to the kept query that scores best there; queries that keep too little of their mask
    get nothing. Masks are resized before pixels are given away.

    Args:
        output: Of a model in either mode.
        size: Height and width of the maps in pixels.
        things: Classes with instances; segments of any other class are merged to one.
        thresholds: Which queries become segments.

    Returns:
        One prediction for each image.
    """
    return [
        _image_segments(output, image, size, things=things, thresholds=thresholds)
        for image in range(len(output.logits))
    ]


def _image_segments(
    output: MaskOutput,
    image: int,
    size: tuple[int, int],
    *,
    things: Collection[int],
    thresholds: PanopticThresholds,
) -> PanopticPrediction:
    probabilities = output.probabilities(image)
    scores, classes = probabilities.max(-1)
    kept = (classes != probabilities.shape[-1] - 1) & (scores > thresholds.score)
    ids = torch.full(size, VOID_SEGMENT, device=scores.device)
    if not kept.any():
        return PanopticPrediction(ids, ())
    masks = output.masks(image, size)[kept].sigmoid()
    owners = (scores[kept, None, None] * masks).argmax(0)
    owned = torch.bincount(owners.flatten(), minlength=len(masks)).tolist()
    own = (masks >= _INSIDE).flatten(1).sum(1).tolist()
    segments: list[Segment] = []
    stuff: dict[int, int] = {}  # class -> place in segments
    for query, (class_id, score) in enumerate(
        zip(classes[kept].tolist(), scores[kept].tolist(), strict=True)
    ):
        if not owned[query] or not own[query] or owned[query] / own[query] < thresholds.overlap:
            continue
        place = stuff.get(class_id, len(segments)) if class_id not in things else len(segments)
        if place == len(segments):
            segments.append(Segment(id=place + 1, class_id=class_id, score=score, area=0))
            if class_id not in things:
                stuff[class_id] = place
        ids[owners == query] = place + 1
        segments[place] = segments[place]._replace(area=segments[place].area + owned[query])
    return PanopticPrediction(ids, tuple(segments))
