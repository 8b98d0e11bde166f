"""The confusion matrix as a picture: what each true class was taken for, in per cent of its pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 150
_NUMBERED = 30  # classes whose cells still have room for a number
_NAMED = 80  # classes whose names can still be read
_TEXT = "#222222"
_CHARACTERS_PER_INCH = 12
_MIXED_UP = 10  # pairs that are listed where names do not fit


def confusion_figure(
    matrix: NDArray[np.int64],
    class_names: Sequence[str],
    path_png: Path,
    *,
    title: str,
    subtitle: str = "",
) -> Path:
    """Draw a confusion matrix and write a PNG.

    Rows are shares of the true class; a class without pixels is an empty row. A void column is drawn where
    anything was predicted void. Beyond 80 classes the most frequent confusions stand in words instead of
    the names at the axes.

    Args:
        matrix: ``(K, K + 1)`` pixels, rows are the truth, the last column is void; or ``(K, K)``.
        class_names: K names.
        path_png: File to write; its folder is created.
        title: Heading.
        subtitle: Line under the heading.

    Returns:
        ``path_png``.

    Raises:
        ValueError: If the matrix and the names do not fit together.
    """
    from matplotlib.figure import Figure

    shares, columns = _shares(matrix, class_names)
    count = len(class_names)
    side = min(max(4.2, 0.42 * count if count <= _NUMBERED else 0.16 * count), 15)
    figure = Figure(figsize=(side + 3.2, side + 2.4), dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(picture, ax=axes, fraction=0.04, pad=0.02, label="% of the true class")
    pairs = (
        f"{true} as {taken} {100 * share:.0f} %" for true, taken, share in confusions(matrix, class_names)
    )
    _name_axes(axes, class_names, columns, mixed_up="most frequent mistakes: " + ", ".join(pairs))
    if count <= _NUMBERED:
        _write_numbers(axes, shares)
    lines = [title, *textwrap.wrap(subtitle, width=int(_CHARACTERS_PER_INCH * (side + 3.2)))]
    figure.suptitle("\n".join(lines), fontsize=10, color=_TEXT)
    path_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path_png)
    return path_png


def confusions(
    matrix: NDArray[np.int64], class_names: Sequence[str], *, count: int = _MIXED_UP
) -> list[tuple[str, str, float]]:
    """The most frequent mistakes: true class, predicted class, share of the true class's pixels."""
    shares, columns = _shares(matrix, class_names)
    wrong = np.where(np.isnan(shares), 0, shares)
    np.fill_diagonal(wrong[:, : len(class_names)], 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), len(columns)) for place in order]
    return [
        (class_names[row], columns[column], float(wrong[row, column]))
        for row, column in pairs
        if wrong[row, column] > 0
    ]


def _shares(matrix: NDArray[np.int64], class_names: Sequence[str]) -> tuple[NDArray[np.float64], list[str]]:
    """Row shares (NaN for an absent class) and the names of the columns."""
    count = len(class_names)
    if matrix.shape not in ((count, count), (count, count + 1)):
        raise ValueError(
            f"found a matrix of {matrix.shape} for {count} class names; give ({count}, {count}) or "
            f"({count}, {count + 1}) counts"
        )
    pixels = matrix.sum(axis=1, keepdims=True).astype(np.float64)
    shares = np.divide(matrix, pixels, out=np.full(matrix.shape, np.nan), where=pixels > 0)
    columns = list(class_names)
    if matrix.shape[1] > count and matrix[:, -1].any():
        return shares, [*columns, "(void)"]
    return shares[:, :count], columns


def _name_axes(axes: Axes, class_names: Sequence[str], columns: Sequence[str], *, mixed_up: str) -> None:
    axes.set_xlabel("predicted", color=_TEXT)
    axes.set_ylabel("true", color=_TEXT)
    if len(class_names) <= _NAMED:
        size = 9 if len(class_names) <= _NUMBERED else 6
        axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
        axes.set_yticks(range(len(class_names)), class_names, fontsize=size)
        return
    axes.set_title(mixed_up, fontsize=7, color=_TEXT, wrap=True)


def _write_numbers(axes: Axes, shares: NDArray[np.float64]) -> None:
    for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005), strict=True):
        share = shares[row, column]
        colour = "white" if share > 0.55 else _TEXT
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
