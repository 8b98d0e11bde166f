"""HFGD (Huang et al. 2024, "High-Level Feature Guided Decoding") and the baselines of its paper."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from segsweep.losses.class_aware import ClassAwareLoss
from segsweep.losses.per_pixel import LossTerm, PerPixelLoss, PixelLoss
from segsweep.models.backbones import TOP_LEVEL, build_backbone
from segsweep.models.context import CLASS_AWARE_KINDS, ContextKind, build_context
from segsweep.models.context.aspp import DEFAULT_RATES
from segsweep.models.guidance import Guidance, GuidanceKind, GuidanceOptions, GuidedOutput, GuidedSegmenter
from segsweep.models.heads.upsamplers import UpsamplerKind, build_upsampler
from segsweep.models.interface import Criterion, MethodConfig, SegmentationOutput
from segsweep.models.layers.conv import set_batch_norm_momentum
from segsweep.models.layers.resize import resize_bilinear
from segsweep.models.segmenter import check_image_size

_LEVELS = (2, 3, 4, 5)


class _Choices(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def _refuse_unused(self, names: tuple[str, ...], *, because: str) -> None:
        """Refuse fields that have no effect, unless they are left out or have their default."""
        for name in names:
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                raise ValueError(
                    f"{name}={value!r} has no meaning {because}; leave it out (default {default!r})"
                )


class HFGDBackbone(_Choices):
    """Encoder.

    Attributes:
        name: Any backbone of ``segsweep.models.backbones``. ``resnet50_slim`` is the one that the
            paper's costs fit; ``resnet50d`` is nearest to it among those with published weights.
        output_stride: 8 or 16 dilate the last stages; the dilated baselines use 8.
    """

    name: str = Field(default="resnet50_slim", min_length=1)
    output_stride: Literal[8, 16, 32] = 32


class HFGDContext(_Choices):
    """Context encoder on the top level.

    Attributes:
        kind: ``cae`` is HFGD's; the others are those of its ablation.
        wide_channels: Width of the CAE's first convolution.
        wide_kernel: Its kernel size; the paper says that 1 beats 3.
        width: Width inside OCR, self-attention and CAE (there after the first convolution), and so of the
            class-aware feature.
        attention: Whether the CAE has self-attention.
        auxiliary_weight: Weight of the loss on OCR's soft regions (Yuan et al. 2020: 0.4).
    """

    kind: ContextKind = "cae"
    wide_channels: int = Field(default=2048, ge=8, le=8192)
    wide_kernel: Literal[1, 3] = 1
    width: int = Field(default=512, ge=8, le=4096)
    attention: bool = True
    auxiliary_weight: float = Field(default=0.4, ge=0)

    @property
    def is_class_aware(self) -> bool:
        """Whether the class-aware losses have a feature to act on."""
        return self.kind in CLASS_AWARE_KINDS

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind != "cae":
            names = ("wide_channels", "wide_kernel", "attention")
            self._refuse_unused(names, because=f"for context.kind={self.kind!r}, only for 'cae'")
        if self.kind in {"identity", "aspp", "ppm"}:
            self._refuse_unused(("width",), because=f"for context.kind={self.kind!r}")
        if self.kind != "ocr":
            self._refuse_unused(
                ("auxiliary_weight",), because=f"for context.kind={self.kind!r}, only for 'ocr'"
            )
        return self


class HFGDUpsampler(_Choices):
    """Decoder.

    Attributes:
        kind: ``usfpn`` is HFGD's, with 3x3 laterals; ``none`` classifies the context encoder's output.
        channels: Token width: that of the context encoder's output and of the upsampled feature.
        output_stride: Stride of the logits; 2 only with ``sfpn``, ``usfpn`` and ``fapn``.
    """

    kind: UpsamplerKind = "usfpn"
    channels: int = Field(default=256, ge=8, le=2048)
    output_stride: Literal[4, 2] = 4

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind in {"none", "uper", "deeplab"}:
            allowed = "only for 'sfpn', 'usfpn' and 'fapn'"
            self._refuse_unused(("output_stride",), because=f"for upsampler.kind={self.kind!r}, {allowed}")
        return self


class HFGDGuidance(_Choices):
    """What the top feature teaches the upsampler.

    Attributes:
        kind: See ``GuidanceOptions``, as for the next four.
        stop_gradient: Whether backbone, context encoder and tokens are protected from the student.
        attention_channels: Width of queries and keys of the axial attention.
        attention_heads: Heads of the axial attention.
        residual: Whether the axial attention is added to its input.
        teacher_weight: Weight of the teacher's loss; the paper prints none. With the gradients stopped, the
            two losses train separate parameters.
    """

    kind: GuidanceKind = "full"
    stop_gradient: bool = True
    attention_channels: int = Field(default=512, ge=8, le=4096)
    attention_heads: int = Field(default=4, ge=1, le=64)
    residual: bool = True
    teacher_weight: float = Field(default=1.0, gt=0)

    @property
    def options(self) -> GuidanceOptions:
        """The same without the loss."""
        return GuidanceOptions(**self.model_dump(exclude={"teacher_weight"}))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = f"for guidance.kind={self.kind!r}"
        if not self.options.teaches:
            names: tuple[str, ...] = ("stop_gradient", "teacher_weight")
            self._refuse_unused(names, because=f"{found}, only for 'guidance' and 'full'")
        if not self.options.attends:
            names = ("attention_channels", "attention_heads", "residual")
            self._refuse_unused(names, because=f"{found}, only for 'attention' and 'full'")
        if self.attention_channels % self.attention_heads:
            raise ValueError(
                f"attention_heads={self.attention_heads} does not divide "
                f"attention_channels={self.attention_channels}; use a divisor"
            )
        return self


class HFGDClassAware(_Choices):
    """Class-aware regularisation (Huang et al. 2022, CAR) of the feature that the context encoder names.

    Attributes:
        intra: Weight of the loss between pixels and their class's centre; 0 leaves it out.
        inter_class: Weight of the loss between centres.
        inter_pixel: Weight of the loss between pixels and the centres of other classes.
        mask_ignored: Whether unlabelled pixels are left out of the last one (CAR's code lets them in).
    """

    intra: float = Field(default=1.0, ge=0)
    inter_class: float = Field(default=1.0, ge=0)
    inter_pixel: float = Field(default=1.0, ge=0)
    mask_ignored: bool = True


class HFGDConfig(MethodConfig):
    """One HFGD design, or one of the baselines that it is compared with.

    Attributes:
        backbone: Encoder.
        context: Context encoder on the top level.
        upsampler: Decoder.
        guidance: High-level feature guidance.
        car: Class-aware losses; only where the context encoder is ``cae`` or ``sa_car``.
        batch_norm_momentum: Share of the newest batch in the running statistics. CAR's configs have 3e-4,
            which needs ten thousands of steps.
    """

    method: ClassVar[str] = "hfgd"
    backbone: HFGDBackbone = HFGDBackbone()
    context: HFGDContext = HFGDContext()
    upsampler: HFGDUpsampler = HFGDUpsampler()
    guidance: HFGDGuidance = HFGDGuidance()
    car: HFGDClassAware = HFGDClassAware()
    batch_norm_momentum: float = Field(default=0.1, gt=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.upsampler.kind == "none" and self.guidance.kind != "none":
            raise ValueError(
                f"guidance.kind={self.guidance.kind!r} has nothing to guide with upsampler.kind='none'; "
                "use guidance.kind='none' or another upsampler"
            )
        if self.guidance.options.attends and self.upsampler.channels % self.guidance.attention_heads:
            raise ValueError(
                f"guidance.attention_heads={self.guidance.attention_heads} does not divide "
                f"upsampler.channels={self.upsampler.channels}; use a divisor"
            )
        if not self.context.is_class_aware and self.car != HFGDClassAware():
            raise ValueError(
                f"car={self.car!r} has no feature to act on with context.kind={self.context.kind!r}; "
                "leave car out or use 'cae' or 'sa_car'"
            )
        return self

    def check_size(self, size: tuple[int, int]) -> None:
        """Every level needs a pixel of its own."""
        check_image_size(size, top_level=TOP_LEVEL)

    def build(self, num_classes: int) -> GuidedSegmenter:
        """Make the network: backbone, context encoder, upsampler, guidance."""
        channels = self.upsampler.channels
        backbone = build_backbone(
            self.backbone.name, levels=_LEVELS, output_stride=self.backbone.output_stride
        )
        top = backbone.channels[TOP_LEVEL]
        taps = {level: backbone.channels[level] for level in _LEVELS[:-1]}
        upsampler = build_upsampler(
            self.upsampler.kind, taps, channels=channels, output_stride=self.upsampler.output_stride
        )
        model = GuidedSegmenter(
            backbone,
            build_context(
                self.context.kind, top, channels=channels, num_classes=num_classes, **self._context_options()
            ),
            upsampler,
            Guidance(channels, num_classes=num_classes, options=self.guidance.options),
            stride=backbone.strides[TOP_LEVEL] if upsampler is None else self.upsampler.output_stride,
        )
        set_batch_norm_momentum(model, self.batch_norm_momentum)
        return model

    def _context_options(self) -> dict[str, Any]:
        if self.context.kind == "aspp":
            doubled = 2 if self.backbone.output_stride == 8 else 1  # DeepLabV3, Sec. 3.3
            return {"rates": tuple(doubled * rate for rate in DEFAULT_RATES)}
        names = {"width"} if self.context.kind in {"ocr", "self_attention", "sa_car", "cae"} else set()
        if self.context.kind == "cae":
            names |= {"wide_channels", "wide_kernel", "attention"}
        return self.context.model_dump(include=names)

    def criterion(self, pixel_loss: PerPixelLoss) -> Criterion:
        """Pixel losses of student and teacher, and the class-aware losses (HFGD, section on the losses).

        Args:
            pixel_loss: The recipe's loss per pixel, of both resized to the labels.
        """
        class_aware = self._class_aware_loss(pixel_loss.ignore_index)

        def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
            if not isinstance(output, GuidedOutput):
                raise TypeError(
                    f"HFGD's loss needs a GuidedOutput, not a {type(output).__name__}; "
                    "use the model that the same config builds"
                )
            terms = {"segmentation": LossTerm(_resized_loss(pixel_loss, output.logits, labels))}
            if output.teacher_logits is not None:
                loss = _resized_loss(pixel_loss, output.teacher_logits, labels)
                terms["teacher"] = LossTerm(loss, self.guidance.teacher_weight)
            if output.auxiliary_logits is not None:
                loss = _resized_loss(pixel_loss, output.auxiliary_logits, labels)
                terms["auxiliary"] = LossTerm(loss, self.context.auxiliary_weight)
            if output.class_features is not None and class_aware is not None:
                terms |= class_aware(output.class_features, labels, output.logits.shape[1])
            return terms

        return criterion

    def _class_aware_loss(self, ignore_index: int) -> ClassAwareLoss | None:
        if not self.context.is_class_aware or not any(
            (self.car.intra, self.car.inter_class, self.car.inter_pixel)
        ):
            return None
        return ClassAwareLoss(
            intra=self.car.intra,
            inter_class=self.car.inter_class,
            inter_pixel=self.car.inter_pixel,
            mask_ignored=self.car.mask_ignored,
            ignore_index=ignore_index,
        )


def _resized_loss(pixel_loss: PerPixelLoss, logits: Tensor, labels: Tensor) -> PixelLoss:
    return pixel_loss(resize_bilinear(logits, (labels.shape[-2], labels.shape[-1])), labels)


_ENCODERS: dict[str, ContextKind] = {
    "identity": "identity",
    "aspp": "aspp",
    "ocr": "ocr",
    "sa": "self_attention",
    "sa-car": "sa_car",
    "cae": "cae",
}


def _design(
    context: ContextKind,
    upsampler: UpsamplerKind,
    guidance: GuidanceKind = "none",
    *,
    backbone: str = "resnet50_slim",
    dilated_stride: Literal[8, 32] = 32,
    output_stride: Literal[4, 2] = 4,
    channels: int = 256,
    stop_gradient: bool = True,
) -> HFGDConfig:
    return HFGDConfig(
        backbone=HFGDBackbone(name=backbone, output_stride=dilated_stride),
        context=HFGDContext(kind=context),
        upsampler=HFGDUpsampler(kind=upsampler, channels=channels, output_stride=output_stride),
        guidance=HFGDGuidance(kind=guidance, stop_gradient=stop_gradient),
    )


PRESETS: dict[str, HFGDConfig] = {
    # HFGD, Table 9, with two rows of the encoder ablation: "sfpn-identity" and "d8-sa-car"
    "hfgd-r50-os4": HFGDConfig(),
    "hfgd-r50-os2": _design("cae", "usfpn", "full", output_stride=2),
    # The same with a backbone that has published weights
    "hfgd-r50d-os4": _design("cae", "usfpn", "full", backbone="resnet50d"),
    "hfgd-r50d-os2": _design("cae", "usfpn", "full", backbone="resnet50d", output_stride=2),
    # HFGD, ablation of the context encoder: classified as it is at stride 32 or 8, or under an SFPN
    **{f"hfgd-r50-os32-{name}": _design(kind, "none") for name, kind in _ENCODERS.items()},
    **{
        f"hfgd-r50-d8-{name}": _design(kind, "none", dilated_stride=8)
        for name, kind in _ENCODERS.items()
        if kind != "cae"
    },
    **{f"hfgd-r50-sfpn-{name}": _design(kind, "sfpn") for name, kind in _ENCODERS.items()},
    # HFGD, ablation of the guidance module (Table 5: with CAE)
    "hfgd-r50-sfpn-identity-guidance": _design("identity", "sfpn", "guidance"),
    "hfgd-r50-sfpn-identity-attention": _design("identity", "sfpn", "attention"),
    "hfgd-r50-sfpn-identity-full": _design("identity", "sfpn", "full"),
    "hfgd-r50-sfpn-identity-full-gradients": _design("identity", "sfpn", "full", stop_gradient=False),
    "hfgd-r50-sfpn-cae-guidance": _design("cae", "sfpn", "guidance"),
    "hfgd-r50-sfpn-cae-attention": _design("cae", "sfpn", "attention"),
    "hfgd-r50-sfpn-cae-full": _design("cae", "sfpn", "full"),
    "hfgd-r50-sfpn-sa-car-full": _design("sa_car", "sfpn", "full"),
    # HFGD, Table 8: upsamplers with their own encoder, without and with guidance
    "hfgd-r50-usfpn-identity": _design("identity", "usfpn"),
    "hfgd-r50-usfpn-cae": _design("cae", "usfpn"),
    "hfgd-r50-fapn": _design("identity", "fapn"),
    "hfgd-r50-fapn-full": _design("identity", "fapn", "full"),
    "hfgd-r50-uper": _design("ppm", "uper", channels=512),
    "hfgd-r50-uper-full": _design("ppm", "uper", "full", channels=512),
    "hfgd-r50-d8-deeplab": _design("aspp", "deeplab", dilated_stride=8),
    "hfgd-r50-d8-deeplab-full": _design("aspp", "deeplab", "full", dilated_stride=8),
    # HFGD, Swin-L and the comparison with other methods
    "hfgd-swin-l-sfpn-cae": _design("cae", "sfpn", backbone="swin_large"),
    "hfgd-swin-l-usfpn-cae": _design("cae", "usfpn", backbone="swin_large"),
    "hfgd-swin-l-sfpn-full": _design("cae", "sfpn", "full", backbone="swin_large"),
    "hfgd-swin-l-os4": _design("cae", "usfpn", "full", backbone="swin_large"),
    "hfgd-convnext-l-os4": _design("cae", "usfpn", "full", backbone="convnext_large"),
    "hfgd-convnext-l-os2": _design("cae", "usfpn", "full", backbone="convnext_large", output_stride=2),
}
