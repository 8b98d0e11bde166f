"""What an evaluation found: counts of a split, and the scores that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from segsweep.data.interface import DatasetInfo
from segsweep.evaluation.protocols import EvaluationProtocol
from segsweep.metrics.panoptic import Quality, mean_quality, per_class_quality
from segsweep.metrics.scores import SegmentationScores


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One image.

    Attributes:
        row: Its place in the split, from 0.
        key: Its name in the split.
        miou: Over the classes in its labels or its prediction; NaN if no pixel is labelled.
        pixel_accuracy: Share of labelled pixels that are right; NaN likewise.
    """

    row: int
    key: str
    miou: float
    pixel_accuracy: float


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class over the split; a value is NaN where it is not defined.

    Attributes:
        share: Of the labelled pixels.
    """

    name: str
    share: float
    iou: float
    accuracy: float
    pq: float
    sq: float
    rq: float


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationReport:
    """The result of one protocol on one split.

    Attributes:
        info: The data set.
        split: Name of the split.
        protocol: How it was evaluated.
        matrix: ``(K, K + 1)`` int64 pixels: rows are the truth, columns the prediction, the last one void.
        segments: ``(K, 4)`` float64 table of PQ^St, summed over the images; see ``metrics.panoptic``.
        images: Every image, in the order of the split.
        seconds: Wall time.
    """

    info: DatasetInfo
    split: str
    protocol: EvaluationProtocol
    matrix: Tensor
    segments: Tensor
    images: tuple[ImageScore, ...]
    seconds: float

    @cached_property
    def scores(self) -> SegmentationScores:
        """Scores from the matrix."""
        return SegmentationScores(self.matrix)

    @cached_property
    def quality(self) -> Quality:
        """PQ, SQ and RQ^St."""
        return mean_quality(self.segments)

    @property
    def miou(self) -> float:
        """mIoU in [0, 1], classes in truth or prediction."""
        return self.scores.miou

    def metrics(self) -> dict[str, float]:
        """Scores of the split by name; those that are not defined are left out."""
        scores, quality = self.scores, self.quality
        values = {
            "miou": scores.miou,
            "miou_gt": scores.miou_gt,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "fwiou": scores.fwiou,
            "ade_score": scores.ade_score,
            "void_share": scores.void_share,
            "pq_st": quality.pq,
            "sq_st": quality.sq,
            "rq_st": quality.rq,
        }
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def classes(self) -> tuple[ClassScore, ...]:
        """Scores of every class in the order of the train ids."""
        pixels = self.matrix.sum(dim=1).double()
        columns = [
            (pixels / pixels.sum()).tolist(),
            self.scores.iou.tolist(),
            self.scores.accuracy.tolist(),
            *per_class_quality(self.segments).T.tolist(),
        ]
        return tuple(
            ClassScore(name=name, share=share, iou=iou, accuracy=accuracy, pq=pq, sq=sq, rq=rq)
            for name, share, iou, accuracy, pq, sq, rq in zip(self.info.class_names, *columns, strict=True)
        )

    def worst(self, count: int) -> tuple[ImageScore, ...]:
        """Labelled images with the lowest mIoU, the lowest first."""
        labelled = [image for image in self.images if not math.isnan(image.miou)]
        return tuple(sorted(labelled, key=lambda image: (image.miou, image.row))[:count])

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; what is not defined is ``None``."""
        return {
            "data": self.info.name,
            "split": self.split,
            "protocol": self.protocol.model_dump(mode="json"),
            "images": len(self.images),
            "seconds": self.seconds,
            **self.metrics(),
            "classes": [
                {name: _defined(value) for name, value in vars(item).items()} for item in self.classes()
            ],
            "confusion_matrix": self.matrix.tolist(),
            "per_image": [
                {name: _defined(value) for name, value in vars(item).items()} for item in self.images
            ],
        }


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
