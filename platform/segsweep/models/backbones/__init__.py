"""Backbones by name: images in, pyramid out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segsweep.models.backbones.efficientnet import EfficientNet, EfficientNetShape

if TYPE_CHECKING:
    from segsweep.models.backbones.timm_features import TimmFeatures

TOP_LEVEL = 5  # coarsest level of every backbone

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


def build_backbone(name: str, *, levels: tuple[int, ...]) -> EfficientNet | TimmFeatures:
    """Make a backbone with random weights.

    Args:
        name: A key of ``EFFICIENTNETS`` or any timm network with ``features_only`` (``resnet50``, ...).
        levels: Levels to give, ascending.

    Returns:
        Module ``(B, 3, H, W) -> {level: (B, C, h, w)}`` with the attribute ``channels: dict[int, int]``.

    Raises:
        ValueError: If timm does not know the name, or the network lacks a level.
    """
    if name in EFFICIENTNETS:
        return EfficientNet(EFFICIENTNETS[name], levels=levels)
    from segsweep.models.backbones.timm_features import TimmFeatures  # 1.8 s: only those who need it pay

    return TimmFeatures(name, levels=levels)
