"""What every method offers: a typed config that builds a model, and the output of that model."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from segsweep.models.layers.resize import resize_bilinear

Pyramid = dict[int, Tensor]  # level l -> (B, C_l, ceil(H / 2**l), ceil(W / 2**l))


@dataclass(frozen=True)
class SegmentationOutput:
    """What a model says about a batch.

    Attributes:
        logits: ``(B, K, h, w)`` at the model's output stride.
    """

    logits: Tensor

    def semantic_logits(self, size: tuple[int, int]) -> Tensor:
        """Logits at image size, ``(B, K, H, W)``; bilinear, corners not aligned."""
        return resize_bilinear(self.logits, size)


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
