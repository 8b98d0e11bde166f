"""Panoptic evaluation of models that know the truth, or all of it but one class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from panoptic_trees import write_coco_panoptic_tree
from torch import Tensor, nn

from segsweep.data.panoptic import PanopticSource
from segsweep.data.sources.coco_panoptic import open_coco_panoptic
from segsweep.errors import InvalidInput
from segsweep.evaluation.panoptic import evaluate_panoptic
from segsweep.evaluation.protocols import Resize
from segsweep.models.heads.mask_classification import MaskOutput
from segsweep.models.interface import SegmentationOutput

CAR, PERSON = 1, 0
SURE = 20.0  # logits


class Knowing(nn.Module):
    """Gives one query for each true segment, crowds included, in the order of the images.

    Every pixel goes to some query, void to the first; so crowds need one of their own.
    """

    def __init__(self, source: PanopticSource, *, car: int = CAR) -> None:
        super().__init__()
        self.samples = [source.load_segments("val", key) for key in source.keys("val")]
        self.num_classes, self.car, self.calls = source.info.num_classes, car, 0

    def forward(self, images: Tensor) -> MaskOutput:
        sample = self.samples[self.calls]
        self.calls += 1
        classes = [segment.train_id for segment in sample.segments]
        named = [self.car if label == CAR else label for label in classes]
        masks = sample.segment_ids == np.arange(1, len(classes) + 1)[:, None, None]
        class_logits = SURE * nn.functional.one_hot(torch.tensor(named), self.num_classes + 1).float()
        return MaskOutput(
            logits=(SURE * (2 * torch.from_numpy(masks).float() - 1))[None], class_logits=class_logits[None]
        )


@pytest.fixture
def source(tmp_path: Path) -> PanopticSource:
    write_coco_panoptic_tree(tmp_path)
    return open_coco_panoptic(tmp_path)


def test_model_that_knows_the_truth_reaches_one(source: PanopticSource) -> None:
    told: list[tuple[int, int]] = []
    report = evaluate_panoptic(
        Knowing(source), source, resize=Resize(), progress=lambda *step: told.append(step)
    )
    quality = report.quality
    assert (quality.all.pq, quality.things.pq, quality.stuff.pq) == (1, 1, 1)
    assert (report.images, told) == (2, [(1, 2), (2, 2)])


def test_thing_of_another_class_is_missed_and_false(source: PanopticSource) -> None:
    report = evaluate_panoptic(Knowing(source, car=PERSON), source, resize=Resize())
    images, people = report.images, 2
    # one car an image: missed as a car, and one false person beside the two that match
    assert report.table[CAR].tolist() == [0, 0, 0, images]
    assert report.table[PERSON].tolist() == [people * images, people * images, images, 0]
    assert report.quality.stuff.pq == 1


def test_model_without_masks_is_refused(source: PanopticSource) -> None:
    class Plain(nn.Module):
        def forward(self, images: Tensor) -> SegmentationOutput:
            return SegmentationOutput(images)

    with pytest.raises(InvalidInput, match="gives SegmentationOutput without masks; evaluate a MaskFormer"):
        evaluate_panoptic(Plain(), source)
