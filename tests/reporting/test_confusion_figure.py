"""The picture of a confusion matrix: written, readable for any number of classes, right in its words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segsweep.reporting.confusion_figure import confusion_figure, confusions

MATRIX = np.array([[6, 3, 1], [0, 10, 0], [0, 0, 0]])
NAMES = ("sky", "road", "car")


def test_mistakes_are_shares_of_the_true_class_the_largest_first() -> None:
    assert confusions(MATRIX, NAMES) == [("sky", "road", 0.3), ("sky", "car", 0.1)]
    with_void = np.concatenate([MATRIX, [[0], [10], [0]]], axis=1)
    assert confusions(with_void, NAMES, count=1) == [("road", "(void)", 0.5)]


@pytest.mark.parametrize("count", [2, 31, 150])
@pytest.mark.parametrize("void", [0, 4])
def test_picture_is_written_for_any_number_of_classes(count: int, void: int, tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).integers(50, size=(count, count + 1))
    matrix[:, -1] = void
    names = [f"class {index}" for index in range(count)]
    path = confusion_figure(matrix, names, tmp_path / "new" / "matrix.png", title="a run", subtitle="val")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert min(pixels.shape[:2]) > 400
    assert pixels.std() > 5  # something is drawn


def test_matrix_of_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found a matrix of \(3, 3\) for 2 class names"):
        confusion_figure(MATRIX, NAMES[:2], tmp_path / "matrix.png", title="")
