"""What every method offers: a typed config that builds a model, and the output of that model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from segsweep.labels import IGNORE_INDEX
from segsweep.losses.per_pixel import LossTerm, PerPixelLoss
from segsweep.models.layers.resize import resize_bilinear

Pyramid = dict[int, Tensor]  # level l -> (B, C_l, ceil(H / 2**l), ceil(W / 2**l))


@dataclass(frozen=True)
class SegmentationOutput:
    """What a model says about a batch.

    A method that trains on more than its prediction returns a subclass with what its criterion needs; those
    fields are ``None`` in evaluation mode, where no branch that only teaches is run.

    Attributes:
        logits: ``(B, K, h, w)`` at the model's output stride.
        auxiliary_logits: ``(B, K, h, w)`` of an auxiliary head on a backbone level; ``None`` without one.
    """

    logits: Tensor
    auxiliary_logits: Tensor | None = None

    def semantic_logits(self, size: tuple[int, int]) -> Tensor:
        """Logits at image size, ``(B, K, H, W)``; bilinear, corners not aligned."""
        return resize_bilinear(self.logits, size)


Criterion = Callable[[SegmentationOutput, Tensor], dict[str, LossTerm]]
"""Output of a training step and labels ``(B, H, W)`` int64 -> named terms; the loss is their weighted sum."""


class Targets(Protocol):
    """What predictions are compared with at validation."""

    def __call__(self, labels: Tensor, *, ignore_index: int) -> Tensor:
        """Labels ``(B, H, W)`` int64 to the classes that are to be predicted, likewise."""
        ...


class MethodConfig(BaseModel):
    """Choices of one method; a search point, nested, is the argument of ``model_validate``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: ClassVar[str]

    @abstractmethod
    def build(self, num_classes: int) -> nn.Module:
        """Make the model with random weights on torch's default device.

        Returns:
            A module ``(B, 3, H, W) -> SegmentationOutput`` with attributes ``stride`` and ``num_classes``.
        """

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse image sizes that the model cannot take, before anything is built.

        Args:
            size: Height and width in pixels.

        Raises:
            ImageSizeError: If the model cannot take such images; by default it takes all.
        """
        return

    def class_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """What the model tells apart; by default the classes of the data.

        Args:
            names: Of the data's classes by train id.
        """
        return names

    def criterion(self, pixel_loss: PerPixelLoss) -> Criterion:
        """What the method is trained on; by default the pixel loss of the logits alone.

        Args:
            pixel_loss: The recipe's loss per pixel (cross-entropy or OHEM).
        """
        return segmentation_criterion(pixel_loss)

    def targets(self, labels: Tensor, *, ignore_index: int = IGNORE_INDEX) -> Tensor:
        """What the prediction for these labels is compared with; by default the labels.

        Args:
            labels: ``(B, H, W)`` int64.
            ignore_index: Label of pixels that do not count, here and in what is returned.
        """
        return segmentation_targets(labels, ignore_index=ignore_index)


def segmentation_criterion(pixel_loss: PerPixelLoss) -> Criterion:
    """The pixel loss of the logits, resized to the labels."""

    def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
        logits = output.semantic_logits((labels.shape[-2], labels.shape[-1]))
        return {"segmentation": LossTerm(pixel_loss(logits, labels))}

    return criterion


def segmentation_targets(labels: Tensor, *, ignore_index: int) -> Tensor:
    """The labels themselves."""
    return labels
