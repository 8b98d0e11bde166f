"""DeepLabV3+ (Chen et al. 2018), the decoder that ESeg compares itself with."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from segsweep.models.backbones import build_backbone
from segsweep.models.context.aspp import ASPP
from segsweep.models.heads.deeplab import LOW_LEVEL_CHANNELS, DeepLabDecoder, DeepLabHead
from segsweep.models.interface import MethodConfig
from segsweep.models.layers.conv import set_batch_norm_momentum
from segsweep.models.segmenter import Segmenter, check_image_size

_LOW_LEVEL, _HIGH_LEVEL = 2, 5


class DeepLabBackbone(BaseModel):
    """Encoder.

    Attributes:
        name: As ``build_backbone`` takes it; it must be able to dilate where ``output_stride`` is below 32.
        output_stride: Stride of the coarsest features; 16 and 8 need atrous convolutions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(default="tf_efficientnet_b1", min_length=1)
    output_stride: Literal[8, 16, 32] = 16


class DeepLabContext(BaseModel):
    """Atrous spatial pyramid pooling.

    Attributes:
        base_rate: The three rates are 1, 2 and 3 times this (DeepLabV3: 6 at output stride 16, 12 at 8).
        channels: Width of every branch and of the output.
        separable: Depthwise separable atrous convolutions.
        dropout: Share of the output that is dropped in training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    base_rate: int = Field(default=6, ge=1, le=36)
    channels: int = Field(default=256, ge=8, le=2048)
    separable: bool = False
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @property
    def rates(self) -> tuple[int, int, int]:
        """Distance of the taps of each atrous convolution in pixels."""
        return self.base_rate, 2 * self.base_rate, 3 * self.base_rate


class DeepLabDecoding(BaseModel):
    """Decoder.

    Attributes:
        low_level_channels: Width that the features of stride 4 are narrowed to.
        channels: Width of the 3x3 convolutions.
        num_convs: Number of 3x3 convolutions.
        separable: Depthwise separable 3x3 convolutions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    low_level_channels: int = Field(default=LOW_LEVEL_CHANNELS, ge=1, le=512)
    channels: int = Field(default=256, ge=8, le=2048)
    num_convs: int = Field(default=2, ge=1, le=4)
    separable: bool = True


class DeepLabConfig(MethodConfig):
    """One DeepLabV3+ design.

    Attributes:
        backbone: Encoder.
        context: Atrous spatial pyramid pooling.
        decoder: Decoder to stride 4.
        batch_norm_momentum: Share of the newest batch in the running statistics.
    """

    method: ClassVar[str] = "deeplab"
    backbone: DeepLabBackbone = DeepLabBackbone()
    context: DeepLabContext = DeepLabContext()
    decoder: DeepLabDecoding = DeepLabDecoding()
    batch_norm_momentum: float = Field(default=0.1, gt=0, le=1)

    def check_size(self, size: tuple[int, int]) -> None:
        """The coarsest level needs a pixel of its own."""
        check_image_size(size, top_level=_HIGH_LEVEL)

    def build(self, num_classes: int) -> Segmenter:
        """Make the network: backbone, ASPP, decoder, linear classifier."""
        backbone = build_backbone(
            self.backbone.name, levels=(_LOW_LEVEL, _HIGH_LEVEL), output_stride=self.backbone.output_stride
        )
        model = Segmenter(
            backbone,
            nn.Identity(),
            self._head(backbone.channels, num_classes),
            levels=(_LOW_LEVEL, _HIGH_LEVEL),
            num_classes=num_classes,
        )
        set_batch_norm_momentum(model, self.batch_norm_momentum)
        return model

    def _head(self, channels: dict[int, int], num_classes: int) -> DeepLabHead:
        context = ASPP(
            channels[_HIGH_LEVEL],
            channels=self.context.channels,
            rates=self.context.rates,
            separable=self.context.separable,
            dropout=self.context.dropout,
        )
        decoder = DeepLabDecoder(
            channels[_LOW_LEVEL],
            self.context.channels,
            channels=self.decoder.channels,
            low_level_channels=self.decoder.low_level_channels,
            num_convs=self.decoder.num_convs,
            separable=self.decoder.separable,
        )
        return DeepLabHead(context, decoder, channels=self.decoder.channels, num_classes=num_classes)


def _deeplab(backbone: str, output_stride: Literal[8, 16, 32]) -> DeepLabConfig:
    return DeepLabConfig(backbone=DeepLabBackbone(name=backbone, output_stride=output_stride))


PRESETS: dict[str, DeepLabConfig] = {
    # ESeg, Table 8: DeepLabV3+ on ESeg-S's encoder and on ResNet-50, with and without atrous convolutions
    "deeplab-b1-os16": _deeplab("tf_efficientnet_b1", 16),
    "deeplab-b1-os32": _deeplab("tf_efficientnet_b1", 32),
    "deeplab-r50-os16": _deeplab("resnet50", 16),
    "deeplab-r50-os32": _deeplab("resnet50", 32),
    # not from a paper: small enough to train on a CPU within minutes
    "deeplab-tiny-os16": DeepLabConfig(
        backbone=DeepLabBackbone(name="efficientnet_tiny"),
        context=DeepLabContext(channels=32),
        decoder=DeepLabDecoding(channels=32, low_level_channels=16),
    ),
}
