"""Segmentation networks on shared tokens: Segmenter un-shares its logits, UPerNet its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.interface import SegmentationOutput
from segsweep.models.layers.resize import resize_bilinear
from segsweep.models.layers.superpatches import tokens_to_map, unshare
from segsweep.models.token_sharing import EncodedTokens, SharedEncoder

UNIT = 32  # pixels a side of a superpatch
_TOKEN_STRIDE = 16


@dataclass(frozen=True, kw_only=True)
class TokenOutput(SegmentationOutput):
    """Logits of an image that was padded at its bottom and right to whole superpatches.

    Attributes:
        image_size: Height and width of the image in pixels.
        padded_size: Those of what the logits cover.
    """

    image_size: tuple[int, int]
    padded_size: tuple[int, int]

    def semantic_logits(self, size: tuple[int, int]) -> Tensor:
        """Logits at image size, ``(B, K, H, W)``, without the padding."""
        return self.enlarge(self.logits, size)

    def enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize logits of the padded image, leave the padding out, resize to ``size``; bilinear."""
        height, width = self.image_size
        return resize_bilinear(resize_bilinear(logits, self.padded_size)[..., :height, :width], size)


def pad_to_superpatches(images: Tensor) -> Tensor:
    """Pad ``(B, 3, H, W)`` with zeros, the mean colour, to the next multiples of 32."""
    bottom, right = -images.shape[-2] % UNIT, -images.shape[-1] % UNIT
    return F.pad(images, (0, right, 0, bottom)) if bottom or right else images


def unshared_map(tokens: Tensor, encoded: EncodedTokens) -> Tensor:
    """What a head said of each token, for each patch: ``(B, n, C) -> (B, C, h, w)``."""
    patches = tokens if encoded.inverse is None else unshare(tokens, encoded.inverse)
    return tokens_to_map(patches, encoded.grid)


def _output(logits: Tensor, images: Tensor, padded: Tensor, auxiliary: Tensor | None = None) -> TokenOutput:
    return TokenOutput(
        logits=logits,
        auxiliary_logits=auxiliary,
        image_size=(images.shape[-2], images.shape[-1]),
        padded_size=(padded.shape[-2], padded.shape[-1]),
    )


class TokenSegmenter(nn.Module):
    """Segmenter (Strudel et al. 2021): encoder and decoder on the same, shared tokens.

    Args:
        encoder: Images to tokens.
        head: Tokens ``(B, n, C)`` and their sizes to ``(B, n, K)``.
        num_classes: Number of classes.

    Attributes:
        stride: Stride of the logits.
        num_classes: Number of classes.
        training_only: Names of the submodules that inference does not need.
    """

    stride = _TOKEN_STRIDE
    training_only: tuple[str, ...] = ()

    def __init__(self, encoder: SharedEncoder, head: nn.Module, *, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.num_classes = num_classes

    def forward(self, images: Tensor, margins: Tensor | None = None) -> TokenOutput:
        """Segment a batch of images of any size; they are padded to multiples of 32.

        Args:
            images: Normalised RGB, ``(B, 3, H, W)``.
            margins: What the policy would say, ``(B, G)`` float32; ``None`` to ask it.

        Returns:
            Logits ``(B, K, h, w)`` at stride 16 of the padded image.
        """
        padded = pad_to_superpatches(images)
        encoded = self.encoder(padded, margins)
        (tokens,) = encoded.features.values()
        logits = unshared_map(self.head(tokens, encoded.sizes), encoded)
        # a small copy: from this layout a CPU enlarges them four times as fast
        return _output(logits.contiguous(), images, padded)


class TokenUPerNet(nn.Module):
    """UPerNet (Xiao et al. 2018) on a plain transformer: the neck sees a token for every patch.

    Args:
        encoder: Images to tokens of one block for each level.
        neck: Maps of stride 16 to a pyramid, ``{l: (B, C, h, w)}``.
        head: Pyramid to logits.
        levels: Levels of the pyramid, in the order of the blocks.
        num_classes: Number of classes.
        auxiliary: One level of the pyramid to logits; run in training mode only.
        auxiliary_level: The level that ``auxiliary`` reads.

    Attributes:
        stride: Stride of the logits.
        num_classes: Number of classes.
        training_only: Names of the submodules that inference does not need.
    """

    def __init__(
        self,
        encoder: SharedEncoder,
        neck: nn.Module,
        head: nn.Module,
        *,
        levels: tuple[int, ...],
        num_classes: int,
        auxiliary: nn.Module | None = None,
        auxiliary_level: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = neck
        self.head = head
        self.auxiliary = auxiliary
        self.levels, self.auxiliary_level = levels, auxiliary_level
        self.stride: int = 2 ** levels[0]
        self.num_classes = num_classes
        self.training_only: tuple[str, ...] = () if auxiliary is None else ("auxiliary",)

    def forward(self, images: Tensor, margins: Tensor | None = None) -> TokenOutput:
        """Segment a batch of images of any size; they are padded to multiples of 32.

        Args:
            images: Normalised RGB, ``(B, 3, H, W)``.
            margins: What the policy would say, ``(B, G)`` float32; ``None`` to ask it.

        Returns:
            Logits ``(B, K, h, w)`` at stride 4 of the padded image.
        """
        padded = pad_to_superpatches(images)
        encoded = self.encoder(padded, margins)
        maps = {
            level: _fast_layout(unshared_map(tokens, encoded))
            for level, tokens in zip(self.levels, encoded.features.values(), strict=True)
        }
        pyramid = self.neck(maps)  # {2: (B, C, H/4, W/4), ..., 5: (B, C, H/32, W/32)}
        auxiliary = None
        if self.auxiliary is not None and self.training:
            auxiliary = self.auxiliary(pyramid[self.auxiliary_level])
        return _output(self.head(pyramid), images, padded, auxiliary)


def _fast_layout(features: Tensor) -> Tensor:
    """Pooling and resizing are several times as fast in this layout on a CPU."""
    if features.device.type == "cpu":
        return features.contiguous(memory_format=torch.channels_last)
    return features
