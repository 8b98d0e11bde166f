"""How a split is evaluated: what the network sees, and how its class maps are merged and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segsweep.errors import InvalidInput, Problem

Side = Annotated[int, Field(ge=1)]
Scale = Annotated[float, Field(gt=0, le=8)]
Size = tuple[Side, Side]

ORIGINAL: Literal["original"] = "original"
PREPARED: Literal["prepared"] = "prepared"


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resize(_Written):
    """Size at which the network sees an image at scale 1; nothing set: its own.

    Images are resized with Pillow's antialiased bilinear filter, as when data are prepared.

    Attributes:
        size: Height and width in pixels, whatever the image's proportions.
        short_side: Largest shorter side in pixels; proportions are kept.
        long_side: Largest longer side in pixels, likewise. With both set the smaller result holds
            (detectron2's ``MIN_SIZE_TEST`` and ``MAX_SIZE_TEST``, mmsegmentation's ``img_scale``).
    """

    size: Size | None = None
    short_side: Side | None = None
    long_side: Side | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.size is not None and (self.short_side or self.long_side):
            raise ValueError("size fixes both sides; remove it, or short_side and long_side")
        return self

    def apply(self, size: tuple[int, int], *, scale: float = 1.0, cap: int | None = None) -> Size:
        """Height and width that the network sees.

        Args:
            size: Those of the image in pixels.
            scale: Factor on the result; on ``long_side``, too, unless ``cap`` is given.
            cap: Largest longer side at every scale.
        """
        if self.size is not None:
            return _rounded(self.size, scale)
        factors = [self.short_side * scale / min(size)] if self.short_side else []
        if self.short_side is None and self.long_side is None:
            factors.append(scale)
        if cap is not None or self.long_side is not None:
            longest = cap if cap is not None else (self.long_side or 0) * scale
            factors.append(longest / max(size))
        return _rounded(size, min(factors))


class SlidingWindow(_Written):
    """Windows whose class maps are averaged where they overlap.

    Attributes:
        size: Height and width of a window in pixels.
        stride: Pixels between windows down and across, at most ``size``.
        variant: ``mmseg``: an image smaller than a window is seen as it is. ``segmenter``: it is first
            enlarged, keeping its proportions, until a window fits (Strudel et al. 2021, official code).
    """

    size: Size
    stride: Size
    variant: Literal["mmseg", "segmenter"] = "mmseg"

    @model_validator(mode="after")
    def _no_gaps(self) -> Self:
        if any(step > side for step, side in zip(self.stride, self.size, strict=True)):
            raise ValueError(
                f"stride {self.stride} exceeds the window {self.size} and would leave gaps; lower it"
            )
        return self

    @property
    def summary(self) -> str:
        """A few words for tables and pictures."""
        return f"window {_by(self.size)} stride {_by(self.stride)} ({self.variant})"

    def enlarged(self, size: tuple[int, int]) -> Size:
        """Height and width to which an image is resized before windows are cut."""
        factor = max(side / pixels for side, pixels in zip(self.size, size, strict=True))
        if self.variant == "mmseg" or factor <= 1:
            return size
        height, width = _rounded(size, factor)
        return max(height, self.size[0]), max(width, self.size[1])


class EvaluationProtocol(_Written):
    """One way to evaluate.

    Each scale (and its mirror image) is a forward pass of its own. Class maps are resized to the labels,
    un-mirrored, turned into probabilities by softmax (mmsegmentation, Segmenter; a mask classifier's maps
    are used as they are: MaskFormer) and averaged. Logits of different scales are never averaged. Labels are
    never resized.

    Attributes:
        labels: ``original``: the labels of the data set, whatever size the network sees. ``prepared``: those
            of prepared data, as during training.
        resize: What the network sees at scale 1. Of no meaning for prepared data, which are resized already.
        padded_to: Smallest height and width that the network sees: what is smaller gets the mean colour
            at its bottom and right, which is cut from the class maps (HFGD).
        window: Windows, or ``None`` for the whole image.
        scales: Factors of the forward passes.
        scaled_long_side: Largest longer side at all scales together (MaskFormer); ``None``: ``long_side``
            times the scale (mmsegmentation).
        flip: Whether the mirror image is seen as well.
        general_threshold: Score that a mask classifier's query must exceed to take part (MaskFormer, general
            inference): images without such a query are predicted void. ``None``: the model's own inference.
    """

    labels: Literal["original", "prepared"] = ORIGINAL
    resize: Resize = Resize()
    padded_to: Size | None = None
    window: SlidingWindow | None = None
    scales: tuple[Scale, ...] = Field(default=(1.0,), min_length=1)
    scaled_long_side: Side | None = None
    flip: bool = False
    general_threshold: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _void_has_no_mean(self) -> Self:
        merged = self.passes > 1 or self.window is not None or self.padded_to is not None
        if self.general_threshold is not None and merged:
            raise ValueError(
                "general_threshold decides by whole images at one scale; remove window, padded_to, scales "
                "and flip, or general_threshold"
            )
        return self

    @property
    def passes(self) -> int:
        """Forward passes for each image (or each window)."""
        return len(self.scales) * (2 if self.flip else 1)

    @property
    def summary(self) -> str:
        """One line for tables and pictures."""
        window = self.window.summary if self.window else "whole"
        scales = f"{len(self.scales)} scales" if len(self.scales) > 1 else f"scale {self.scales[0]:g}"
        padded = f"padded to {_by(self.padded_to)}" if self.padded_to else ""
        scales += " + flip" if self.flip else ""
        parts = [f"labels {self.labels}", self._seen(), padded, window, scales]
        if self.general_threshold is not None:
            parts.append(f"general inference over {self.general_threshold:g}")
        return ", ".join(part for part in parts if part)

    def _seen(self) -> str:
        if self.labels == PREPARED or self.resize == Resize():
            return ""
        if self.resize.size:
            return f"seen at {_by(self.resize.size)}"
        sides = {"short": self.resize.short_side, "long": self.resize.long_side}
        return "seen at " + " and ".join(f"{name} side {side}" for name, side in sides.items() if side)


def _protocol(short: int | None, long: int | None, **values: Any) -> EvaluationProtocol:
    return EvaluationProtocol(resize=Resize(short_side=short, long_side=long), **values)


def _slide(short: int, window: int, stride: int, **values: Any) -> EvaluationProtocol:
    slide = SlidingWindow(size=(window, window), stride=(stride, stride), variant="segmenter")
    return _protocol(short, None, window=slide, **values)


# mmsegmentation's MultiScaleFlipAug; MaskFormer's short sides of ADE20K: 256, 384, ..., 896
_SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)

PROTOCOLS: dict[str, EvaluationProtocol] = {
    # MaskFormer, Sec. 4.2 and official configs: whole images; the cap is one for all scales. "Original" for
    # ADE20K-Full is the copy of at most 512 pixels on the short side that its source gives.
    "maskformer/ade20k": _protocol(512, 2048),
    "maskformer/ade20k-ms": _protocol(512, 2048, scales=_SIX_SCALES, scaled_long_side=3584, flip=True),
    "maskformer/ade20k-large": _protocol(640, 2560),
    "maskformer/ade20k-large-ms": _protocol(640, 2560, scales=_SIX_SCALES, scaled_long_side=4480, flip=True),
    "maskformer/ade20k-full": _protocol(512, 2048),
    "maskformer/coco-stuff-10k": _protocol(640, 2560),
    "maskformer/coco-stuff-10k-ms": _protocol(
        640, 2560, scales=_SIX_SCALES, scaled_long_side=4480, flip=True
    ),
    "maskformer/cityscapes": _protocol(1024, 2048),
    "maskformer/cityscapes-ms": _protocol(1024, 2048, scales=_SIX_SCALES, scaled_long_side=4096, flip=True),
    "maskformer/mapillary": _protocol(None, 2048),
    "maskformer/mapillary-ms": _protocol(None, 2048, scales=(0.5, 1.0, 1.5), flip=True),
    # SenFormer, annex and released configs: mmsegmentation's "whole" mode.
    "senformer/ade20k": _protocol(512, 2048),
    "senformer/ade20k-ms": _protocol(512, 2048, scales=_SIX_SCALES, flip=True),
    "senformer/coco-stuff-10k": _protocol(512, 2048),
    "senformer/pascal-context": _protocol(520, 520),
    "senformer/cityscapes": _protocol(1024, 2048),
    "senformer/cityscapes-ms": _protocol(1024, 2048, scales=_SIX_SCALES, flip=True),
    # CTS, Sec. 4.1 (Segmenter): windows of the training size.
    "cts/ade20k": _slide(512, 512, 512),
    "cts/ade20k-large": _slide(640, 640, 640),
    "cts/pascal-context": _slide(520, 480, 320),
    "cts/cityscapes": _slide(1024, 768, 512),
    # ESeg, Sec. 4.1: whole images; those of ADE20K are of one size. HFGD, official configs: whole images,
    # padded; its scales are those of the framework it is written in.
    "eseg/cityscapes": EvaluationProtocol(),
    "eseg/ade20k": EvaluationProtocol(resize=Resize(size=(520, 520))),
    "hfgd/pascal-context": EvaluationProtocol(padded_to=(513, 513)),
    "hfgd/pascal-context-ms": EvaluationProtocol(padded_to=(513, 513), scales=_SIX_SCALES, flip=True),
    "hfgd/cityscapes": EvaluationProtocol(padded_to=(1025, 2049)),
    "hfgd/cityscapes-ms": EvaluationProtocol(padded_to=(1025, 2049), scales=_SIX_SCALES, flip=True),
}


def find_protocol(
    name: str, *, size: tuple[int, int] | None = None, overrides: Mapping[str, Any] | None = None
) -> EvaluationProtocol:
    """A protocol by name, with some of its values replaced.

    Args:
        name: ``original``: whole images at ``size``, labels of the data set. ``prepared``: prepared data, as
            during training. Or a key of ``PROTOCOLS``.
        size: Height and width at which the network was trained; ``None``: images at their own size.
        overrides: Values of the protocol by name; nested ones (``resize``) as mappings.

    Raises:
        InvalidInput: If the name is unknown, or with every value that is wrong.
    """
    known = {
        ORIGINAL: EvaluationProtocol(resize=Resize(size=size)),
        PREPARED: EvaluationProtocol(labels=PREPARED),
        **PROTOCOLS,
    }
    if name not in known:
        message = f"found {name!r}, allowed: {', '.join(known)}"
        raise InvalidInput([Problem(where="protocol", message=message)])
    return read_protocol({**known[name].model_dump(), **(overrides or {})}, where=f"protocol {name}")


def read_protocol(values: Any, *, where: str) -> EvaluationProtocol:
    """Check what a user wrote; ``InvalidInput`` names every value that is wrong."""
    try:
        return EvaluationProtocol.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(
            Problem(
                where=f"{where} {'.'.join(map(str, item['loc']))}".strip(),
                message=f"{item['msg'].removeprefix('Value error, ')}; allowed keys are "
                f"{', '.join(EvaluationProtocol.model_fields)}",
            )
            for item in error.errors()
        ) from error


def _rounded(size: tuple[int, int], factor: float) -> Size:
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
