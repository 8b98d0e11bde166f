"""HFGD (Huang et al. 2024, "High-Level Feature Guided Decoding"): the top feature teaches the upsampler.

The class tokens (the weights of the classifier) learn from the backbone's most semantic feature alone, and
the upsampler learns to be classified by these same tokens. Nothing flows back from the upsampler into
backbone, context encoder and tokens, which so stay what pre-training and the teacher made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.context import ContextOutput
from segsweep.models.interface import SegmentationOutput
from segsweep.models.layers.axial_attention import AxialAttention
from segsweep.models.layers.conv_module import Classifier

GuidanceKind = Literal["none", "guidance", "attention", "full"]

TOP_LEVEL = 5  # of the feature that the context encoder works on
_CPU_LAYOUT = torch.channels_last  # as in Segmenter: pooling and resizing are several times as fast


@dataclass(frozen=True)
class GuidedOutput(SegmentationOutput):
    """What a guided model says about a batch.

    Attributes:
        teacher_logits: ``(B, K, h_5, w_5)``, the class tokens on the context encoder's output; training only,
            ``None`` without a teacher.
        class_features: ``(B, C, h_5, w_5)`` on which the class-aware losses act; training only, ``None``
            where the context encoder has none.
    """

    teacher_logits: Tensor | None = None
    class_features: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions:
    """Which parts of the guidance there are; defaults are HFGD's.

    Attributes:
        kind: ``guidance`` shares the tokens with a teacher, ``attention`` adds axial attention to the
            upsampled feature, ``full`` does both, ``none`` neither (HFGD, ablation of the guidance module).
        stop_gradient: Whether the student sends no gradient to backbone, context encoder and tokens.
        attention_channels: Width of queries and keys. Twice the token width is the only simple choice with
            which the costs of Table 9 come out; the paper does not print it.
        attention_heads: Heads of the attention.
        residual: Whether the attention is added to its input, not put in its place (not printed either).
    """

    kind: GuidanceKind = "full"
    stop_gradient: bool = True
    attention_channels: int = 512
    attention_heads: int = 4
    residual: bool = True

    @property
    def teaches(self) -> bool:
        """Whether there is a teacher."""
        return self.kind in {"guidance", "full"}

    @property
    def attends(self) -> bool:
        """Whether there is axial attention."""
        return self.kind in {"attention", "full"}


class Guidance(nn.Module):
    """Class tokens that the teacher trains and the student borrows.

    Args:
        channels: Width of the tokens, of the top feature and of the upsampled one.
        num_classes: Number of tokens.
        options: Which parts there are.

    Attributes:
        tokens: 1x1 convolution with bias, ``channels -> num_classes``.
        attention: Axial attention on the upsampled feature; ``None`` without.
    """

    def __init__(self, channels: int, *, num_classes: int, options: GuidanceOptions) -> None:
        super().__init__()
        self.tokens = Classifier(channels, num_classes)
        self.attention: nn.Module | None = None
        if options.attends:
            self.attention = AxialAttention(
                channels, qk_channels=options.attention_channels, num_heads=options.attention_heads
            )
        self.residual = options.residual
        self.teaches = options.teaches
        self.stops_gradient = options.teaches and options.stop_gradient

    def protect(self, features: Tensor) -> Tensor:
        """The same values, without a way back if the upsampler's gradient is to stop here."""
        return features.detach() if self.stops_gradient else features

    def teacher_logits(self, top: Tensor) -> Tensor:
        """Classify the top feature: ``(B, channels, h_5, w_5) -> (B, K, h_5, w_5)``; the tokens learn."""
        return self.tokens(top)  # type: ignore[no-any-return]

    def student_logits(self, upsampled: Tensor) -> Tensor:
        """Classify the upsampled feature: ``(B, channels, h, w) -> (B, K, h, w)``; the tokens stay."""
        if self.attention is not None:
            attended = self.attention(upsampled)
            upsampled = upsampled + attended if self.residual else attended
        bias = self.tokens.bias
        return F.conv2d(
            upsampled, self.protect(self.tokens.weight), None if bias is None else self.protect(bias)
        )


class GuidedSegmenter(nn.Module):
    """Backbone, context encoder on its top level, upsampler, and guidance between the two.

    Args:
        backbone: Images to pyramid.
        context: Top level to ``ContextOutput``, whose features have the token width.
        upsampler: ``(pyramid, top feature, size=...) -> (B, channels, h, w)``; ``None`` classifies the top
            feature as it is.
        guidance: Tokens and attention.
        stride: Stride of the logits.

    Attributes:
        stride: Stride of the logits.
        num_classes: Number of classes.
        training_only: Submodules that only training uses: none, since teacher and student share the tokens.
    """

    training_only: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: nn.Module,
        context: nn.Module,
        upsampler: nn.Module | None,
        guidance: Guidance,
        *,
        stride: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.context = context
        self.upsampler = upsampler
        self.guidance = guidance
        self.stride = stride
        self.num_classes: int = guidance.tokens.out_channels

    def forward(self, images: Tensor) -> GuidedOutput:
        """Segment a batch of images.

        Args:
            images: Normalised RGB, ``(B, 3, H, W)``.

        Returns:
            Logits at ``stride``, of ``ceil(H / stride)`` rows; in training mode also what the losses of
            teacher and context encoder need.
        """
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=_CPU_LAYOUT)
        pyramid = self.backbone(images)
        context: ContextOutput = self.context(pyramid[TOP_LEVEL])
        upsampled = self._upsample(pyramid, context.features, (images.shape[-2], images.shape[-1]))
        logits = self.guidance.student_logits(upsampled)
        if not self.training:
            return GuidedOutput(logits)
        teaches = self.guidance.teaches
        return GuidedOutput(
            logits,
            auxiliary_logits=context.auxiliary_logits,
            teacher_logits=self.guidance.teacher_logits(context.features) if teaches else None,
            class_features=context.class_features,
        )

    def _upsample(self, pyramid: Mapping[int, Tensor], top: Tensor, image_size: tuple[int, int]) -> Tensor:
        """The feature that is classified; the way down to backbone and context encoder is protected."""
        if self.upsampler is None:
            return top
        protect = self.guidance.protect
        size = (-(-image_size[0] // self.stride), -(-image_size[1] // self.stride))
        taps = {level: protect(features) for level, features in pyramid.items()}
        return self.upsampler(taps, protect(top), size=size)  # type: ignore[no-any-return]
