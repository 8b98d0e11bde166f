"""Training augmentation on uint8 samples, and normalisation of batches."""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from segsweep.data.fast_crop import resized_crop
from segsweep.data.interface import Image, Labels
from segsweep.data.photometric import CHANCES, PhotometricDistortion
from segsweep.data.resampling import CropWindow, nearest_crop

# ImageNet statistics in 0..255, RGB, as used to train every backbone here.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
PADDING_COLOUR = (124, 116, 104)  # the mean: nearly 0 once normalised
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)[:, None, None]  # ITU-R BT.601
_REDRAWN = 10  # mmsegmentation's RandomCrop gives up after as many crops of one class

Side = Annotated[int, Field(ge=1)]
Strength = Annotated[float, Field(ge=0, lt=1)]
Grey = Annotated[int, Field(ge=0, le=255)]


class TrainTransform(BaseModel):
    """Random scale, crop, flip and colour, in this order.

    Attributes:
        scale_range: The image is resized by a factor drawn uniformly from this range.
        scale_step: The factor is one of ``low, low + step, ...`` of the range; ``None``: any.
        resize_base: Bounds of the longer and of the shorter side at factor 1, in pixels: the image is
            resized, keeping its proportions, to the largest size inside (mmsegmentation's ``img_scale``, in
            either order). ``None``: the factor is one on the image's own size.
        longest: Bound of the longer side whatever the factor, in pixels (detectron2's ``max_size``), beside
            ``resize_base``; ``None`` for none.
        crop: Height and width of the result; ``None``: the sample's own. A smaller resized image lies
            at the top left, the rest is filled with the padding colour and the ignore index.
        max_class_share: A crop is drawn again, up to 10 times, while one class has this share or more of its
            labelled pixels (mmsegmentation's ``cat_max_ratio``: 0.75); 1 takes the first crop.
        padding: RGB of the padding in 0..255.
        flip: Probability of a left-right flip.
        brightness: Shift of all channels by up to this share of 255.
        contrast: Factor in 1 -+ this on the distance from the mean grey; ``saturation``: on that from grey.
        photometric: Distortion as the papers' recipes do it, instead of the three above.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale_range: tuple[float, float] = (0.5, 2.0)
    scale_step: float | None = Field(default=None, gt=0)
    resize_base: tuple[Side, Side] | None = None
    longest: Side | None = None
    crop: tuple[Side, Side] | None = None
    max_class_share: float = Field(default=1.0, gt=0, le=1)
    padding: tuple[Grey, Grey, Grey] = PADDING_COLOUR
    flip: float = Field(default=0.5, ge=0, le=1)
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    photometric: PhotometricDistortion | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError(f"scale_range {self.scale_range} must rise from above 0, such as (0.5, 2.0)")
        return self

    @model_validator(mode="after")
    def _bounds_a_base(self) -> Self:
        if self.longest is not None and self.resize_base is None:
            raise ValueError(f"longest = {self.longest} bounds a resize_base; set that too, or leave it out")
        return self

    @model_validator(mode="after")
    def _one_kind_of_colour(self) -> Self:
        if self.photometric is not None and (self.brightness or self.contrast or self.saturation):
            raise ValueError(
                "photometric stands instead of brightness, contrast and saturation; set those inside "
                "photometric, or photometric to null"
            )
        return self

    def __call__(
        self, image: Image, labels: Labels, *, generator: np.random.Generator, ignore_index: int
    ) -> tuple[Image, Labels]:
        """Augment one sample.

        Args:
            image: uint8 ``(3, H, W)``.
            labels: uint8 or uint16 ``(H, W)``.
            generator: The only source of chance; always the same number of draws.
            ignore_index: Label of the padding.

        Returns:
            Image and labels of size ``crop``, of the types that came in, contiguous.
        """
        # New kinds of chance go to the end: the draws of the older ones, and so their results, stay.
        scale, top, left, flip, *colour = generator.random(7).tolist()
        redrawn = generator.random((_REDRAWN, 2)).tolist()
        photometric = generator.random(CHANCES).tolist()
        for position in ((top, left), *redrawn):
            window = self.window(labels.shape, scale=scale, position=position, flip=flip < self.flip)
            kept = nearest_crop(labels, window)
            if self.max_class_share == 1 or _largest_share(kept, ignore_index) < self.max_class_share:
                break
        pixels = self._coloured(resized_crop(image, window), colour)
        if self.photometric is not None:
            self.photometric.distort(pixels, photometric)
        return _padded(pixels, window.crop, self.padding), _padded(kept, window.crop, (ignore_index,))

    def window(
        self, shape: tuple[int, ...], *, scale: float, position: tuple[float, float], flip: bool
    ) -> CropWindow:
        """The part of the resized image to keep, from numbers in [0, 1)."""
        height, width = shape
        resized = self._resized((height, width), self._factor(scale))
        crop = self.crop or (height, width)
        spare = [max(0, side - kept) for side, kept in zip(resized, crop, strict=True)]
        top, left = (int(share * (room + 1)) for share, room in zip(position, spare, strict=True))
        return CropWindow(resized=resized, top=top, left=left, crop=crop, flip=flip)

    def _factor(self, chance: float) -> float:
        low, high = self.scale_range
        if self.scale_step is None:
            return low + (high - low) * chance
        steps = int((high - low) / self.scale_step + 1e-6)  # (2.0 - 0.5) / 0.1 is 14.999...
        return low + self.scale_step * int(chance * (steps + 1))

    def _resized(self, shape: tuple[int, int], factor: float) -> tuple[int, int]:
        height, width = shape
        if self.resize_base is None:
            return max(1, round(height * factor)), max(1, round(width * factor))
        shorter, longer = (int(side * factor) for side in sorted(self.resize_base))
        if self.longest is not None:
            longer = min(longer, self.longest)
        fitting = min(longer / max(shape), shorter / min(shape))
        return max(1, int(height * fitting + 0.5)), max(1, int(width * fitting + 0.5))

    def _coloured(self, image: Image, chance: list[float]) -> Image:
        if not (self.brightness or self.contrast or self.saturation):
            return image
        pixels = image.astype(np.float32)
        brightness, contrast, saturation = (2 * value - 1 for value in chance)
        if self.brightness:
            pixels += 255 * self.brightness * brightness
        if self.contrast:
            mean = float(pixels.mean())
            pixels = mean + (pixels - mean) * np.float32(1 + self.contrast * contrast)
        if self.saturation:
            grey = (pixels * _LUMA).sum(axis=0)
            pixels = grey + (pixels - grey) * np.float32(1 + self.saturation * saturation)
        np.clip(pixels, 0, 255, out=pixels)
        return (pixels + np.float32(0.5)).astype(np.uint8)


def normalise(images: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Subtract ImageNet's mean and divide by its deviation.

    Args:
        images: uint8 ``(B, 3, H, W)``.
        out: float32 of the same shape to write to; ``None`` makes it.
    """
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    scale = 1 / torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    normalised = images.to(torch.float32) if out is None else out.copy_(images)
    return normalised.sub_(mean).mul_(scale)


def _largest_share(labels: Labels, ignore_index: int) -> float:
    """Share of the most frequent class among the labelled pixels; 1 if there are none."""
    counts = np.bincount(labels.ravel())
    counts[ignore_index : ignore_index + 1] = 0
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def _padded(pixels: NDArray[Any], size: tuple[int, int], fill: tuple[int, ...]) -> NDArray[Any]:
    """Fill ``(..., h, w)`` up to ``size`` at the bottom and on the right, one value per channel."""
    height, width = pixels.shape[-2:]
    if (height, width) == size:
        return np.ascontiguousarray(pixels)
    result = np.empty((*pixels.shape[:-2], *size), dtype=pixels.dtype)
    result[...] = np.array(fill if pixels.ndim == 3 else fill[0], dtype=pixels.dtype).reshape(
        (-1, 1, 1) if pixels.ndim == 3 else ()
    )
    result[..., :height, :width] = pixels
    return result
