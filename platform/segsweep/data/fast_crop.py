"""A resized crop in 8 bits: ``resampling``'s resize-then-crop by torch's integer kernel where that pays."""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor

from segsweep.data.interface import Image
from segsweep.data.resampling import CropWindow, bilinear_crop

# The kernel resizes everything above and left of the crop as well, but eight to ten times as fast as numpy
# resizes the crop alone (480x360 to 720x540: 0.9 ms against 8.6 ms).
_LARGEST_DETOUR = 8
_scratch = threading.local()


def resized_crop(image: Image, window: CropWindow) -> Image:
    """A window of an image ``(3, H, W)`` as uint8 in memory of its own, at most ``window.crop`` large.

    Equals ``bilinear_crop`` up to one grey level: torch's kernel rounds after the columns and after the rows.
    """
    rows, columns = window.rows(), window.columns()
    bottom, right = int(rows.max()) + 1, int(columns.max()) + 1
    if window.resized == image.shape[1:]:
        resized = _tensor(image)
    elif _pays(image, window, part=(bottom, right)):
        resized = _resized(image, window.resized, part=(bottom, right))
    else:
        return (bilinear_crop(image, window) + np.float32(0.5)).astype(np.uint8)
    crop = resized[:, window.top : bottom, window.left : right]
    pixels: Image = (crop.flip(-1) if window.flip else crop).numpy()
    return np.array(pixels, order="C")  # never the scratch memory itself


def _pays(image: Image, window: CropWindow, *, part: tuple[int, int]) -> bool:
    kept = len(window.rows()) * len(window.columns())
    narrowest = min(*image.shape[1:], *part)  # with a side of 1 torch takes one memory format for another
    return narrowest > 1 and part[0] * part[1] <= _LARGEST_DETOUR * kept


def _resized(image: Image, size: tuple[int, int], *, part: tuple[int, int]) -> Tensor:
    """The top left ``part`` of the image resized to ``size``, in a buffer that the next call overwrites."""
    sides = list(zip(part, size, image.shape[1:], strict=True))
    scales = [float(side) / found for _, side, found in sides]
    # The kernel takes a side as long as the source's for one that is not resized: ask for one pixel more.
    height, width = (kept + (kept == found != side) for kept, side, found in sides)
    pixels, out = _tensor(image)[None], _buffer(3 * height * width)
    # Pixels as Pillow decodes them, (H, W, 3) in memory, take the kernel half as long as three planes.
    if pixels.is_contiguous(memory_format=torch.channels_last):
        out = out.view(1, height, width, 3).permute(0, 3, 1, 2)
    else:
        out = out.view(1, 3, height, width)
    torch.ops.aten.upsample_bilinear2d.out(pixels, [height, width], False, *scales, out=out)
    return out[0]


def _buffer(size: int) -> Tensor:
    """This thread's scratch memory: fresh memory for every image would cost as much as resizing it."""
    found: Tensor | None = getattr(_scratch, "pixels", None)
    if found is None or found.numel() < size:
        found = _scratch.pixels = torch.empty(size, dtype=torch.uint8)
    return found[:size]


def _tensor(image: Image) -> Tensor:
    return torch.from_numpy(image if image.flags.writeable else image.copy())
