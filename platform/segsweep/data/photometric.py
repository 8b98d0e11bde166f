"""Photometric distortion: brightness, contrast, saturation and hue, each with a chance of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Pixels = NDArray[np.float32]
Factors = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]

_SMALLEST_CHROMA = np.float32(1e-6)  # in grey levels: a grey pixel has no hue to divide by


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
        order, *chance = chance
        shift, contrast, saturation, hue = zip(chance[::2], chance[1::2], strict=True)
        contrast_first = self.contrast_place == "first" or order >= 0.5
        if self.brightness and shift[0] < self.probability:
            pixels = _clipped(pixels + np.float32(self.brightness * (2 * shift[1] - 1)))
        if contrast_first:
            pixels = self._contrasted(pixels, contrast)
        if self.saturation != (1, 1) and saturation[0] < self.probability:
            pixels = saturated(pixels, _between(self.saturation, saturation[1]))
        if self.hue and hue[0] < self.hue_probability:
            pixels = hue_turned(pixels, self.hue * (2 * hue[1] - 1))
        return pixels if contrast_first else self._contrasted(pixels, contrast)

    def _contrasted(self, pixels: Pixels, chance: tuple[float, float]) -> Pixels:
        if self.contrast == (1, 1) or chance[0] >= self.probability:
            return pixels
        factor = np.float32(_between(self.contrast, chance[1]))
        if self.contrast_pivot == "black":
            return _clipped(pixels * factor)
        mean = pixels.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
        return _clipped((pixels - mean) * factor + mean)


CHANCES = 9  # the place of the contrast, then whether and how much of each of the four


def saturated(pixels: Pixels, factor: float) -> Pixels:
    """Multiply HSV's saturation of ``(3, H, W)`` in 0..255; hue and value stay, saturation ends at 1."""
    value = pixels.max(axis=0)
    chroma = np.maximum(value - pixels.min(axis=0), _SMALLEST_CHROMA)
    ratio = np.minimum(np.float32(factor), value / chroma)  # saturation is chroma / value
    muted: Pixels = value - (value - pixels) * ratio
    return muted


def hue_turned(pixels: Pixels, turn: float) -> Pixels:
    """Turn HSV's hue of ``(3, H, W)`` by a share of the circle; saturation and value stay."""
    red, green, blue = pixels
    value = pixels.max(axis=0)
    chroma = value - pixels.min(axis=0)
    divisor = np.maximum(chroma, _SMALLEST_CHROMA)
    sextant = np.where(
        value == red,
        (green - blue) / divisor,
        np.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sextant += np.float32(6 * turn)
    turned = np.empty_like(pixels)
    for channel, offset in enumerate((5, 3, 1)):  # hue in sixths of the circle: red 0, green 2, blue 4
        place = np.mod(sextant + np.float32(offset), np.float32(6))
        turned[channel] = value - chroma * np.clip(np.minimum(place, 4 - place), 0, 1)
    return turned


def _between(bounds: tuple[float, float], chance: float) -> float:
    low, high = bounds
    return low + (high - low) * chance


def _clipped(pixels: Pixels) -> Pixels:
    np.clip(pixels, 0, 255, out=pixels)
    return pixels
