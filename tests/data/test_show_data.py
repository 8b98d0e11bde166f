"""The picture of a data set: colours where the labels are, and shares that are those of the masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clean_labels import clean_image, clean_mask, write_clean_camvid
from PIL import Image

from segsweep.data.interface import DatasetInfo
from segsweep.data.show import class_pixels, coloured, overlaid, show_source
from segsweep.data.sources import open_source
from segsweep.errors import DataError

INFO = DatasetInfo(
    name="three",
    class_names=("a", "b", "c"),
    palette=((10, 20, 30), (200, 0, 0), (0, 0, 250)),
    ignore_index=255,
)


def test_labels_are_drawn_in_the_palette_and_void_in_black() -> None:
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    assert coloured(labels, INFO).tolist() == [[[10, 20, 30], [200, 0, 0]], [[0, 0, 250], [0, 0, 0]]]


def test_overlays_mix_image_and_colour() -> None:
    image = np.full((1, 1, 3), 100, np.uint8)
    mixed = overlaid(image, np.array([[1]], np.uint8), INFO, opacity=0.25)
    assert mixed.tolist() == [[[125, 75, 75]]]  # 3/4 of 100 and 1/4 of (200, 0, 0)


def test_class_shares_are_those_of_all_masks(tmp_path: Path) -> None:
    source = open_source("camvid", root=write_clean_camvid(tmp_path))
    pixels, masks = class_pixels(source, "train")
    assert masks == 4
    assert pixels.tolist() == [4 * 256] * 12  # every id fills one square of 16 x 16; the last is void


def test_the_picture_holds_the_samples_and_their_overlay(tmp_path: Path) -> None:
    source = open_source("camvid", root=write_clean_camvid(tmp_path / "camvid"))
    out = show_source(source, tmp_path / "pictures" / "camvid.png", keys=["a0"])
    drawn = np.asarray(Image.open(out).convert("RGB")).reshape(-1, 3)
    colours = {tuple(colour) for colour in np.unique(drawn, axis=0).tolist()}
    image = clean_image(0)
    labels = np.where(clean_mask(0) == 11, 255, clean_mask(0)).astype(np.uint8)
    overlay = overlaid(image, labels, source.info)
    for expected in (image, overlay):  # the squares are flat, so drawing larger keeps their colours
        assert {tuple(colour) for colour in np.unique(expected.reshape(-1, 3), axis=0).tolist()} <= colours
    assert set(source.info.palette) <= colours  # the bars, which are the legend


def test_the_choice_follows_from_the_seed(tmp_path: Path) -> None:
    source = open_source("camvid", root=write_clean_camvid(tmp_path / "camvid", train=12))
    one, two, other = (
        show_source(source, tmp_path / f"{name}.png", count=2, seed=seed).read_bytes()
        for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    assert one == two
    assert one != other


def test_many_classes_become_the_most_frequent_ones_and_the_rest(tmp_path: Path) -> None:
    names = ", ".join(f"c{index}" for index in range(300))
    (tmp_path / "dataset.yaml").write_text(f"classes: [{names}]\n", encoding="utf-8")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / split / "a.png")
        ids = np.arange(600, dtype=np.uint16).reshape(20, 30) // 2
        Image.fromarray(ids).save(tmp_path / "masks" / split / "a.png")
    out = show_source(open_source("folder", root=tmp_path), tmp_path / "many.png")
    assert Image.open(out).size[1] < 2500


def test_unknown_splits_and_keys_are_refused(tmp_path: Path) -> None:
    source = open_source("camvid", root=write_clean_camvid(tmp_path))
    with pytest.raises(DataError, match="has no split 'all'"):
        show_source(source, tmp_path / "x.png", split="all")
    with pytest.raises(DataError, match="split 'val' has no sample 'zz'; its first is 'a0'"):
        show_source(source, tmp_path / "x.png", split="val", keys=["zz"])
