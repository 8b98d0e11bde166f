"""Pictures inside the page: smaller until all of them fit."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PilImage

from segsweep.errors import DataError

BUDGET = 1_000_000  # characters of all pictures together; the whole page stays below 2 MB
LARGEST, SMALLEST = 1400, 200  # pixels of width
MARGIN = 0.95  # of the width that the sizes ask for: files do not shrink quite as their area does
QUALITY = 82  # of WebP


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of the page.

    Attributes:
        heading: Key under which it was given: a trial id, ``SWEEP/TRIAL``, or words.
        data: ``data:`` URI.
    """

    heading: str
    data: str


def embedded(pictures: Mapping[str, Sequence[Path | bytes]], *, budget: int = BUDGET) -> list[Picture]:
    """Pictures as ``data:`` URIs of at most ``budget`` characters together.

    All are made narrower alike; below ``SMALLEST`` pixels of width the last ones are left out instead.

    Raises:
        DataError: If one cannot be read; names it.
    """
    opened = [(heading, _opened(heading, item)) for heading, items in pictures.items() for item in items]
    width = min(LARGEST, max((picture.width for _, picture in opened), default=LARGEST))
    while True:
        found = [Picture(heading=heading, data=_encoded(picture, width)) for heading, picture in opened]
        size = sum(len(picture.data) for picture in found)
        if size <= budget:
            return found
        if width <= SMALLEST:
            return list(_that_fit(found, budget))
        width = max(SMALLEST, int(width * MARGIN * math.sqrt(budget / size)))


def _that_fit(pictures: Sequence[Picture], budget: int) -> Iterator[Picture]:
    for picture in pictures:
        budget -= len(picture.data)
        if budget < 0:
            return
        yield picture


def _opened(heading: str, item: Path | bytes) -> PilImage.Image:
    try:
        with PilImage.open(io.BytesIO(item) if isinstance(item, bytes) else item) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        name = "bytes" if isinstance(item, bytes) else str(item)
        raise DataError(f"picture {name} of {heading!r} cannot be read ({error}); leave it out") from error


def _encoded(picture: PilImage.Image, width: int) -> str:
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), PilImage.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
