"""Panoptic quality of a mask classifier: its segments against those of a panoptic data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from segsweep.data.interface import DatasetInfo
from segsweep.data.panoptic import PanopticSource
from segsweep.data.shard_parts import resize_image
from segsweep.errors import InvalidInput, Problem
from segsweep.evaluation.inference import batch
from segsweep.evaluation.protocols import Resize
from segsweep.metrics.panoptic import (
    PanopticQuality,
    SegmentMap,
    match_panoptic,
    panoptic_quality,
)
from segsweep.models.heads.mask_classification import MaskOutput
from segsweep.models.heads.panoptic_inference import (
    COCO_THRESHOLDS,
    PanopticPrediction,
    PanopticThresholds,
    panoptic_segments,
)

COCO_RESIZE = Resize(short_side=800, long_side=1333)  # MaskFormer, official configs


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticReport:
    """The result on one split.

    Attributes:
        info: The data set.
        things: Train ids of countable objects.
        table: ``(K, 4)`` float64, summed over the images; see ``metrics.panoptic``.
        images: Number of images.
    """

    info: DatasetInfo
    things: tuple[int, ...]
    table: Tensor
    images: int

    @cached_property
    def quality(self) -> PanopticQuality:
        """PQ, SQ and RQ over all classes, things and stuff."""
        return panoptic_quality(self.table, things=self.things)


@torch.inference_mode()
def evaluate_panoptic(
    model: nn.Module,
    data: PanopticSource,
    *,
    split: str = "val",
    resize: Resize = COCO_RESIZE,
    thresholds: PanopticThresholds = COCO_THRESHOLDS,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PanopticReport:
    """Match the predicted segments of every image at its original resolution.

    Args:
        model: Gives a ``MaskOutput`` for ``(1, 3, h, w)``; left in the mode it came in.
        data: Images with true segments.
        split: Name of the split.
        resize: What the network sees.
        thresholds: What a query needs to become a segment.
        device: Where the model lives; default: the CPU.
        progress: Called with the number of images done and in all.

    Raises:
        InvalidInput: If the model has no masks.
        DataError: If a sample cannot be read.
    """
    device = device or torch.device("cpu")
    num_classes, keys = data.info.num_classes, data.keys(split)
    table = torch.zeros(num_classes, 4, dtype=torch.float64)
    was_training = model.training
    model.eval()
    try:
        for done, key in enumerate(keys, start=1):
            sample = data.load_segments(split, key)
            own = (sample.image.shape[0], sample.image.shape[1])
            view = resize_image(sample.image, resize.apply(own)).transpose(2, 0, 1)
            output = model(batch([view], device))
            (prediction,) = panoptic_segments(
                _with_masks(output), own, things=data.things, thresholds=thresholds
            )
            table += match_panoptic(sample.segment_map(), _segment_map(prediction), num_classes=num_classes)
            if progress is not None:
                progress(done, len(keys))
    finally:
        model.train(was_training)
    return PanopticReport(info=data.info, things=tuple(data.things), table=table, images=len(keys))


def _with_masks(output: object) -> MaskOutput:
    if isinstance(output, MaskOutput):
        return output
    message = f"the model gives {type(output).__name__} without masks; evaluate a MaskFormer"
    raise InvalidInput([Problem(where="model", message=message)])


def _segment_map(prediction: PanopticPrediction) -> SegmentMap:
    return SegmentMap(ids=prediction.ids.cpu(), classes=[segment.class_id for segment in prediction.segments])
