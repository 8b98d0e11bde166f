"""Reading images and masks: every failure is a ``DataError`` that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from segsweep.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MASK_SUFFIXES = (".png",)  # JPEG is lossy: it would invent class ids
_IMAGE_MODES = {"RGB", "RGBA", "RGBX", "L", "LA", "P", "PA", "1"}
_MASK_MODES = {"L", "P", "1", "I;16", "I;16B", "I"}
_UPRIGHT = 1


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an RGB image, uint8 ``(H, W, 3)``; grey and palette images are converted, alpha is dropped."""
    with _opened(path) as picture:
        if picture.mode not in _IMAGE_MODES:
            raise DataError(
                f"{path}: image has pixel mode {picture.mode!r}; allowed are 8-bit grey, palette and RGB(A); "
                "convert it to an 8-bit RGB PNG or JPEG"
            )
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def read_upright(path: Path) -> NDArray[np.uint8]:
    """Read a user's picture as people see it, RGB uint8 ``(H, W, 3)``: turned as its EXIF tag says.

    Raises:
        DataError: If it is missing or damaged; names the file.
    """
    image = read_image(path)
    try:
        with Image.open(path) as picture:
            if picture.getexif().get(ExifTags.Base.Orientation, _UPRIGHT) == _UPRIGHT:
                return image
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: its EXIF tags cannot be read ({error}); save the picture again") from error


def read_mask(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read the ids of a mask, uint8 or uint16 ``(H, W)``."""
    with _opened(path) as picture:
        problem = mask_mode_problem(picture)
        if problem:
            raise DataError(f"{path}: {problem}")
        ids = np.asarray(picture)  # a palette PNG's index is the label id: converting to RGB would lose it
    if ids.dtype == np.bool_:
        return ids.astype(np.uint8)
    if ids.dtype == np.uint8:
        return ids
    if ids.size and (ids.min() < 0 or ids.max() > np.iinfo(np.uint16).max):
        raise DataError(
            f"{path}: mask ids reach {ids.max()}; allowed are 0..65535; save it as a 16-bit grey PNG"
        )
    return ids.astype(np.uint16)


def mask_mode_problem(picture: Image.Image) -> str:
    """Why this picture cannot be a mask, or an empty string."""
    if picture.mode in _MASK_MODES:
        return ""
    return (
        f"mask has pixel mode {picture.mode!r}; a mask holds one class id per pixel (8-bit grey, palette or "
        "16-bit grey PNG); save the ids, not their colours"
    )


def image_problem(picture: Image.Image) -> str:
    """Why this picture's pixels may not lie as its mask's do, or an empty string."""
    if picture.format != "JPEG":
        return ""  # Pillow would decode a whole PNG to look for the tag
    orientation = picture.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    if orientation == _UPRIGHT:
        return ""
    return (
        f"image carries EXIF orientation {orientation}, so its mask may be turned or not; "
        "save the image upright without the tag"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open and hand out a picture; decoding errors inside the block become ``DataError`` too."""
    try:
        with Image.open(path) as picture:
            yield picture
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; restore it or remove its partner") from error
    except PermissionError as error:
        raise DataError(f"{path}: no permission to read; run `chmod +r` on it") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a PNG or JPEG picture; download or export the file again") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be decoded ({error}); the file is damaged, restore it") from error
