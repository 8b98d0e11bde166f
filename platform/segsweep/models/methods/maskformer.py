"""MaskFormer (Cheng et al. 2021, "Per-Pixel Classification is Not All You Need for Semantic Segmentation").

With the per-pixel baselines of the paper, which share backbone and pixel decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from segsweep.losses.mask_matching import MaskWeights, mask_terms, semantic_targets
from segsweep.losses.per_pixel import LossTerm, PerPixelLoss
from segsweep.models.backbones import SWINS, build_backbone
from segsweep.models.heads.mask_classification import (
    GENERAL_THRESHOLD,
    FramedOutput,
    MaskClassificationHead,
    MaskOutput,
    PerPixelHead,
    QueryClassHead,
)
from segsweep.models.heads.query_decoder import QueryDecoder
from segsweep.models.interface import Criterion, MethodConfig, SegmentationOutput
from segsweep.models.layers.frozen_norm import freeze_batch_norms
from segsweep.models.methods.unused_fields import refuse_set
from segsweep.models.necks.pixel_decoder import GROUPS, PixelDecoder, TransformerShape
from segsweep.models.padded_segmenter import PaddedSegmenter, check_padded_size

if TYPE_CHECKING:
    from segsweep.models.backbones import Backbone

LEVELS = (2, 3, 4, 5)
_MULTI_GRID = "resnet101c_multigrid"


def _multiple(channels: int, unit: int, path: str, what: str) -> int:
    if channels % unit:
        below = channels // unit * unit
        raise ValueError(
            f"{path}={channels} is not a multiple of {unit} ({what}); use {below} or {below + unit}"
        )
    return channels


class MaskFormerBackbone(BaseModel):
    """Encoder.

    Attributes:
        name: Any name that ``build_backbone`` knows and that has levels 2 to 5; in the paper ``resnet50``,
            ``resnet101``, ``resnet101c_multigrid`` and ``swin_tiny|small|base|large``.
        norm: ``frozen`` makes constants of all batch norms, as the paper does with pre-trained ResNets; from
            random weights nothing is normalised then. A Swin Transformer has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(default="resnet50", min_length=1)
    norm: Literal["bn", "frozen"] = "bn"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.norm == "frozen" and self.name in SWINS:
            raise ValueError(f"norm='frozen' has no meaning for name={self.name!r}; leave it out")
        return self


class MaskFormerNeck(BaseModel):
    """Pixel decoder.

    Attributes:
        channels: Width of the pyramid and of the mask features, a multiple of 32 (group norm).
        encoder_layers: Layers of a transformer encoder on the top level; the panoptic ResNets have 6. Heads,
            feed-forward width and dropout are the decoder's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int = Field(default=256, ge=GROUPS, le=1024)
    encoder_layers: int = Field(default=0, ge=0, le=6)

    @field_validator("channels")
    @classmethod
    def _channels_divisible(cls, channels: int) -> int:
        return _multiple(channels, GROUPS, "neck.channels", "the groups of its norms")


class MaskFormerDecoder(BaseModel):
    """Transformer decoder; of no use to ``model: perpixel``.

    Attributes:
        layers: Layers.
        self_attention: Whether queries attend to each other.
        queries: Number of queries; ``perpixel_plus`` has one for each class instead.
        deep_supervision: Whether every layer is trained to predict, and not only the last.
        channels: Width of queries and layers, a multiple of the heads and of 4.
        num_heads: Attention heads.
        hidden: Width within the feed-forward networks.
        dropout: Share of attention weights, hidden values and branches that is dropped in training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    layers: int = Field(default=6, ge=1, le=6)
    self_attention: bool = True
    queries: int = Field(default=100, ge=1, le=1000)
    deep_supervision: bool = True
    channels: int = Field(default=256, ge=8, le=1024)
    num_heads: int = Field(default=8, ge=1, le=64)
    hidden: int = Field(default=2048, ge=8, le=8192)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @field_validator("channels")
    @classmethod
    def _channels_divisible(cls, channels: int) -> int:
        return _multiple(channels, 4, "decoder.channels", "sines and cosines of rows and columns")


class MaskFormerLoss(BaseModel):
    """Factors in the loss and in the cost of a match; of ``model: maskformer`` only.

    Attributes:
        classification: Of the cross-entropy.
        focal: Of the focal loss of the masks.
        dice: Of the dice loss of the masks.
        no_object: Of the class "no object" within the cross-entropy.
        ignore_void: Leave unlabelled pixels out of the mask losses; in the paper's code they
            are background of every mask.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    classification: float = Field(default=1.0, gt=0)
    focal: float = Field(default=20.0, gt=0)
    dice: float = Field(default=1.0, gt=0)
    no_object: float = Field(default=0.1, ge=0, le=1)
    ignore_void: bool = False


class MaskFormerInference(BaseModel):
    """How masks become a class map; changes no weight. Of ``model: maskformer`` only.

    Attributes:
        kind: ``semantic``: sum over all queries. ``general``: the best query of each pixel.
        threshold: Score that a query must exceed; of ``general`` only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["semantic", "general"] = "semantic"
    threshold: float = Field(default=GENERAL_THRESHOLD, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "semantic":
            refuse_set(self, "inference", ("threshold",), "inference.kind='semantic'")
        return self


class MaskFormerConfig(MethodConfig):
    """One MaskFormer, or a baseline of its paper.

    Attributes:
        model: ``maskformer``; ``perpixel``: a 1x1 convolution on the mask features; ``perpixel_plus``: the
            query decoder with one query a class and a pixel loss.
        backbone: Encoder.
        neck: Pixel decoder.
        decoder: Transformer decoder.
        loss: Factors in the loss.
        inference: How masks become a class map.
    """

    method: ClassVar[str] = "maskformer"
    model: Literal["maskformer", "perpixel", "perpixel_plus"] = "maskformer"
    backbone: MaskFormerBackbone = MaskFormerBackbone()
    neck: MaskFormerNeck = MaskFormerNeck()
    decoder: MaskFormerDecoder = MaskFormerDecoder()
    loss: MaskFormerLoss = MaskFormerLoss()
    inference: MaskFormerInference = MaskFormerInference()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        reason = f"model={self.model!r}"
        if self.model != "maskformer":
            for path in ("loss", "inference"):
                part = getattr(self, path)
                refuse_set(part, path, tuple(type(part).model_fields), reason)
        if self.model == "perpixel_plus":
            refuse_set(self.decoder, "decoder", ("queries",), f"{reason}, which has a query for each class")
        if self.model == "perpixel":
            unused = set(MaskFormerDecoder.model_fields)
            if self.neck.encoder_layers:
                unused -= {"num_heads", "hidden", "dropout"}
            refuse_set(self.decoder, "decoder", tuple(sorted(unused)), reason)
        elif self.decoder.channels % self.decoder.num_heads:
            raise ValueError(self._indivisible("decoder"))
        if self.neck.encoder_layers and self.neck.channels % self.decoder.num_heads:
            raise ValueError(self._indivisible("neck"))
        return self

    def _indivisible(self, part: str) -> str:
        return (
            f"decoder.num_heads={self.decoder.num_heads} does not divide {part}.channels="
            f"{getattr(self, part).channels}; choose a width that is a multiple of the heads"
        )

    def check_size(self, size: tuple[int, int]) -> None:
        """The top level needs more than one pixel."""
        check_padded_size(size)

    def build(self, num_classes: int) -> PaddedSegmenter:
        """Make the network: backbone, pixel decoder, and the head of the model."""
        backbone = _build_backbone(self.backbone)
        layers = self.neck.encoder_layers
        encoder = self._shape(self.neck.channels, layers) if layers else None
        neck = PixelDecoder(
            {level: backbone.channels[level] for level in LEVELS},
            channels=self.neck.channels,
            encoder=encoder,
        )
        head = self._head(neck.channels[LEVELS[-1]], num_classes)
        return PaddedSegmenter(backbone, neck, head, levels=(LEVELS[0], LEVELS[-1]), num_classes=num_classes)

    def _shape(self, channels: int, num_layers: int) -> TransformerShape:
        return TransformerShape(
            channels=channels,
            num_heads=self.decoder.num_heads,
            hidden=self.decoder.hidden,
            dropout=self.decoder.dropout,
            num_layers=num_layers,
        )

    def _head(self, memory_channels: int, num_classes: int) -> nn.Module:
        if self.model == "perpixel":
            return PerPixelHead(self.neck.channels, num_classes=num_classes)
        channels = self.decoder.channels
        decoder = QueryDecoder(
            memory_channels,
            num_queries=self.decoder.queries if self.model == "maskformer" else num_classes,
            shape=self._shape(channels, self.decoder.layers),
            self_attention=self.decoder.self_attention,
            # An encoder gives its output at the right width: then there is no projection (official code).
            project=not self.neck.encoder_layers or memory_channels != channels,
        )
        widths: dict[str, Any] = {
            "channels": channels,
            "mask_channels": self.neck.channels,
            "deep_supervision": self.decoder.deep_supervision,
        }
        if self.model == "perpixel_plus":
            return QueryClassHead(decoder, **widths)
        threshold = self.inference.threshold if self.inference.kind == "general" else None
        return MaskClassificationHead(decoder, num_classes=num_classes, threshold=threshold, **widths)

    def criterion(self, pixel_loss: PerPixelLoss) -> Criterion:
        """Cross-entropy of the matched queries, focal and dice loss of their masks, summed over the layers.

        The baselines have the pixel loss, of each layer alike (MaskFormer, Sec. 4.1).

        Args:
            pixel_loss: The recipe's loss per pixel; of it, ``maskformer`` reads the ignored label alone.
        """
        if self.model != "maskformer":
            return _pixel_criterion(pixel_loss)
        factors = self.loss.model_dump()
        ignore_void = factors.pop("ignore_void")
        weights = MaskWeights(**factors)

        def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
            if not isinstance(output, MaskOutput):
                raise TypeError(
                    f"MaskFormer's loss needs a MaskOutput, not a {type(output).__name__}; "
                    "use the model that the same config builds"
                )
            if output.frame is not None:
                labels = output.frame.pad_labels(labels, ignore_index=pixel_loss.ignore_index)
            targets = semantic_targets(
                labels,
                num_classes=output.prediction.class_logits.shape[-1] - 1,
                ignore_index=pixel_loss.ignore_index,
                ignore_void=ignore_void,
            )
            return mask_terms((*(output.auxiliary or ()), output.prediction), targets, weights=weights)

        return criterion


def _pixel_criterion(pixel_loss: PerPixelLoss) -> Criterion:
    def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
        size = (labels.shape[-2], labels.shape[-1])
        terms = {"segmentation": LossTerm(pixel_loss(output.semantic_logits(size), labels))}
        if isinstance(output, FramedOutput):
            for layer, logits in enumerate(output.layer_logits or (), start=1):
                terms[f"layer_{layer}"] = LossTerm(pixel_loss(output.resized(logits, size), labels))
        return terms

    return criterion


def _build_backbone(choice: MaskFormerBackbone) -> Backbone:
    if choice.name == _MULTI_GRID:
        from segsweep.models.backbones.multi_grid_resnet import MultiGridResNet  # timm: 1.8 s

        backbone: Backbone = MultiGridResNet(choice.name, levels=LEVELS)
    else:
        backbone = build_backbone(choice.name, levels=LEVELS)
    if choice.norm == "frozen" and not freeze_batch_norms(backbone):
        raise ValueError(f"backbone.norm='frozen': {choice.name!r} has no batch norm; leave it out")
    return backbone


_BACKBONES = {
    "r50": "resnet50",
    "r101": "resnet101",
    "r101c": _MULTI_GRID,
    "swin-t": "swin_tiny",
    "swin-s": "swin_small",
    "swin-b": "swin_base",
    "swin-l": "swin_large",
}


def _maskformer(backbone: str = "r50", **parts: Any) -> MaskFormerConfig:
    return MaskFormerConfig.model_validate({"backbone": {"name": _BACKBONES[backbone]}} | parts)


PRESETS: dict[str, MaskFormerConfig] = {
    # MaskFormer, Table 1 (ADE20K), with the baselines; r101c also on Cityscapes
    **{f"maskformer-{name}": _maskformer(name) for name in _BACKBONES},
    "perpixel-r50": _maskformer(model="perpixel"),
    "perpixel-plus-r50": _maskformer(model="perpixel_plus"),
    # MaskFormer, panoptic segmentation of COCO
    "maskformer-r50-6enc": _maskformer(neck={"encoder_layers": 6}),
    "maskformer-r101-6enc": _maskformer("r101", neck={"encoder_layers": 6}),
    # MaskFormer, ablation of the number of queries
    **{f"maskformer-r50-q{n}": _maskformer(decoder={"queries": n}) for n in (20, 50, 150, 300)},
    # MaskFormer, Tables VII and VIII: inference, depth, self-attention
    "maskformer-r50-general": _maskformer(inference={"kind": "general"}),
    **{f"maskformer-r50-l{n}": _maskformer(decoder={"layers": n}) for n in range(1, 6)},
    "maskformer-r50-no-self-attention": _maskformer(decoder={"self_attention": False}),
}
