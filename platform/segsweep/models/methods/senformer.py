"""SenFormer (Bousselham et al. 2021, "Efficient Self-Ensemble for Semantic Segmentation"), and UPerNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from segsweep.losses.deep_supervision import auxiliary_term, ensemble_terms
from segsweep.losses.per_pixel import CrossEntropy, LossTerm, PerPixelLoss
from segsweep.models.backbones import build_backbone
from segsweep.models.heads.fcn import FCNHead
from segsweep.models.heads.learner_ensemble import EnsembleOutput, LearnerEnsemble
from segsweep.models.heads.learners import LearnerShape, NormPlace, Sharing, make_learners
from segsweep.models.heads.merging import GATE_CHANNELS, GatedMerge, PlainMerge
from segsweep.models.heads.uper import UperFusion, UperHead, UperPyramid
from segsweep.models.interface import Criterion, MethodConfig, SegmentationOutput
from segsweep.models.methods.unused_fields import refuse_set
from segsweep.models.necks.fpnt import FPNT
from segsweep.models.segmenter import AUXILIARY_LEVEL, Segmenter, check_image_size

LEVELS = (2, 3, 4, 5)

_LEARNER_FIELDS = ("num_blocks", "num_heads", "sharing", "norm", "reuse_keys")
_MERGING_FIELDS = ("learners_per_level", "merging", "inference_merging", "gate_channels", "merged_levels")
_UNUSED: dict[str, tuple[str, ...]] = {
    "learners": (),
    "fusion": _MERGING_FIELDS,
    "senuper": (*_LEARNER_FIELDS, "learners_per_level"),
    "uper": (*_LEARNER_FIELDS, *_MERGING_FIELDS),
}


def _indivisible(path: str, num_heads: int, channels: int) -> str:
    return (
        f"{path}.num_heads={num_heads} does not divide neck.channels={channels}; "
        "choose a width that is a multiple of the heads"
    )


class SenFormerBackbone(BaseModel):
    """Encoder.

    Attributes:
        name: Any name that ``build_backbone`` knows and that has levels 2 to 5; in the paper ``resnet50c``,
            ``resnet101c`` and ``swin_tiny|small|base|large``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(default="resnet50c", min_length=1)


class SenFormerNeck(BaseModel):
    """Decoder.

    Attributes:
        kind: What smooths each level: a window-transformer block, a 3x3 convolution, or nothing (and then no
            top-down sum either).
        channels: Width of every level, and of the queries; a multiple of the heads. Also the width of
            UPerNet's pyramid, which has no other field of the neck.
        window: Side of a window in pixels of its level; of ``fpnt`` only.
        num_heads: Heads of the window attention; of ``fpnt`` only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["fpnt", "fpn", "none"] = "fpnt"
    channels: int = Field(default=512, ge=8, le=2048)
    window: int = Field(default=7, ge=2, le=32)
    num_heads: int = Field(default=8, ge=1, le=64)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind != "fpnt":
            refuse_set(self, "neck", ("window", "num_heads"), f"neck.kind={self.kind!r}")
        elif self.channels % self.num_heads:
            raise ValueError(_indivisible("neck", self.num_heads, self.channels))
        return self


class SenFormerHead(BaseModel):
    """Prediction.

    Attributes:
        kind: ``learners``: SenFormer. ``fusion``: all levels merged, then one learner
            (FeaturesFusionBaseline). ``uper``: UPerNet. ``senuper``: UPerNet's pyramid with an ensemble of
            one decoder a level.
        num_blocks: Blocks that each learner applies, L in the paper.
        num_heads: Attention heads of the blocks.
        sharing: What learners have in common; see ``LearnerShape``.
        norm: Layer norm before each branch, or after each sum.
        reuse_keys: Whether a repeated block projects its keys once; the same function at lower cost.
        learners_per_level: Independent learners on each level.
        merging: How predictions are merged.
        inference_merging: Another rule for inference alone; ``same`` keeps ``merging``. A vote has exact
            zeros, so nothing can be trained through it.
        gate_channels: Width of the gates of ``hierarchical`` and ``explicit``.
        merged_levels: Levels that are merged at inference (SenFormer, Table 1).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["learners", "uper", "senuper", "fusion"] = "learners"
    num_blocks: int = Field(default=6, ge=1, le=12)
    num_heads: int = Field(default=8, ge=1, le=64)
    sharing: Sharing = "repeated"
    norm: NormPlace = "pre"
    reuse_keys: bool = False
    learners_per_level: int = Field(default=1, ge=1, le=4)
    merging: Literal["average", "hierarchical", "explicit"] = "average"
    inference_merging: Literal["same", "product", "vote"] = "same"
    gate_channels: int = Field(default=GATE_CHANNELS, ge=8, le=1024)
    merged_levels: tuple[int, ...] = LEVELS

    @field_validator("merged_levels")
    @classmethod
    def _levels_exist(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if not levels or not set(levels) <= set(LEVELS) or len(set(levels)) < len(levels):
            raise ValueError(f"merged_levels={levels} is not a choice of one or more of {LEVELS}, each once")
        return tuple(sorted(levels))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse_set(self, "head", _UNUSED[self.kind], f"head.kind={self.kind!r}")
        if self.merging == "average":
            refuse_set(self, "head", ("gate_channels",), "head.merging='average'")
        else:
            refuse_set(
                self, "head", ("inference_merging", "learners_per_level"), f"head.merging={self.merging!r}"
            )
        if self.reuse_keys and self.sharing != "repeated":
            raise ValueError(
                f"head.reuse_keys=True has no meaning for head.sharing={self.sharing!r}, whose blocks are "
                "distinct; leave it out"
            )
        if self.kind == "fusion" and self.sharing not in {"repeated", "none"}:
            raise ValueError(
                f"head.sharing={self.sharing!r} has no meaning for head.kind='fusion', which has one "
                "learner; use 'repeated' or 'none'"
            )
        return self


class AuxiliaryHead(BaseModel):
    """Head on level 4 of the backbone that only teaches.

    Attributes:
        channels: Width between its convolution and its classifier.
        weight: Factor of its loss; 0 builds none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int = Field(default=512, ge=8, le=2048)
    weight: float = Field(default=0.4, ge=0)


class SenFormerConfig(MethodConfig):
    """One SenFormer, UPerNet, or something between.

    Attributes:
        backbone: Encoder.
        neck: Decoder.
        head: Prediction.
        auxiliary: Head on the backbone that only teaches.
    """

    method: ClassVar[str] = "senformer"
    backbone: SenFormerBackbone = SenFormerBackbone()
    neck: SenFormerNeck = SenFormerNeck()
    head: SenFormerHead = SenFormerHead()
    auxiliary: AuxiliaryHead = AuxiliaryHead()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.head.kind in {"uper", "senuper"}:
            refuse_set(self.neck, "neck", ("kind", "window", "num_heads"), f"head.kind={self.head.kind!r}")
        elif self.neck.channels % self.head.num_heads:
            raise ValueError(_indivisible("head", self.head.num_heads, self.neck.channels))
        return self

    def check_size(self, size: tuple[int, int]) -> None:
        """Every level needs a pixel of its own."""
        check_image_size(size, top_level=LEVELS[-1])

    def build(self, num_classes: int) -> Segmenter:
        """Make the network: backbone, FPNT, learners; or UPerNet on the backbone."""
        backbone = build_backbone(self.backbone.name, levels=LEVELS)
        neck, head = self._decoder(backbone.channels, num_classes)
        auxiliary = None
        if self.auxiliary.weight > 0:
            in_channels = backbone.channels[AUXILIARY_LEVEL]
            auxiliary = FCNHead(in_channels, channels=self.auxiliary.channels, num_classes=num_classes)
        return Segmenter(
            backbone,
            neck,
            head,
            levels=(LEVELS[0], LEVELS[-1]),
            num_classes=num_classes,
            auxiliary=auxiliary,
        )

    def _decoder(self, in_channels: dict[int, int], num_classes: int) -> tuple[nn.Module, nn.Module]:
        width = self.neck.channels
        if self.head.kind == "uper":
            return nn.Identity(), UperHead(in_channels, channels=width, num_classes=num_classes)
        if self.head.kind == "senuper":
            decoders = [FCNHead(width, channels=width, num_classes=num_classes) for _ in LEVELS]
            return UperPyramid(in_channels, channels=width), self._ensemble(decoders, num_classes)
        if self.neck.kind == "fpnt":
            neck = FPNT(in_channels, channels=width, window=self.neck.window, num_heads=self.neck.num_heads)
        else:
            neck = FPNT(in_channels, channels=width, kind=self.neck.kind)
        shape = LearnerShape(channels=width, **{name: getattr(self.head, name) for name in _LEARNER_FIELDS})
        if self.head.kind == "fusion":
            (learner,) = make_learners(1, num_classes=num_classes, shape=shape)
            return neck, nn.Sequential(UperFusion(LEVELS, channels=width), learner)
        count = len(LEVELS) * self.head.learners_per_level
        return neck, self._ensemble(make_learners(count, num_classes=num_classes, shape=shape), num_classes)

    def _ensemble(self, learners: Sequence[nn.Module], num_classes: int) -> LearnerEnsemble:
        head = self.head
        merging = (
            PlainMerge("average")
            if head.merging == "average"
            else GatedMerge(head.merging, LEVELS, num_classes=num_classes, channels=head.gate_channels)
        )
        return LearnerEnsemble(
            [level for level in LEVELS for _ in range(head.learners_per_level)],
            learners,
            merging=merging,
            inference_merging=None
            if head.inference_merging == "same"
            else PlainMerge(head.inference_merging),
            merged_levels=head.merged_levels,
        )

    def criterion(self, pixel_loss: PerPixelLoss) -> Criterion:
        """Loss of the prediction, mean loss of the learners, and 0.4 times that of the auxiliary head.

        UPerNet's cross-entropy is divided by all pixels, ignored ones too, as is that of every auxiliary head
        (mmsegmentation 0.x); SenFormer's by the labelled ones.

        Args:
            pixel_loss: The recipe's loss per pixel.
        """
        if self.head.kind == "uper" and isinstance(pixel_loss, CrossEntropy):
            pixel_loss = replace(pixel_loss, count_ignored=True)

        def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
            terms = _prediction_terms(output, labels, pixel_loss)
            if output.auxiliary_logits is not None:
                terms["auxiliary"] = auxiliary_term(
                    output.auxiliary_logits,
                    labels,
                    ignore_index=pixel_loss.ignore_index,
                    weight=self.auxiliary.weight,
                )
            return terms

        return criterion


def _prediction_terms(
    output: SegmentationOutput, labels: Tensor, pixel_loss: PerPixelLoss
) -> dict[str, LossTerm]:
    if isinstance(output, EnsembleOutput) and output.learner_logits is not None:
        return ensemble_terms(output.logits, output.learner_logits, labels, pixel_loss=pixel_loss)
    logits = output.semantic_logits((labels.shape[-2], labels.shape[-1]))
    return {"segmentation": LossTerm(pixel_loss(logits, labels))}


_BACKBONES = {
    "r50": "resnet50c",
    "r101": "resnet101c",
    "swin-t": "swin_tiny",
    "swin-s": "swin_small",
    "swin-b": "swin_base",
    "swin-l": "swin_large",
}
_UPER_AUXILIARY = AuxiliaryHead(channels=256)  # mmsegmentation's UPerNet


def _senformer(
    backbone: str = "r50", *, neck: SenFormerNeck | None = None, **head: object
) -> SenFormerConfig:
    return SenFormerConfig(
        backbone=SenFormerBackbone(name=_BACKBONES[backbone]),
        neck=neck or SenFormerNeck(),
        head=SenFormerHead.model_validate(head),
    )


def _uper(backbone: str) -> SenFormerConfig:
    return _senformer(backbone, kind="uper").model_copy(update={"auxiliary": _UPER_AUXILIARY})


PRESETS: dict[str, SenFormerConfig] = {
    # SenFormer, Table 5
    **{f"senformer-{name}": _senformer(name) for name in _BACKBONES},
    **{f"uper-{name}": _uper(name) for name in _BACKBONES},
    # SenFormer, Table 4
    "senuper-r50": _senformer(kind="senuper"),
    "fusion-r50": _senformer(kind="fusion"),
    # SenFormer, Tables 2 and 14: sharing
    "senformer-r50-unshared": _senformer(sharing="none"),
    "senformer-r50-unshared-l1": _senformer(sharing="none", num_blocks=1),
    "senformer-r50-decoder": _senformer(sharing="decoder"),
    "senformer-r50-cls": _senformer(sharing="cls"),
    "senformer-r50-decoder-cls": _senformer(sharing="decoder_cls"),
    "senformer-r101-unshared": _senformer("r101", sharing="none"),
    "senformer-swin-l-unshared": _senformer("swin-l", sharing="none"),
    # SenFormer, Table 3: depth
    "senformer-r50-l1": _senformer(num_blocks=1),
    "senformer-r50-l3": _senformer(num_blocks=3),
    "senformer-r50-l9": _senformer(num_blocks=9),
    # SenFormer, the other ablations: neck, norm, merging, learners a scale
    "senformer-r50-fpn": _senformer(neck=SenFormerNeck(kind="fpn")),
    "senformer-r50-laterals": _senformer(neck=SenFormerNeck(kind="none")),
    "senformer-r50-postnorm": _senformer(norm="post"),
    "senformer-r50-product": _senformer(inference_merging="product"),
    "senformer-r50-vote": _senformer(inference_merging="vote"),
    "senformer-r50-hierarchical": _senformer(merging="hierarchical"),
    "senformer-r50-explicit": _senformer(merging="explicit"),
    "senformer-r50-2-learners": _senformer(learners_per_level=2),
}
