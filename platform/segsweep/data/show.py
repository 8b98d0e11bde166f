"""A picture of a data set: images, their labels as overlay, a legend and the class histogram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import DatasetInfo, Image, Labels, Sample, Source
from segsweep.data.mask_survey import id_table, survey
from segsweep.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OPACITY = 0.6
_COUNTED = 2000  # masks at most behind the histogram
_DPI = 110
_CELL_INCHES = 3.2
_BAR_INCHES = 0.19
_MOST_BARS = 60  # classes in the histogram, the most frequent ones
_VOID_COLOUR = (0, 0, 0)


def show_source(
    source: Source,
    out: Path,
    *,
    split: str | None = None,
    keys: Sequence[str] | None = None,
    count: int = 6,
    seed: int = 0,
) -> Path:
    """Draw samples of a data set and count its classes.

    Args:
        source: The data set.
        out: PNG file to write; its folder is created.
        split: Default the first one.
        keys: Samples to draw; default ``count`` of them at random.
        count: Number of samples.
        seed: Of the choice.

    Returns:
        ``out``.

    Raises:
        DataError: If the split or a key is unknown, or a sample cannot be read.
    """
    split = source.splits()[0] if split is None else split
    known = source.keys(split)
    if not known:
        raise DataError(f"split {split!r} of {source.info.name} is empty; choose another split")
    generator = np.random.default_rng(seed)
    if keys is None:
        chosen = np.sort(generator.choice(len(known), size=min(count, len(known)), replace=False))
        keys = [known[int(place)] for place in chosen]
    unknown = sorted(set(keys) - set(known))
    if unknown:
        raise DataError(
            f"{source.info.name}: split {split!r} has no sample {unknown[0]!r}; its first is {known[0]!r}"
        )
    samples = [source.load(split, key) for key in keys]
    pixels, masks = class_pixels(source, split, seed=seed)
    title = f"{source.info.name}, {split}: {len(known)} samples; shares of the pixels of {masks} masks"
    return draw_samples(samples, source.info, out, pixels=pixels, title=title)


def class_pixels(source: Source, split: str, *, seed: int = 0) -> tuple[NDArray[np.int64], int]:
    """Pixels of each class and then of void, ``(K + 1,)``, and over how many masks (at most 2,000)."""
    keys = source.keys(split)
    if len(keys) > _COUNTED:
        chosen = np.random.default_rng(seed).choice(len(keys), size=_COUNTED, replace=False)
        keys = [keys[int(place)] for place in np.sort(chosen)]
    ids = id_table(source)
    pixels = np.zeros(source.info.num_classes + 1, dtype=np.int64)
    for facts in survey(source, split, keys):
        for stored, number in facts.counts.items():
            pixels[ids.train_ids.get(stored, -1)] += number
    return pixels, len(keys)


def draw_samples(
    samples: Sequence[Sample],
    info: DatasetInfo,
    out: Path,
    *,
    pixels: NDArray[np.int64],
    title: str = "",
) -> Path:
    """Write one row per sample (image, overlay) beside the histogram, whose bars are the legend.

    Args:
        samples: At least one.
        info: Names and colours of the classes.
        out: PNG file to write; its folder is created.
        pixels: Of each class and then of void, ``(K + 1,)``.
        title: Heading.
    """
    from matplotlib.figure import Figure

    shares = pixels / max(1, pixels.sum())
    bars = _bars(shares, info)
    height = max(len(samples) * _CELL_INCHES * 0.8, len(bars) * _BAR_INCHES) + 1.1
    figure = Figure(
        figsize=(3 * _CELL_INCHES + 1.6, height), dpi=_DPI, facecolor="white", layout="constrained"
    )
    figure.suptitle(title or info.name)
    grid = figure.add_gridspec(len(samples), 3, width_ratios=(1, 1, 1.2))
    for row, sample in enumerate(samples):
        overlay = overlaid(sample.image, sample.labels, info)
        for column, picture in enumerate((sample.image, overlay)):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture)
            axes.set_axis_off()
            if column == 0:
                axes.set_title(_short(sample.key), fontsize=8, loc="left")
    _histogram(figure.add_subplot(grid[:, 2]), bars)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png")
    return out


def overlaid(image: Image, labels: Labels, info: DatasetInfo, *, opacity: float = _OPACITY) -> Image:
    """The labels' colours over an image ``(H, W, 3)``; void pixels keep the image, darkened."""
    colours = coloured(labels, info)
    mixed = (1 - opacity) * image + opacity * colours
    return (mixed + 0.5).astype(np.uint8)


def coloured(labels: Labels, info: DatasetInfo) -> Image:
    """Labels ``(H, W)`` as the palette's colours, uint8 ``(H, W, 3)``; void is black."""
    table = np.empty((info.ignore_index + 1, 3), dtype=np.uint8)
    table[:] = _VOID_COLOUR
    table[: info.num_classes] = info.palette
    return table[labels]


_Bar = tuple[str, float, tuple[int, int, int]]  # name, share of the pixels, colour


def _bars(shares: NDArray[np.float64], info: DatasetInfo) -> list[_Bar]:
    """Classes in their order; beyond 60 of them the most frequent ones. Void comes last."""
    order = np.arange(info.num_classes)
    if info.num_classes > _MOST_BARS:
        order = np.argsort(-shares[:-1], kind="stable")[:_MOST_BARS]
    bars = [(info.class_names[index], float(shares[index]), info.palette[index]) for index in order]
    if info.num_classes > _MOST_BARS:
        rest = float(shares[:-1].sum() - sum(share for _, share, _ in bars))
        bars.append((f"{info.num_classes - _MOST_BARS} other classes", rest, (200, 200, 200)))
    return [*bars, ("void", float(shares[-1]), _VOID_COLOUR)]


def _histogram(axes: Axes, bars: Sequence[_Bar]) -> None:
    names, shares, colours = zip(*bars, strict=True)
    places = range(len(bars))
    face = [tuple(channel / 255 for channel in colour) for colour in colours]
    axes.barh(places, [100 * share for share in shares], color=face, edgecolor="#888888", linewidth=0.4)
    axes.set_yticks(places, labels=names, fontsize=7)
    for place, share in zip(places, shares, strict=True):
        text = "none" if share == 0 else f"{100 * share:.2g} %"
        axes.annotate(
            text, (100 * share, place), xytext=(3, 0), textcoords="offset points", va="center", size=7
        )
    axes.invert_yaxis()
    axes.margins(x=0.18, y=0.01)
    axes.set_xlabel("share of the pixels, %", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(key: str) -> str:
    return key if len(key) <= 40 else f"...{key[-37:]}"
