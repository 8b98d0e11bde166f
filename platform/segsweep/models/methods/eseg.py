"""ESeg (Meng et al. 2022, "Revisiting Multi-Scale Feature Fusion for Semantic Segmentation")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn

from segsweep.models.backbones import TOP_LEVEL, build_backbone
from segsweep.models.heads.weighted_sum import WeightedSumHead
from segsweep.models.interface import MethodConfig
from segsweep.models.layers.conv import Activation, set_batch_norm_momentum
from segsweep.models.necks.bifpn import BiFPN
from segsweep.models.necks.extra_levels import PooledLevels
from segsweep.models.necks.fpn import FPN
from segsweep.models.segmenter import Segmenter, check_image_size

_DEFAULT_REPEATS = 4  # ESeg-S


class ESegBackbone(BaseModel):
    """Encoder.

    Attributes:
        name: One of ``segsweep.models.backbones.EFFICIENTNETS`` (``tf_efficientnet_b0`` to ``b7``,
            ``eseg_lite_s|m|l``, ``efficientnet_tiny|mini|small``), or a timm network with ``features_only``
            such as ``resnet50``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(default="tf_efficientnet_b1", min_length=1)


class ESegNeck(BaseModel):
    """Decoder.

    Attributes:
        kind: Fusion over the levels (ESeg, Table 2).
        bottom_level: Finest level; logits have its stride.
        top_level: Coarsest level; levels above 5 are pooled from level 5 (ESeg, Table 1).
        channels: Width of every level, a multiple of 8.
        repeats: BiFPN layers; meaningless for an FPN, so it may then only be left out or have its default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["bifpn", "fpn"] = "bifpn"
    bottom_level: int = Field(default=2, ge=2, le=TOP_LEVEL)
    top_level: int = Field(default=9, ge=3, le=9)
    channels: int = Field(default=96, ge=8, le=1024)
    repeats: int = Field(default=_DEFAULT_REPEATS, ge=1, le=12)

    @field_validator("channels")
    @classmethod
    def _channels_divisible(cls, channels: int) -> int:
        if channels % 8:
            raise ValueError(
                f"channels={channels} is not a multiple of 8; "
                f"use {channels // 8 * 8} or {channels // 8 * 8 + 8}"
            )
        return channels

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bottom_level >= self.top_level:
            raise ValueError(
                f"bottom_level={self.bottom_level} is not below top_level={self.top_level}; "
                "fusion needs two levels or more"
            )
        if self.kind == "fpn" and self.repeats != _DEFAULT_REPEATS:
            raise ValueError(
                f"repeats={self.repeats} has no meaning for kind='fpn', which is applied once; leave it out "
                "(in a search space: repeats: {..., when: {neck.kind: [bifpn]}})"
            )
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """All levels, finest first."""
        return tuple(range(self.bottom_level, self.top_level + 1))


class ESegConfig(MethodConfig):
    """One ESeg design.

    Attributes:
        backbone: Encoder.
        neck: Decoder.
        activation: Activation of BiFPN and head; the Lite models use ReLU (ESeg).
        batch_norm_momentum: Share of the newest batch in the running statistics. The paper gives none;
            EfficientDet's 0.01 needs thousands of steps before the statistics mean anything.
    """

    method: ClassVar[str] = "eseg"
    backbone: ESegBackbone = ESegBackbone()
    neck: ESegNeck = ESegNeck()
    activation: Activation = "silu"
    batch_norm_momentum: float = Field(default=0.1, gt=0, le=1)

    def check_size(self, size: tuple[int, int]) -> None:
        """Every level needs a pixel of its own."""
        check_image_size(size, top_level=self.neck.top_level)

    def build(self, num_classes: int) -> Segmenter:
        """Make the network: backbone, pooled levels, BiFPN or FPN, weighted sum."""
        levels = self.neck.levels
        backbone = build_backbone(
            self.backbone.name, levels=tuple(level for level in levels if level <= TOP_LEVEL)
        )
        pooled = PooledLevels(backbone.channels, top_level=self.neck.top_level)
        model = Segmenter(
            backbone,
            nn.Sequential(pooled, self._fusion(pooled.channels)),
            WeightedSumHead(
                levels, channels=self.neck.channels, num_classes=num_classes, activation=self.activation
            ),
            levels=(levels[0], levels[-1]),
            num_classes=num_classes,
        )
        set_batch_norm_momentum(model, self.batch_norm_momentum)
        return model

    def _fusion(self, in_channels: Mapping[int, int]) -> nn.Module:
        if self.neck.kind == "fpn":
            return FPN(in_channels, channels=self.neck.channels)
        return BiFPN(
            in_channels,
            channels=self.neck.channels,
            repeats=self.neck.repeats,
            activation=self.activation,
        )


def _eseg(backbone: str, channels: int, repeats: int) -> ESegConfig:
    neck = ESegNeck(channels=channels, repeats=repeats)
    return ESegConfig(backbone=ESegBackbone(name=backbone), neck=neck)


def _lite(backbone: str, channels: int, repeats: int) -> ESegConfig:
    neck = ESegNeck(bottom_level=3, channels=channels, repeats=repeats)
    return ESegConfig(backbone=ESegBackbone(name=backbone), neck=neck, activation="relu")


def _small(kind: Literal["bifpn", "fpn"], top_level: int) -> ESegConfig:
    return ESegConfig(neck=ESegNeck(kind=kind, top_level=top_level))


PRESETS: dict[str, ESegConfig] = {
    # ESeg, Table 3
    "eseg-s": _eseg("tf_efficientnet_b1", 96, 4),
    "eseg-m": _eseg("tf_efficientnet_b4", 192, 5),
    "eseg-l": _eseg("tf_efficientnet_b7", 288, 6),
    "eseg-lite-s": _lite("eseg_lite_s", 64, 1),
    "eseg-lite-m": _lite("eseg_lite_m", 80, 2),
    "eseg-lite-l": _lite("eseg_lite_l", 96, 3),
    # ESeg, Tables 1 and 2: ESeg-S with fewer levels or another decoder
    "eseg-s-p5": _small("bifpn", 5),
    "eseg-s-p7": _small("bifpn", 7),
    "eseg-s-fpn-p5": _small("fpn", 5),
    "eseg-s-fpn-p9": _small("fpn", 9),
    # ESeg, ablation of the encoder: ESeg-S with ResNet-50
    "eseg-s-resnet50": _eseg("resnet50", 96, 4),
}
