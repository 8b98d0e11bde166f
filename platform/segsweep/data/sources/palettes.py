"""Tables of class names and colours as text, and colours for data sets that publish none."""

from __future__ import annotations

import colorsys

Palette = tuple[tuple[int, int, int], ...]

_GOLDEN_RATIO = 0.618034  # steps of this size spread hues evenly whatever their number


def listed_names(text: str) -> tuple[str, ...]:
    """``"a, b c,\\n d"`` as ``("a", "b c", "d")``."""
    return tuple(" ".join(name.split()) for name in text.split(","))


def listed_colours(text: str) -> Palette:
    """``"1 2 3, 4 5 6"`` as ``((1, 2, 3), (4, 5, 6))``, RGB in 0..255."""
    colours = []
    for entry in text.split(","):
        red, green, blue = map(int, entry.split())
        colours.append((red, green, blue))
    return tuple(colours)


def spread_hues(count: int) -> Palette:
    """``count`` RGB colours in 0..255 with evenly spread hues at three levels of brightness."""
    return tuple(_hue(index) for index in range(count))


def _hue(index: int) -> tuple[int, int, int]:
    value = 1.0 - 0.25 * (index % 3)
    red, green, blue = colorsys.hsv_to_rgb((index * _GOLDEN_RATIO) % 1.0, 0.65, value)
    return round(255 * red), round(255 * green), round(255 * blue)
