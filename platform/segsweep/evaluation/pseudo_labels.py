"""Hard pseudo labels: what a trained model is sure of, as the labels of images (ESeg, Sec. 4.4)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from segsweep.data.interface import DatasetInfo, Image, Labels, Sample, Source
from segsweep.data.joined_shards import TRAIN
from segsweep.data.shard_parts import resize_image
from segsweep.errors import DataError, Problem
from segsweep.evaluation.inference import batch, mean_probabilities, views
from segsweep.evaluation.protocols import EvaluationProtocol


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A trained model that labels images.

    Attributes:
        model: In evaluation mode.
        info: Classes that it was trained on.
        digest: Identity of its weights.
        protocol: How it looks at an image; probabilities are averaged over scales and mirror images.
        threshold: Pixels whose highest probability does not exceed it become void.
        device: Where the model lives.
    """

    model: nn.Module
    info: DatasetInfo
    digest: str
    protocol: EvaluationProtocol
    threshold: float
    device: torch.device
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def labels(self, image: Image) -> Labels:
        """Class ids or the ignore index: uint8 ``(H, W, 3)`` to ``(H, W)``; one image at a time."""
        scaled = views(image, self.protocol)  # resizing may run beside the network
        with self._turn:
            size = (image.shape[0], image.shape[1])
            seen = [batch([view], self.device) for view in scaled]
            sureness, classes = mean_probabilities(self.model, seen, self.protocol, size=size)[0].max(0)
            classes = classes.masked_fill(sureness <= self.threshold, self.info.ignore_index)
            return classes.to(torch.int32).cpu().numpy().astype(self.info.label_dtype)


@dataclass(frozen=True, kw_only=True)
class PseudoLabelled:
    """A ``Source``: images of another one with the labels of a teacher.

    Attributes:
        images: Where the images come from; its labels are not looked at.
        split: Of the images.
        teacher: Labels them at the size that they have in the result.
        size: Height and width of the result; ``None``: each image's own.
    """

    images: Source
    split: str
    teacher: Teacher
    size: tuple[int, int] | None

    @property
    def info(self) -> DatasetInfo:
        """The teacher's classes."""
        return replace(self.teacher.info, name=f"{self.images.info.name}-pseudo-labels")

    def splits(self) -> tuple[str, ...]:
        """The one split, ``train``."""
        return (TRAIN,)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of the images in order."""
        if split != TRAIN:
            raise DataError(f"{self.info.name} has the split {TRAIN!r}, found {split!r}")
        return self.images.keys(self.split)

    def load(self, split: str, key: str) -> Sample:
        """Read one image, resize it and label it."""
        image = self.images.load(self.split, key).image
        if self.size is not None:
            image = np.ascontiguousarray(resize_image(image, self.size))
        return Sample(key=key, image=image, labels=self.teacher.labels(image))

    def check(self) -> list[Problem]:
        """Problems of the images."""
        return self.images.check()

    def fingerprint(self) -> str:
        """Identity of the images, the teacher's weights and how it labels."""
        teacher = self.teacher
        parts = (
            self.images.fingerprint(),
            self.split,
            teacher.digest,
            teacher.protocol.model_dump_json(),
            teacher.threshold,
            teacher.info,
            self.size,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()
