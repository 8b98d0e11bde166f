"""Putting short labels beside points so that none covers a point, another label or the frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_GAP_PX = 7.0
# right, left, above, below, then the corners: in pixels from the point, with the text's own anchor
_PLACES = (
    (1.0, 0.0, "left", "center"),
    (-1.0, 0.0, "right", "center"),
    (0.0, 1.0, "center", "bottom"),
    (0.0, -1.0, "center", "top"),
    (0.8, 0.8, "left", "bottom"),
    (-0.8, 0.8, "right", "bottom"),
    (0.8, -0.8, "left", "top"),
    (-0.8, -0.8, "right", "top"),
)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text that belongs to a point in data coordinates."""

    x: float
    y: float
    text: str


def place_labels(
    axes: Axes,
    labels: Sequence[Label],
    *,
    points: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
    color: str,
    size: float = 7.5,
) -> list[str]:
    """Write each label at the first free place around its point; one without a free place is left out.

    Args:
        axes: Where to write; its limits must be final.
        labels: In order of importance.
        points: Data coordinates that no label may cover.
        lines: Axis-parallel polylines in data coordinates that no label may cover.
        color: Text colour.
        size: Font size in points.
    Returns:
        The texts that were written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(axes.figure.get_figure(root=True))  # text is measured in the pixels of this canvas
    taken = [_around(axes, point) for point in points] + [
        box for line in lines for box in _segments(axes, line)
    ]
    written = []
    for label in labels:
        box = _write(axes, label, taken=taken, color=color, size=size)
        if box is not None:
            taken.append(box)
            written.append(label.text)
    return written


def _write(axes: Axes, label: Label, *, taken: Sequence[Bbox], color: str, size: float) -> Bbox | None:
    frame = axes.get_window_extent()
    for right, up, horizontal, vertical in _PLACES:
        scale = axes.figure.dpi / 72 * _GAP_PX * 0.72
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(right * _GAP_PX, up * _GAP_PX),
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            fontsize=size,
            color=color,
            zorder=6,
        )
        box = text.get_window_extent().padded(0.1 * scale)
        inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
        if inside and not any(box.overlaps(other) for other in taken):
            return box
        text.remove()
    return None


def _around(axes: Axes, point: tuple[float, float]) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(point)
    radius = 3.2 * axes.figure.dpi / 72
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _segments(axes: Axes, line: Sequence[tuple[float, float]]) -> list[Bbox]:
    from matplotlib.transforms import Bbox

    pixels = axes.transData.transform(line)
    width = 0.8 * axes.figure.dpi / 72
    return [
        Bbox.from_extents(min(x0, x1) - width, min(y0, y1) - width, max(x0, x1) + width, max(y0, y1) + width)
        for (x0, y0), (x1, y1) in itertools.pairwise(pixels)
    ]
