"""The policy networks of CTS (Lu et al. 2023, Sec. 3.2) as a method of their own: trained once a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.labels import IGNORE_INDEX
from segsweep.losses.per_pixel import CrossEntropy, LossTerm, PerPixelLoss
from segsweep.losses.superpatch_targets import SUPERPATCH_PIXELS, superpatch_targets
from segsweep.metrics.confusion import confusion_matrix
from segsweep.models.interface import Criterion, MethodConfig, SegmentationOutput
from segsweep.models.policy_network import PolicyName, PolicyNetwork
from segsweep.models.token_segmenter import pad_to_superpatches

_CLASSES = ("several classes", "one class")


@dataclass(frozen=True, kw_only=True)
class PolicyOutput(SegmentationOutput):
    """Logits of superpatches, ``(B, 2, ceil(H / 32), ceil(W / 32))``: several classes, one class.

    Attributes:
        image_size: Height and width of the images in pixels, without padding.
    """

    image_size: tuple[int, int]

    def semantic_logits(self, size: tuple[int, int]) -> Tensor:
        """The logits of its superpatch for every pixel, ``(B, 2, H, W)``; the padding is left out.

        At another size than that of the images: those of the nearest pixel.
        """
        height, width = self.image_size
        enlarged = F.interpolate(self.logits, scale_factor=SUPERPATCH_PIXELS, mode="nearest")
        pixels = enlarged[..., :height, :width]
        return pixels if size == self.image_size else F.interpolate(pixels, size, mode="nearest-exact")


class PolicyModel(nn.Module):
    """A policy network that takes images of any size.

    Args:
        network: The network that CTS uses.

    Attributes:
        stride: Stride of the logits.
        num_classes: 2.
    """

    stride = SUPERPATCH_PIXELS
    num_classes = len(_CLASSES)

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> PolicyOutput:
        """``(B, 3, H, W)``, normalised RGB, padded with zeros to multiples of 32 pixels."""
        logits = self.network(pad_to_superpatches(images))
        return PolicyOutput(logits=logits, image_size=(images.shape[-2], images.shape[-1]))


class PolicyConfig(MethodConfig):
    """One policy network and what it is taught.

    Attributes:
        network: Its size.
        void_labels: Classes that count as void here (Pascal Context: its background, class 0 of 60).
        skip_void_borders: Leave superpatches of one class and void out at the border (ADE20K).
    """

    method: ClassVar[str] = "policy"
    network: PolicyName = "lite0"
    void_labels: tuple[int, ...] = ()
    skip_void_borders: bool = False

    def build(self, num_classes: int) -> PolicyModel:
        """Make the network; it has two classes, whatever the ``num_classes`` of the data."""
        return PolicyModel(PolicyNetwork(self.network))

    def class_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The two kinds of superpatches, whatever the classes of the data."""
        return _CLASSES

    def superpatch_targets(self, labels: Tensor, *, ignore_index: int = IGNORE_INDEX) -> Tensor:
        """Targets of the superpatches, ``(B, H, W)`` int64 to ``(B, ceil(H / 32), ceil(W / 32))``."""
        return superpatch_targets(
            labels,
            ignore_index=ignore_index,
            void_labels=self.void_labels,
            skip_void_borders=self.skip_void_borders,
        )

    def targets(self, labels: Tensor, *, ignore_index: int = IGNORE_INDEX) -> Tensor:
        """Target of its superpatch for every pixel, ``(B, H, W)`` int64, as ``semantic_logits`` says it."""
        blocks = self.superpatch_targets(labels, ignore_index=ignore_index)
        pixels = blocks.repeat_interleave(SUPERPATCH_PIXELS, 1).repeat_interleave(SUPERPATCH_PIXELS, 2)
        return pixels[:, : labels.shape[-2], : labels.shape[-1]]

    def block_matrix(
        self, output: SegmentationOutput, labels: Tensor, *, ignore_index: int = IGNORE_INDEX
    ) -> Tensor:
        """Confusion matrix ``(2, 2)`` of superpatches; its ``pixel_accuracy`` is CTS's block accuracy."""
        return confusion_matrix(
            output.logits.argmax(1),
            self.superpatch_targets(labels, ignore_index=ignore_index),
            num_classes=len(_CLASSES),
            ignore_index=ignore_index,
        )

    def criterion(self, pixel_loss: PerPixelLoss) -> Criterion:
        """Cross-entropy, the mean over the superpatches that count.

        Args:
            pixel_loss: Gives the label of void pixels; otherwise the paper's loss is used.
        """
        loss = CrossEntropy(ignore_index=pixel_loss.ignore_index)

        def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
            targets = self.superpatch_targets(labels, ignore_index=loss.ignore_index)
            return {"superpatches": LossTerm(loss(output.logits, targets))}

        return criterion


PRESETS: Mapping[str, PolicyConfig] = {
    # CTS, comparison of policy sizes, and the choices of its official code by data set
    "policy-small": PolicyConfig(network="small"),
    "policy-lite0": PolicyConfig(network="lite0"),  # Cityscapes
    "policy-large": PolicyConfig(network="large"),
    "policy-lite0-ade20k": PolicyConfig(network="lite0", skip_void_borders=True),
    "policy-lite0-pascal-context": PolicyConfig(network="lite0", void_labels=(0,)),
    # not from the paper: for CPUs
    "policy-nano": PolicyConfig(network="nano"),
}
