"""Colours of pixels, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segsweep.data.interface import DatasetInfo
from segsweep.reporting.overlays import coloured, comparison, legend, mask_picture, overlay

INFO = DatasetInfo(
    name="test", class_names=("sky", "road"), palette=((0, 100, 200), (50, 60, 70)), ignore_index=255
)
LABELS = np.array([[0, 1, 255, 2]], dtype=np.uint8)  # 2 is K: a void prediction


def test_classes_have_the_colours_of_the_palette_and_void_is_black() -> None:
    assert coloured(LABELS, INFO).tolist() == [[[0, 100, 200], [50, 60, 70], [0, 0, 0], [0, 0, 0]]]


def test_overlay_mixes_labelled_pixels_only() -> None:
    image = np.full((1, 4, 3), 100, dtype=np.uint8)
    mixed = overlay(image, LABELS, INFO, opacity=0.5)
    assert mixed.tolist() == [[[50, 100, 150], [75, 80, 85], [100, 100, 100], [100, 100, 100]]]


def test_mask_picture_holds_ids_and_shows_colours() -> None:
    picture = mask_picture(LABELS, INFO)
    assert np.asarray(picture).tolist() == [[0, 1, 2, 2]]
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), coloured(LABELS, INFO))


@pytest.mark.parametrize(("count", "mode"), [(255, "P"), (256, "RGB"), (847, "RGB")])
def test_mask_picture_of_many_classes_keeps_the_colours(count: int, mode: str) -> None:
    palette = tuple((index % 256, index // 256, 9) for index in range(count))
    names = tuple(str(index) for index in range(count))
    info = DatasetInfo(name="many", class_names=names, palette=palette, ignore_index=65535)
    labels = np.array([[0, count - 1, 65535]], dtype=np.uint16)
    picture = mask_picture(labels, info)
    assert picture.mode == mode
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), coloured(labels, info))


def test_legend_breaks_lines_and_shows_only_what_is_asked_for() -> None:
    one = np.asarray(legend(INFO, [0], width=200))
    assert (one == (0, 100, 200)).all(-1).any() and not (one == (50, 60, 70)).all(-1).any()
    wide, narrow = legend(INFO, [0, 1, 255], width=300), legend(INFO, [0, 1, 255], width=60)
    assert wide.width == 300 and narrow.height > wide.height


def test_comparison_marks_mistakes_and_leaves_void_grey() -> None:
    image = np.zeros((1, 4, 3), dtype=np.uint8)
    prediction = np.array([[0, 0, 0, 1]], dtype=np.uint16)
    picture = comparison(image, np.array([[0, 1, 255, 1]], np.uint8), prediction, INFO, title="t")
    mistakes = np.asarray(picture)[24, -4:]
    right, wrong, void, also_right = mistakes.tolist()
    assert right == also_right != wrong and wrong[0] > 2 * wrong[1]
    assert len(set(void)) == 1
    assert isinstance(picture, Image.Image) and picture.width == 4 * 4 + 3 * 6


def test_panels_of_large_pictures_are_shrunk() -> None:
    labels = np.zeros((50, 2000), np.uint8)
    picture = comparison(np.zeros((50, 2000, 3), np.uint8), labels, labels, INFO)
    assert picture.width == 4 * 640 + 3 * 6
