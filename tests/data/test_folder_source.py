from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_trees import save_grey_mask, save_image, write_folder_tree
from PIL import Image

from segsweep.data.sources import open_source
from segsweep.errors import DataError


def train_ids(stored: np.ndarray, table: dict[int, int], ignore: int = 255) -> np.ndarray:
    return np.vectorize(lambda value: table.get(int(value), ignore))(stored)


@pytest.mark.parametrize("palette_masks", [False, True])
def test_ids_come_back_from_grey_and_palette_masks(tmp_path: Path, palette_masks: bool) -> None:
    written = write_folder_tree(tmp_path, palette_masks=palette_masks)
    source = open_source("folder", root=tmp_path)
    assert source.info.class_names == ("road", "building", "sky")
    assert source.check() == []
    for split, pairs in written.items():
        for key, (image, ids) in pairs.items():
            sample = source.load(split, key)
            np.testing.assert_array_equal(sample.image, image)
            np.testing.assert_array_equal(sample.labels, ids)  # 255 is void and the ignore index


def test_classes_may_name_ids_with_gaps(tmp_path: Path) -> None:
    description = "classes: {7: road, 300: sky}\nvoid: [0, 65535]\n"
    written = write_folder_tree(tmp_path, ids=(0, 7, 300, 65535), description=description)
    source = open_source("folder", root=tmp_path)
    expected = train_ids(written["val"]["scene0"][1], {7: 0, 300: 1})
    np.testing.assert_array_equal(source.load("val", "scene0").labels, expected)


def test_all_other_ids_may_be_void(tmp_path: Path) -> None:
    description = "classes: {7: road, 8: sky}\nvoid: others\n"
    written = write_folder_tree(tmp_path, ids=(0, 3, 7, 8, 200), description=description)
    labels = open_source("folder", root=tmp_path).load("train", "scene1").labels
    np.testing.assert_array_equal(labels, train_ids(written["train"]["scene1"][1], {7: 0, 8: 1}))


def test_more_than_255_classes_use_sixteen_bits(tmp_path: Path) -> None:
    names = ", ".join(f"c{index}" for index in range(300))
    description = f"classes: [{names}]\nvoid: [65535]\n"
    written = write_folder_tree(tmp_path, ids=(0, 255, 299, 65535), description=description)
    source = open_source("folder", root=tmp_path)
    sample = source.load("train", "scene0")
    assert (source.info.num_classes, source.info.ignore_index) == (300, 65535)
    assert sample.labels.dtype == np.uint16
    np.testing.assert_array_equal(sample.labels, written["train"]["scene0"][1])


def test_cityscapes_names_pair_by_their_endings(tmp_path: Path) -> None:
    write_folder_tree(
        tmp_path,
        splits=(),
        count=0,
        description=(
            "classes: {7: road, 11: building}\nvoid: others\nimages: leftImg8bit\nmasks: gtFine\n"
            "image_ending: _leftImg8bit\nmask_ending: _gtFine_labelIds\n"
        ),
    )
    for split in ("train", "val"):
        stem = f"{split}/aachen/aachen_000000_000019"
        save_image(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png", np.zeros((4, 8, 3), np.uint8))
        for ending in ("labelIds", "instanceIds", "color"):
            save_grey_mask(
                tmp_path / "gtFine" / f"{stem}_gtFine_{ending}.png", np.full((4, 8), 11, np.uint16)
            )
    source = open_source("folder", root=tmp_path)
    assert source.check() == []
    assert source.keys("train") == ("aachen/aachen_000000_000019",)
    assert np.unique(source.load("val", "aachen/aachen_000000_000019").labels).tolist() == [1]


def test_without_split_folders_a_fixed_share_is_held_out(tmp_path: Path) -> None:
    write_folder_tree(tmp_path, splits=(), count=20)
    source = open_source("folder", root=tmp_path)
    train, val = source.keys("train"), source.keys("val")
    assert (len(train), len(val)) == (16, 4)
    assert sorted((*train, *val)) == sorted(f"scene{index}" for index in range(20))
    assert open_source("folder", root=tmp_path).keys("val") == val


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    write_folder_tree(tmp_path)
    grey = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    Image.fromarray(grey).save(tmp_path / "images" / "train" / "scene0.png")
    image = open_source("folder", root=tmp_path).load("train", "scene0").image
    np.testing.assert_array_equal(image, np.stack([grey] * 3, axis=-1))


def test_missing_description_shows_an_example(tmp_path: Path) -> None:
    write_folder_tree(tmp_path)
    (tmp_path / "dataset.yaml").unlink()
    with pytest.raises(DataError, match=r"dataset.yaml: file is missing; write it(.|\n)*classes: \[road"):
        open_source("folder", root=tmp_path)


def test_every_mistake_in_the_description_is_listed(tmp_path: Path) -> None:
    write_folder_tree(
        tmp_path, description="clases: [road]\nclasses: [road, 3]\nvoid: [70000]\nval_share: 2\n"
    )
    with pytest.raises(DataError) as caught:
        open_source("folder", root=tmp_path)
    message = str(caught.value)
    for place in ("clases", "classes.1", "void", "val_share"):
        assert f"dataset.yaml {place}" in message
    assert "allowed keys are name, classes, palette, void" in message


@pytest.mark.parametrize(
    ("description", "found"),
    [
        ("classes: [road, road]", "named twice"),
        ("classes: [road, sky]\nvoid: [1]", "ids [1] are both classes and void"),
        ("classes: [road, sky]\npalette: [[1, 2, 3]]", "palette has 1 colours for 2 classes"),
        ("classes: [road\n", "cannot be read as YAML"),
        ("classes: [road]\nclasses: [sky]", "duplicate key"),
        ("", "valid dictionary"),
    ],
)
def test_contradictions_in_the_description_are_explained(
    tmp_path: Path, description: str, found: str
) -> None:
    write_folder_tree(tmp_path, description=description)
    with pytest.raises(DataError) as caught:
        open_source("folder", root=tmp_path)
    assert found in str(caught.value)


def test_undeclared_void_is_explained(tmp_path: Path) -> None:
    write_folder_tree(tmp_path, description="classes: [road, building, sky]\n")
    with pytest.raises(DataError, match=r"ids 255 .* likely 255 is this data set's void value: declare it"):
        open_source("folder", root=tmp_path).load("train", "scene0")


def test_interpolated_mask_is_explained(tmp_path: Path) -> None:
    write_folder_tree(tmp_path)
    mask = tmp_path / "masks" / "train" / "scene0.png"
    Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)).save(mask)
    with pytest.raises(DataError, match=r"and 244 more.*with interpolation or JPEG"):
        open_source("folder", root=tmp_path).load("train", "scene0")


def test_colour_mask_is_refused_with_its_mode(tmp_path: Path) -> None:
    write_folder_tree(tmp_path)
    mask = tmp_path / "masks" / "val" / "scene1.png"
    Image.open(mask).convert("RGB").save(mask)
    (problem,) = open_source("folder", root=tmp_path).check()
    assert str(problem).startswith(f"{mask}: mask has pixel mode 'RGB'")
    assert "save the ids, not their colours" in str(problem)


def test_jpeg_mask_is_refused(tmp_path: Path) -> None:
    write_folder_tree(tmp_path, splits=("train", "val"))
    mask = tmp_path / "masks" / "val" / "scene1.png"
    Image.open(mask).save(mask.with_suffix(".jpg"))
    mask.unlink()
    problems = [str(problem) for problem in open_source("folder", root=tmp_path).check()]
    assert any("JPEG is lossy and would invent class ids" in problem for problem in problems)
    assert any("1 of 3 files have no mask" in problem for problem in problems)


def test_turned_photograph_is_refused(tmp_path: Path) -> None:
    write_folder_tree(tmp_path)
    image = tmp_path / "images" / "train" / "scene0.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn right to view
    Image.open(image).save(image.with_suffix(".jpg"), exif=exif)
    image.unlink()
    (problem,) = open_source("folder", root=tmp_path).check()
    assert "EXIF orientation 6" in str(problem)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write_folder_tree(tmp_path)
    image = tmp_path / "images" / "train" / "scene0.png"
    Image.open(image).save(image.with_suffix(".jpg"))
    (problem,) = open_source("folder", root=tmp_path).check()
    assert "two files share the name 'scene0': scene0.jpg and scene0.png" in str(problem)


def test_misnamed_split_is_explained(tmp_path: Path) -> None:
    write_folder_tree(tmp_path, splits=("train", "validation"))
    (problem,) = open_source("folder", root=tmp_path).check()
    assert "no val/ beside train, validation/" in str(problem)
