"""Backbones by name: images in, pyramid out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from segsweep.models.backbones.efficientnet import EfficientNet, EfficientNetShape
from segsweep.models.backbones.slim_resnet import SlimResNet, SlimResNetShape
from segsweep.models.backbones.swin import Swin, SwinShape

if TYPE_CHECKING:
    from segsweep.models.backbones.timm_features import TimmFeatures

    Backbone: TypeAlias = EfficientNet | SlimResNet | Swin | TimmFeatures

TOP_LEVEL = 5  # coarsest level of every backbone
FULL_STRIDE = 32  # output stride of a backbone that is not dilated
OUTPUT_STRIDES = (8, 16, FULL_STRIDE)

EFFICIENTNETS: dict[str, EfficientNetShape] = {
    # (width, depth) of Tan and Le 2019; padding as in the published TensorFlow weights
    "tf_efficientnet_b0": EfficientNetShape(width=1.0, depth=1.0, tf_same=True),
    "tf_efficientnet_b1": EfficientNetShape(width=1.0, depth=1.1, tf_same=True),
    "tf_efficientnet_b2": EfficientNetShape(width=1.1, depth=1.2, tf_same=True),
    "tf_efficientnet_b3": EfficientNetShape(width=1.2, depth=1.4, tf_same=True),
    "tf_efficientnet_b4": EfficientNetShape(width=1.4, depth=1.8, tf_same=True),
    "tf_efficientnet_b5": EfficientNetShape(width=1.6, depth=2.2, tf_same=True),
    "tf_efficientnet_b6": EfficientNetShape(width=1.8, depth=2.6, tf_same=True),
    "tf_efficientnet_b7": EfficientNetShape(width=2.0, depth=3.1, tf_same=True),
    # ESeg, Table 3: fused blocks
    "eseg_lite_s": EfficientNetShape(width=0.4, depth=0.6, fused=True),
    "eseg_lite_m": EfficientNetShape(width=0.6, depth=1.0, fused=True),
    "eseg_lite_l": EfficientNetShape(width=1.0, depth=1.0, fused=True),
    # not from a paper: small enough to train on a CPU within minutes
    "efficientnet_tiny": EfficientNetShape(width=0.25, depth=0.3),
    "efficientnet_mini": EfficientNetShape(width=0.35, depth=0.5),
    "efficientnet_small": EfficientNetShape(width=0.5, depth=0.5),
}

SWINS: dict[str, SwinShape] = {
    # Liu et al. 2021, Sec. 3.3; windows of 12 for the weights from 384 pixels, as SenFormer uses them
    "swin_tiny": SwinShape(dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24)),
    "swin_small": SwinShape(dim=96, depths=(2, 2, 18, 2), heads=(3, 6, 12, 24)),
    "swin_base": SwinShape(dim=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=12),
    "swin_large": SwinShape(dim=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12),
    # not from a paper: small enough to train on a CPU within minutes
    "swin_nano": SwinShape(dim=32, depths=(1, 1, 2, 1), heads=(1, 2, 4, 8), drop_path=0.0),
}

SLIM_RESNETS: dict[str, SlimResNetShape] = {
    "resnet50_slim": SlimResNetShape(depths=(3, 4, 6, 3)),
    "resnet101_slim": SlimResNetShape(depths=(3, 4, 23, 3)),
    # not from a paper: small enough to train on a CPU within minutes
    "resnet_slim_nano": SlimResNetShape(depths=(2, 2, 2, 1), stem=16, width=8),
}


def build_backbone(name: str, *, levels: tuple[int, ...], output_stride: int = FULL_STRIDE) -> Backbone:
    """Make a backbone with random weights.

    Args:
        name: A key of ``EFFICIENTNETS``, ``SWINS`` or ``SLIM_RESNETS``, or any timm network with
            ``features_only`` (``resnet50``, ``resnet50c``, ``convnext_large``, ...).
        levels: Levels to give, ascending.
        output_stride: Stride that the network ends at, 8, 16 or 32. Below 32 the later stages are dilated
            instead of strided; they keep their level as key, ``strides`` says their true stride.

    Returns:
        Module ``(B, 3, H, W) -> {level: (B, C, h, w)}`` with the attributes ``channels: dict[int, int]`` and
        ``strides: dict[int, int]``; a level has ``ceil(n / stride)`` pixels for n.

    Raises:
        ValueError: If timm does not know the name, the network lacks a level or cannot be dilated.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride={output_stride} is none of {OUTPUT_STRIDES}; choose one of them")
    if name in EFFICIENTNETS:
        return EfficientNet(EFFICIENTNETS[name], levels=levels, output_stride=output_stride)
    if name in SLIM_RESNETS:
        return SlimResNet(SLIM_RESNETS[name], levels=levels, output_stride=output_stride)
    if name in SWINS:
        if output_stride != FULL_STRIDE:
            raise ValueError(
                f"backbone.name={name!r} cannot end at output_stride={output_stride}: a Swin Transformer has "
                f"no convolutions to dilate; use output_stride={FULL_STRIDE} or a ResNet"
            )
        return Swin(SWINS[name], levels=levels)
    from segsweep.models.backbones.timm_features import TimmFeatures  # 1.8 s: only those who need it pay

    return TimmFeatures(name, levels=levels, output_stride=output_stride)
