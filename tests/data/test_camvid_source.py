from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_trees import write_camvid_tree
from PIL import Image

from segsweep.data.shards import prepare
from segsweep.data.sources import open_source
from segsweep.errors import DataError, InvalidInput


def test_pixels_come_back_and_void_becomes_the_ignore_index(tmp_path: Path) -> None:
    written = write_camvid_tree(tmp_path)
    source = open_source("camvid", root=tmp_path)
    assert source.check() == []
    for split, pairs in written.items():
        assert list(source.keys(split)) == list(pairs)
        for key, (image, ids) in pairs.items():
            sample = source.load(split, key)
            np.testing.assert_array_equal(sample.image, image)
            np.testing.assert_array_equal(sample.labels, np.where(ids == 11, 255, ids))


def test_test_split_is_optional(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "two")
    write_camvid_tree(tmp_path / "three", counts={"train": 1, "val": 1, "test": 1})
    assert open_source("camvid", root=tmp_path / "two").splits() == ("train", "val")
    assert open_source("camvid", root=tmp_path / "three").splits() == ("train", "val", "test")


def test_real_camvid_has_the_published_pairs_and_classes(camvid_root: Path) -> None:
    source = open_source("camvid", root=camvid_root)
    assert source.check() == []
    assert (len(source.keys("train")), len(source.keys("val"))) == (367, 101)  # SegNet tutorial
    sample = source.load("train", source.keys("train")[0])
    assert sample.image.shape == (360, 480, 3)
    stored = np.asarray(Image.open(camvid_root / "trainannot" / f"{sample.key}.png"))
    np.testing.assert_array_equal(sample.labels, np.where(stored == 11, 255, stored))
    road = sample.labels == source.info.class_names.index("road")
    assert road[180:].mean() > 0.1 > road[:90].mean()  # the road lies at the bottom


def test_missing_root_says_what_it_must_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: data root of 'camvid' does not exist; .* trainannot/"):
        open_source("camvid", root=tmp_path / "nowhere")
    with pytest.raises(DataError, match="give its folder as root"):
        open_source("camvid", root=None)


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "camvid.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="is not a folder"):
        open_source("camvid", root=tmp_path / "camvid.zip")


def test_all_structural_problems_are_reported_at_once(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path)
    (tmp_path / "trainannot" / "0001TP_000000.png").unlink()
    (tmp_path / "val" / "0001TP_000001.png").unlink()
    mask = tmp_path / "trainannot" / "0001TP_000001.png"
    Image.open(mask).resize((10, 20)).save(mask)
    (tmp_path / "train" / "0001TP_000002.png").write_bytes(b"not a picture")
    with pytest.raises(DataError) as caught:
        prepare(open_source("camvid", root=tmp_path), tmp_path / "shards")
    message = str(caught.value)
    assert "1 of 3 files have no mask" in message
    assert "0001TP_000000.png" in message
    assert "1 of 2 files have no image" in message
    assert "mask is 10x20 but its image" in message
    assert "32x24 (width x height)" in message
    assert "cannot be read as a picture" in message
    assert not (tmp_path / "shards").exists()


def test_missing_mask_folder_is_named(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path)
    (tmp_path / "valannot").rename(tmp_path / "val_annotations")
    problems = open_source("camvid", root=tmp_path).check()
    assert [str(problem) for problem in problems] == [
        f"{tmp_path / 'valannot'}: folder is missing; restore it"
    ]


def test_empty_split_is_a_problem(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path, counts={"train": 1})
    (tmp_path / "val").mkdir()
    (tmp_path / "valannot").mkdir()
    with pytest.raises(DataError, match=r"val: the split is empty"):
        prepare(open_source("camvid", root=tmp_path), tmp_path / "shards")


def test_ids_outside_the_classes_are_named_with_their_share_and_cause(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path)
    mask = tmp_path / "trainannot" / "0001TP_000001.png"
    ids = np.zeros((24, 32), np.uint8)
    ids[:6] = 255
    Image.fromarray(ids).save(mask)
    with pytest.raises(DataError) as caught:
        prepare(open_source("camvid", root=tmp_path), tmp_path / "shards")
    message = str(caught.value)
    assert f"{mask}: mask holds ids 255 (25.00% of its pixels)" in message
    assert "ids 0..10 are classes and 11 void" in message
    assert "likely 255 is this data set's void value" in message


def test_several_bad_masks_are_reported_together_and_nothing_is_left(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path)
    for stem in ("0001TP_000000", "0001TP_000002"):
        Image.fromarray(np.full((24, 32), 40, np.uint8)).save(tmp_path / "trainannot" / f"{stem}.png")
    with pytest.raises(DataError) as caught:
        prepare(open_source("camvid", root=tmp_path), tmp_path / "out" / "shards")
    assert str(caught.value).count("mask holds ids 40") == 2
    assert list((tmp_path / "out").iterdir()) == []


def test_half_downloaded_image_is_named(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path, size=(48, 64))
    image = tmp_path / "val" / "0001TP_000000.png"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    with pytest.raises(DataError, match=r"val/0001TP_000000.png: cannot be decoded"):
        prepare(open_source("camvid", root=tmp_path), tmp_path / "shards")


def test_options_are_refused(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path)
    with pytest.raises(InvalidInput, match=r"options\.height: data set 'camvid' takes no options"):
        open_source("camvid", root=tmp_path, options={"height": 3})


def test_unknown_data_set_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="found data set 'camvidd'; allowed are synthetic, camvid, folder"):
        open_source("camvidd", root=None)


def test_unknown_split_lists_the_splits(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path)
    with pytest.raises(DataError, match="no split 'validation'; it has train, val"):
        open_source("camvid", root=tmp_path).keys("validation")
