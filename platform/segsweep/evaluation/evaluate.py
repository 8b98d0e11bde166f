"""Evaluate a model on a split under a protocol; the counts are exact across ranks."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from segsweep.data.interface import DatasetInfo, Source
from segsweep.data.shards import ShardSet
from segsweep.evaluation.inference import batch, predict_classes
from segsweep.evaluation.protocols import EvaluationProtocol
from segsweep.evaluation.report import EvaluationReport, ImageScore
from segsweep.evaluation.samples import EvaluationSample, SplitSamples
from segsweep.metrics.scores import SegmentationScores, class_segments, pixel_counts
from segsweep.models.interface import Targets, segmentation_targets

Progress = Callable[[int, int], None]


def evaluate_protocol(
    model: nn.Module,
    data: Source | ShardSet,
    protocol: EvaluationProtocol,
    *,
    split: str = "val",
    device: torch.device | None = None,
    batch_size: int = 1,
    progress: Progress | None = None,
    info: DatasetInfo | None = None,
    targets: Targets = segmentation_targets,
) -> EvaluationReport:
    """Evaluate every image of a split once; ranks of a process group share them.

    Args:
        model: Gives a ``SegmentationOutput`` for ``(B, 3, h, w)``; left in the mode it came in.
        data: A data set (labels at original resolution) or prepared data.
        protocol: What the network sees and how class maps are merged.
        split: Name of the split.
        device: Where the model lives; default: the CPU.
        batch_size: Images of equal size in one forward pass; class maps of ``K * H * W`` floats each.
        progress: Called with the number of images that this rank finished and of all of its images.
        info: What the model tells apart, if that is not the classes of the data (a policy network).
        targets: What its predictions are compared with (``MethodConfig.targets``).

    Returns:
        The report, the same on every rank.

    Raises:
        InvalidInput: If protocol, data and model do not fit together.
        DataError: If there is no such split, or a sample cannot be read.
    """
    started = time.perf_counter()
    samples = SplitSamples(data=data, split=split, protocol=protocol)
    told_apart = info or samples.info
    counting = _Counting(told_apart, protocol, targets, device=device or torch.device("cpu"))
    rows = _own_rows(len(samples))
    was_training = model.training
    model.eval()
    try:
        done = 0
        for together in samples.batches(rows, batch_size=batch_size):
            counting.add(model, together, first_row=rows.start + done)
            done += len(together)
            if progress is not None:
                progress(done, len(rows))
    finally:
        model.train(was_training)
    counting.reduce()
    return EvaluationReport(
        info=told_apart,
        split=split,
        protocol=protocol,
        matrix=counting.matrix.cpu(),
        segments=counting.segments.cpu(),
        images=tuple(counting.images),
        seconds=time.perf_counter() - started,
    )


class _Counting:
    """Sums over the images so far."""

    def __init__(
        self, info: DatasetInfo, protocol: EvaluationProtocol, targets: Targets, *, device: torch.device
    ) -> None:
        self.info, self.protocol, self.targets, self.device = info, protocol, targets, device
        num_classes = self.info.num_classes
        self.matrix = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64, device=device)
        self.segments = torch.zeros(num_classes, 4, dtype=torch.float64, device=device)
        self.images: list[ImageScore] = []

    def add(self, model: nn.Module, together: list[EvaluationSample], *, first_row: int) -> None:
        """Predict a batch and count each of its images."""
        scaled = [
            batch(images, self.device) for images in zip(*(item.scaled for item in together), strict=True)
        ]
        height, width = together[0].labels.shape
        predictions = predict_classes(model, scaled, self.protocol, size=(height, width))
        for offset, (sample, prediction) in enumerate(zip(together, predictions, strict=True)):
            self._count(sample, prediction, row=first_row + offset)

    def _count(self, sample: EvaluationSample, prediction: Tensor, *, row: int) -> None:
        labels = torch.from_numpy(np.require(sample.labels, requirements="W")).to(self.device)
        if self.targets is not segmentation_targets:
            labels = self.targets(labels[None].long(), ignore_index=self.info.ignore_index)[0]
        counts = pixel_counts(
            prediction,
            labels,
            num_classes=self.info.num_classes,
            ignore_index=self.info.ignore_index,
        )
        self.matrix += counts[:-1]
        self.segments += class_segments(counts)
        scores = SegmentationScores(counts[:-1])
        self.images.append(
            ImageScore(row=row, key=sample.key, miou=scores.miou, pixel_accuracy=scores.pixel_accuracy)
        )

    def reduce(self) -> None:
        """Add up over the ranks."""
        if not _distributed():
            return
        dist.all_reduce(self.matrix)
        dist.all_reduce(self.segments)
        parts: list[list[ImageScore]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(parts, self.images)
        self.images = [image for part in parts for image in part]


def _own_rows(count: int) -> range:
    """One run of consecutive samples for each rank: every sample once, none twice."""
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
    return range(count * rank // world_size, count * (rank + 1) // world_size)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
