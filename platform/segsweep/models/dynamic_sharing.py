"""As much sharing as an image allows, with several trained models (Lu et al. 2023, supplement, Sec. 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from segsweep.models.layers.superpatches import PATCHES
from segsweep.models.policy_network import PolicyNetwork
from segsweep.models.token_segmenter import (
    TokenOutput,
    TokenSegmenter,
    TokenUPerNet,
    pad_to_superpatches,
)

DEFAULT_THRESHOLD = 0.4  # the best mIoU of the supplement's Table 1

Host = TokenSegmenter | TokenUPerNet


@dataclass(frozen=True, kw_only=True)
class RoutedOutput(TokenOutput):
    """Prediction of several models.

    Attributes:
        shared_superpatches: For each image, what the model that saw it shares.
    """

    shared_superpatches: tuple[int, ...]


class DynamicSharing(nn.Module):
    """Routes each image to the model that shares as much as is safe for it; for inference.

    The policy runs once. Images of one batch that go to the same model are run together. What an "image" is,
    is the caller's choice: whole images here, windows when this is slid over images
    (``sliding_window_logits``), or one decision for all windows of an image (``for_image``). The paper's
    counts add up to the images of the split, so it decided by image.

    Args:
        models: Trained with a fixed number of shared superpatches each, by that number; 0 among them.
        threshold: Probability of "one class" above which a superpatch may share.

    Raises:
        ValueError: If there is no model that shares nothing, or none that shares, if numbers are wrong or
            the models' policies differ.
    """

    def __init__(self, models: Mapping[int, Host], *, threshold: float = DEFAULT_THRESHOLD) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold} is no probability between 0 and 1")
        self.threshold = threshold
        self.trained = tuple(sorted(models))
        if not self.trained or self.trained[0] != 0 or len(self.trained) < 2:
            raise ValueError(
                f"models that share {self.trained} superpatches; give one that shares none (0) and one or "
                "more that share"
            )
        _check_numbers(models)
        self.models = nn.ModuleDict({str(count): models[count] for count in self.trained})
        self.policy = _common_policy(models[count] for count in self.trained[1:])
        self.eval()

    @torch.no_grad()
    def shareable(self, images: Tensor) -> Tensor:
        """Superpatches above the threshold, ``(B, 3, H, W)`` normalised RGB to ``(B,)`` int64."""
        return self._count(self.policy.margins(pad_to_superpatches(images)))

    def _count(self, margins: Tensor) -> Tensor:
        return (margins.sigmoid() > self.threshold).sum(1)  # of two classes, softmax is the sigmoid

    @torch.no_grad()
    def for_image(self, image: Tensor, window: tuple[int, int]) -> Host:
        """The model for all windows of one image, ``(1, 3, H, W)``: its superpatches by the window's share.

        Args:
            image: Normalised RGB.
            window: Height and width of the windows in pixels.
        """
        padded = pad_to_superpatches(image)
        count = int(self._count(self.policy.margins(padded)))
        window_share = math.prod(window) / math.prod(padded.shape[-2:])
        return self._model(route(math.floor(count * min(window_share, 1.0)), self.trained))

    def _model(self, count: int) -> Host:
        return cast(Host, self.models[str(count)])

    @torch.no_grad()
    def forward(self, images: Tensor) -> RoutedOutput:
        """``(B, 3, H, W)``, normalised RGB; each image goes to one of the models.

        Returns:
            Logits as the models give them, in the order of the images.
        """
        padded = pad_to_superpatches(images)
        margins = self.policy.margins(padded)
        routes = [route(count, self.trained) for count in self._count(margins).tolist()]
        parts: dict[int, Tensor] = {}
        for count in sorted(set(routes)):
            rows = [row for row, chosen in enumerate(routes) if chosen == count]
            logits = self._model(count)(images[rows], margins[rows]).logits
            parts |= dict(zip(rows, logits, strict=True))
        return RoutedOutput(
            logits=torch.stack([parts[row] for row in range(len(routes))]),
            image_size=(images.shape[-2], images.shape[-1]),
            padded_size=(padded.shape[-2], padded.shape[-1]),
            shared_superpatches=tuple(routes),
        )


def route(shareable: int, trained: Sequence[int]) -> int:
    """The largest trained number strictly below the superpatches that may share; 0 if there are none.

    Args:
        shareable: Superpatches above the threshold.
        trained: Numbers of shared superpatches for which there is a model, 0 among them.
    """
    return max((count for count in trained if count < shareable), default=0)


def mean_reduction(images: Mapping[float, int]) -> float:
    """Mean share of tokens saved over a split.

    Args:
        images: Number of images by the share that their model saves.
    """
    return sum(share * count for share, count in images.items()) / sum(images.values())


def _check_numbers(models: Mapping[int, Host]) -> None:
    for count, model in models.items():
        amount = model.encoder.amount
        stated = amount.count(model.encoder.backbone.grid)
        if stated != count:
            raise ValueError(
                f"the model for {count} superpatches shares {stated} of "
                f"{math.prod(model.encoder.backbone.grid) // PATCHES}; give each model its own number"
            )


def _common_policy(models: Iterable[Host]) -> PolicyNetwork:
    policies = [model.encoder.policy for model in models]
    first = policies[0]
    if first is None:
        raise ValueError("a model that shares superpatches has no policy network; build it with one")
    expected = first.state_dict()
    for policy in policies[1:]:
        found = {} if policy is None else policy.state_dict()
        if found.keys() != expected.keys() or not all(torch.equal(found[k], expected[k]) for k in expected):
            raise ValueError(
                "the models have different policy networks; train one and set sharing.weights of all to it"
            )
    return first
