"""Context encoders: what is put on the backbone's coarsest features before they are decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor, nn

from segsweep.models.context.aspp import ASPP
from segsweep.models.context.cae import ClassAwareEncoder
from segsweep.models.context.ocr import ObjectContext
from segsweep.models.context.output import ContextOutput
from segsweep.models.context.ppm import PyramidPooling
from segsweep.models.context.self_attention import SelfAttentionContext
from segsweep.models.layers.conv_module import conv_bn_relu

__all__ = ["CLASS_AWARE_KINDS", "ContextKind", "ContextOutput", "build_context"]

ContextKind = Literal["identity", "aspp", "ppm", "ocr", "self_attention", "sa_car", "cae"]
CLASS_AWARE_KINDS: tuple[ContextKind, ...] = ("sa_car", "cae")  # those that give class features


def build_context(
    kind: ContextKind, in_channels: int, *, channels: int = 256, num_classes: int, **options: Any
) -> nn.Module:
    """Make a context encoder with random weights.

    Args:
        kind: Which one: ``identity`` is a 1x1 convolution, ``sa_car`` self-attention with the linear map that
            the class-aware losses need, ``cae`` HFGD's own.
        in_channels: Width of the input.
        channels: Width of the output.
        num_classes: Number of classes, which OCR has regions for.
        options: Further arguments of the encoder's class (``rates`` of ASPP, ``wide_channels`` of CAE, ...).

    Returns:
        Module ``(B, C_in, h, w) -> ContextOutput`` with ``features`` of ``(B, channels, h, w)``.

    Raises:
        ValueError: If there is no such encoder.
    """
    if kind not in _ENCODERS:
        raise ValueError(f"context kind {kind!r} is unknown; use one of {', '.join(get_args(ContextKind))}")
    if kind == "ocr":
        options["num_classes"] = num_classes
    return _ENCODERS[kind](in_channels, channels=channels, **options)


class _FeaturesOnly(nn.Module):
    """An encoder that gives one tensor."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> ContextOutput:
        return ContextOutput(self.encoder(features))


def _identity(in_channels: int, *, channels: int) -> nn.Module:
    return _FeaturesOnly(conv_bn_relu(in_channels, channels))


def _aspp(in_channels: int, **options: Any) -> nn.Module:
    return _FeaturesOnly(ASPP(in_channels, **options))


def _ppm(in_channels: int, **options: Any) -> nn.Module:
    return _FeaturesOnly(PyramidPooling(in_channels, **options))


def _self_attention(in_channels: int, **options: Any) -> nn.Module:
    return SelfAttentionContext(in_channels, class_aware=False, **options)


def _sa_car(in_channels: int, **options: Any) -> nn.Module:
    return SelfAttentionContext(in_channels, class_aware=True, **options)


_ENCODERS: dict[ContextKind, Callable[..., nn.Module]] = {
    "identity": _identity,
    "aspp": _aspp,
    "ppm": _ppm,
    "ocr": ObjectContext,
    "self_attention": _self_attention,
    "sa_car": _sa_car,
    "cae": ClassAwareEncoder,
}
