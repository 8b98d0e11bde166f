"""Label maps as people look at them: coloured masks, overlays on the picture, comparisons with a legend."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from segsweep.data.interface import DatasetInfo, Image, Labels

VOID_COLOUR = (0, 0, 0)
OPACITY = 0.55
PANEL_WIDTH = 640  # pixels
_RIGHT, _WRONG = (235, 238, 241), (200, 30, 45)
_ENTRIES_OF_A_PALETTE = 256
_TEXT, _PAPER = (34, 34, 34), (255, 255, 255)
_LINE = 18  # pixels of a line of the legend
_GAP = 6


def coloured(labels: Labels, info: DatasetInfo) -> Image:
    """Label map ``(H, W)`` as RGB ``(H, W, 3)`` in the palette of the data set; void is black."""
    return _colours(info)[np.minimum(labels, info.num_classes)]


def overlay(image: Image, labels: Labels, info: DatasetInfo, *, opacity: float = OPACITY) -> Image:
    """Mix a picture with the colours of its labels; void pixels show the picture alone.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        labels: Class ids ``(H, W)``; K or more is void.
        info: Gives the palette.
        opacity: Share of the colours, 0..1.
    """
    share = np.where(labels < info.num_classes, opacity, 0.0)[..., None].astype(np.float32)
    mixed = image * (1 - share) + coloured(labels, info) * share
    return np.asarray(mixed + 0.5, dtype=np.uint8)


def mask_picture(labels: Labels, info: DatasetInfo) -> PilImage.Image:
    """A picture of a label map that keeps the ids where it can.

    Up to 255 classes it is a palette picture: its pixels are class ids (K for void) and look like
    ``coloured``. With more classes it is the colours alone.
    """
    if info.num_classes >= _ENTRIES_OF_A_PALETTE:
        return PilImage.fromarray(coloured(labels, info))
    picture = PilImage.fromarray(np.minimum(labels, info.num_classes).astype(np.uint8))
    picture.putpalette(_colours(info).ravel().tolist())
    return picture


def legend(info: DatasetInfo, classes: Iterable[int], *, width: int) -> PilImage.Image:
    """Names beside their colours, as many in a line as fit.

    Args:
        info: Gives names and palette.
        classes: Class ids to show; others than 0..K-1 are left out.
        width: Pixels.
    """
    shown = [index for index in sorted(set(classes)) if 0 <= index < info.num_classes]
    font = ImageFont.load_default(size=12)
    places: list[tuple[int, int, int]] = []
    left, line = _GAP, 0
    for index in shown:
        needed = _LINE + int(font.getlength(info.class_names[index])) + 2 * _GAP
        if left > _GAP and left + needed > width:
            left, line = _GAP, line + 1
        places.append((index, left, line))
        left += needed
    picture = PilImage.new("RGB", (width, (line + 1) * _LINE + 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    for index, x, row in places:
        y = _GAP + row * _LINE
        draw.rectangle((x, y + 2, x + _LINE - 6, y + _LINE - 4), fill=info.palette[index], outline=_TEXT)
        draw.text((x + _LINE - 1, y + 1), info.class_names[index], fill=_TEXT, font=font)
    return picture


def comparison(
    image: Image, truth: Labels, prediction: Labels, info: DatasetInfo, *, title: str = ""
) -> PilImage.Image:
    """Picture, truth, prediction and mistakes (red; void grey) side by side, over a legend.

    Panels are at most ``PANEL_WIDTH`` pixels wide.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        truth: Class ids or the ignore index, ``(H, W)``.
        prediction: Class ids, K for void, ``(H, W)``.
        info: Gives names and palette.
        title: Line above the panels.
    """
    panels = [image, overlay(image, truth, info), overlay(image, prediction, info)]
    panels.append(_mistakes(truth, prediction, info))
    shrink = min(1.0, PANEL_WIDTH / truth.shape[1])
    width, height = (max(1, round(side * shrink)) for side in truth.shape[::-1])
    total = 4 * width + 3 * _GAP
    names = legend(info, np.union1d(np.unique(truth), np.unique(prediction)).tolist(), width=total)
    picture = PilImage.new("RGB", (total, _LINE + _GAP + height + names.height), _PAPER)
    text = title or "picture, truth, prediction, mistakes"
    ImageDraw.Draw(picture).text((_GAP, 3), text, fill=_TEXT, font=ImageFont.load_default(size=12))
    for place, pixels in enumerate(panels):
        panel = PilImage.fromarray(pixels).resize((width, height), PilImage.Resampling.BILINEAR)
        picture.paste(panel, (place * (width + _GAP), _LINE + _GAP))
    picture.paste(names, (0, _LINE + _GAP + height))
    return picture


def _mistakes(truth: Labels, prediction: Labels, info: DatasetInfo) -> Image:
    labelled = truth < info.num_classes
    picture = np.full((*truth.shape, 3), 150, dtype=np.uint8)
    picture[labelled & (truth == prediction)] = _RIGHT
    picture[labelled & (truth != prediction)] = _WRONG
    return picture


def _colours(info: DatasetInfo) -> NDArray[np.uint8]:
    """``(K + 1, 3)``, the last for void."""
    return np.array([*info.palette, VOID_COLOUR], dtype=np.uint8)
