"""Photometric distortion: brightness, contrast, saturation and hue, each with a chance of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from segsweep.data.interface import Image

Pixels = NDArray[np.float32]
Step = Callable[[Pixels], Pixels]
Factors = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]

_SMALLEST_CHROMA = np.float32(1e-6)  # in grey levels: a grey pixel has no hue to divide by
_BLOCK_PIXELS = 2**14  # 64 KiB a plane in float32


class PhotometricDistortion(BaseModel):
    """Random brightness, contrast, saturation and hue of an image in 0..255.

    The defaults are those of mmsegmentation's ``PhotoMetricDistortion``, with which SenFormer and UperNet
    train: brightness first, then contrast before or after saturation and hue, at random. Values are clipped
    to 0..255 after each step and, other than there, rounded only at the end.

    Attributes:
        brightness: Largest shift of all channels, in grey levels.
        contrast: Range of the factor on the distance from the pivot.
        saturation: Range of the factor on HSV's saturation, which ends at 1.
        hue: Largest turn of the hue, as a share of the whole circle (18 of OpenCV's 180 are 0.1).
        probability: Chance of brightness, of contrast and of saturation, each.
        hue_probability: Chance of the turn.
        contrast_pivot: Black, or the mean of each channel as in TensorFlow.
        contrast_place: Before or after saturation and hue at ``random``, or always ``first``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    brightness: float = Field(default=32.0, ge=0, le=255)
    contrast: Factors = (0.5, 1.5)
    saturation: Factors = (0.5, 1.5)
    hue: float = Field(default=0.1, ge=0, le=0.5)
    probability: float = Field(default=0.5, ge=0, le=1)
    hue_probability: float = Field(default=0.5, ge=0, le=1)
    contrast_pivot: Literal["black", "channel_mean"] = "black"
    contrast_place: Literal["random", "first"] = "random"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (low, high) in (("contrast", self.contrast), ("saturation", self.saturation)):
            if low > high:
                raise ValueError(f"{name} ({low}, {high}) must rise, such as (0.5, 1.5); (1, 1) is off")
        return self

    def __call__(self, pixels: Pixels, chance: Sequence[float]) -> Pixels:
        """Distort an image.

        Args:
            pixels: ``(3, H, W)`` RGB in 0..255; may be overwritten.
            chance: ``CHANCES`` numbers in [0, 1), the only source of chance.
        """
        for step in self._steps(chance):
            pixels = step(pixels)
        return pixels

    def distort(self, image: Image, chance: Sequence[float]) -> None:
        """Distort an image in 8 bits, ``(3, H, W)``, in place; rounded once, at the end.

        A few rows at a time: what the steps read and write then stays in the processor's cache.
        """
        steps = self._steps(chance)
        if not steps:
            return
        height, width = image.shape[1:]
        around_mean = self.contrast_pivot == "channel_mean"  # the only step that needs the whole image
        rows = height if around_mean else max(1, _BLOCK_PIXELS // width)
        for top in range(0, height, rows):
            pixels = image[:, top : top + rows].astype(np.float32)
            for step in steps:
                pixels = step(pixels)
            pixels += np.float32(0.5)
            image[:, top : top + rows] = pixels

    def _steps(self, chance: Sequence[float]) -> list[Step]:
        """The steps that happen, in their order; saturation and hue are one, since each keeps the other."""
        order, *chance = chance
        shift, contrast, saturation, hue = zip(chance[::2], chance[1::2], strict=True)
        brightened: list[Step] = []
        if self.brightness and shift[0] < self.probability:
            brightened.append(partial(_shifted, added=np.float32(self.brightness * (2 * shift[1] - 1))))
        contrasted: list[Step] = []
        if self.contrast != (1, 1) and contrast[0] < self.probability:
            about = _about_black if self.contrast_pivot == "black" else _about_mean
            contrasted.append(partial(about, factor=np.float32(_between(self.contrast, contrast[1]))))
        factor = 1.0
        if self.saturation != (1, 1) and saturation[0] < self.probability:
            factor = _between(self.saturation, saturation[1])
        coloured: list[Step] = []
        if self.hue and hue[0] < self.hue_probability:
            coloured.append(partial(hue_turned, turn=self.hue * (2 * hue[1] - 1), factor=factor))
        elif factor != 1:
            coloured.append(partial(saturated, factor=factor))
        if self.contrast_place == "first" or order >= 0.5:
            return brightened + contrasted + coloured
        return brightened + coloured + contrasted


CHANCES = 9  # the place of the contrast, then whether and how much of each of the four


def saturated(pixels: Pixels, factor: float) -> Pixels:
    """Multiply HSV's saturation of ``(3, H, W)`` in 0..255; hue and value stay, saturation ends at 1."""
    value = _largest(pixels)
    muted = pixels - value
    if factor <= 1:
        muted *= np.float32(factor)
    else:
        muted *= _limited(factor, value, value - _smallest(pixels))
    muted += value
    return muted


def hue_turned(pixels: Pixels, turn: float, factor: float = 1.0) -> Pixels:
    """Turn HSV's hue of ``(3, H, W)`` by a share of the circle, and multiply its saturation; value stays.

    A channel at distance d from the hue, in sixths of the circle, is value - chroma * clip(d - 1, 0, 1). All
    angles are held times chroma, so that nothing is divided.
    """
    thirds = round(3 * turn)  # turning by a third exchanges the channels
    rest = np.float32(6 * turn - 2 * thirds)  # -1..1 sixths
    value = _largest(pixels)
    chroma = value - _smallest(pixels)
    angle = _scaled_hue(pixels, value, chroma)
    if factor != 1:
        ratio = np.float32(factor) if factor < 1 else _limited(factor, value, chroma)
        chroma *= ratio
        angle *= ratio
    angle += rest * chroma
    least, half, third = value - chroma, np.float32(3) * chroma, np.float32(2) * chroma
    middle = least - chroma
    turned = np.empty_like(pixels)
    for channel in range(3):
        target = turned[(channel + thirds) % 3]
        np.abs(angle, out=target)
        target -= half
        np.abs(target, out=target)  # 3 - d, from either side of the circle
        target += middle
        np.maximum(target, least, out=target)
        np.minimum(target, value, out=target)
        angle -= third  # as seen from the next channel
    return turned


def _scaled_hue(pixels: Pixels, value: Pixels, chroma: Pixels) -> Pixels:
    """Hue in sixths of the circle, times chroma: within one of red (0), green (2) or blue (4), the largest.

    The three cases are added with weights 0 and 1, which takes half as long as choosing with ``where``.
    """
    red, green, blue = pixels
    is_red = value == red
    is_green = value == green
    np.greater(is_green, is_red, out=is_green)
    from_red, from_green = green - blue, blue - red
    twice = np.float32(2) * chroma
    from_green += twice
    hue: Pixels = red - green
    twice *= np.float32(2)
    hue += twice
    from_red -= hue
    from_red *= is_red.astype(np.float32)
    from_green -= hue
    from_green *= is_green.astype(np.float32)
    hue += from_red
    hue += from_green
    return hue


def _limited(factor: float, value: Pixels, chroma: Pixels) -> Pixels:
    """The factor on the chroma, limited so that saturation, which is chroma / value, ends at 1."""
    limit: Pixels = value / (chroma + _SMALLEST_CHROMA)
    np.clip(limit, 0, factor, out=limit)
    return limit


def _largest(pixels: Pixels) -> Pixels:
    largest: Pixels = np.maximum(pixels[0], pixels[1])
    np.maximum(largest, pixels[2], out=largest)
    return largest


def _smallest(pixels: Pixels) -> Pixels:
    smallest: Pixels = np.minimum(pixels[0], pixels[1])
    np.minimum(smallest, pixels[2], out=smallest)
    return smallest


def _shifted(pixels: Pixels, added: np.float32) -> Pixels:
    pixels += added
    return _clipped(pixels)


def _about_black(pixels: Pixels, factor: np.float32) -> Pixels:
    pixels *= factor
    return _clipped(pixels)


def _about_mean(pixels: Pixels, factor: np.float32) -> Pixels:
    mean = pixels.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    pixels -= mean
    pixels *= factor
    pixels += mean
    return _clipped(pixels)


def _between(bounds: tuple[float, float], chance: float) -> float:
    low, high = bounds
    return low + (high - low) * chance


def _clipped(pixels: Pixels) -> Pixels:
    np.clip(pixels, 0, 255, out=pixels)
    return pixels
