"""One structural fault at a time in each layout, and what the message says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_trees import (
    SIZE,
    save_classic_labels,
    save_hdf5_labels,
    write_ade20k_tree,
    write_cityscapes_tree,
    write_coco_stuff_10k_tree,
    write_coco_stuff_164k_tree,
    write_mapillary_tree,
    write_pascal_context_tree,
)
from PIL import Image
from scipy.io import savemat

from segsweep.data.interface import Source
from segsweep.data.shards import prepare
from segsweep.data.sources.ade20k import open_ade20k
from segsweep.data.sources.ade20k_full import open_ade20k_full
from segsweep.data.sources.cityscapes import open_cityscapes
from segsweep.data.sources.coco_stuff_10k import open_coco_stuff_10k
from segsweep.data.sources.coco_stuff_164k import open_coco_stuff_164k
from segsweep.data.sources.detail_json import decode_run_lengths
from segsweep.data.sources.mapillary import open_mapillary
from segsweep.data.sources.mapillary_classes import MAPILLARY_65
from segsweep.data.sources.pascal_context import open_pascal_context
from segsweep.errors import DataError, InvalidInput

Open = Callable[[Path | None, Mapping[str, Any] | None], Source]
OPENERS: dict[str, Open] = {
    "ade20k": open_ade20k,
    "ade20k_full": open_ade20k_full,
    "cityscapes": open_cityscapes,
    "coco_stuff_10k": open_coco_stuff_10k,
    "coco_stuff_164k": open_coco_stuff_164k,
    "mapillary": open_mapillary,
    "pascal_context": open_pascal_context,
}


def failure(source: Source, tmp_path: Path) -> str:
    """What preparing a faulty source says."""
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    return str(caught.value)


@pytest.mark.parametrize("name", OPENERS)
def test_missing_root_says_what_it_must_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"data root of '{name}' does not exist; .* that holds \w+"):
        OPENERS[name](tmp_path / "nowhere", None)
    with pytest.raises(DataError, match=r"give its folder as root"):
        OPENERS[name](None, None)


@pytest.mark.parametrize("name", OPENERS)
def test_empty_root_is_an_error(name: str, tmp_path: Path) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    with pytest.raises(DataError, match=r"missing|must hold|no class"):
        prepare(OPENERS[name](root, None), tmp_path / "shards")


@pytest.mark.parametrize("name", OPENERS)
def test_unknown_options_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"options.colour: found 'red'.*(allowed are|takes no options)"):
        OPENERS[name](tmp_path, {"colour": "red"})


def test_ade20k_ids_above_150_are_refused(tmp_path: Path) -> None:
    write_ade20k_tree(tmp_path)
    mask = next((tmp_path / "annotations" / "training").iterdir())
    Image.fromarray(np.full(SIZE, 151, np.uint8)).save(mask)
    message = failure(open_ade20k(tmp_path), tmp_path)
    assert f"{mask}: mask holds ids 151" in message
    assert "ids 1..150 are classes and 0 void" in message


def test_ade20k_missing_masks_are_named(tmp_path: Path) -> None:
    write_ade20k_tree(tmp_path)
    next((tmp_path / "annotations" / "validation").iterdir()).unlink()
    assert "1 of 2 files have no mask" in failure(open_ade20k(tmp_path), tmp_path)


def test_cityscapes_without_fine_labels_is_named(tmp_path: Path) -> None:
    write_cityscapes_tree(tmp_path)
    shutil.rmtree(tmp_path / "gtFine")
    message = failure(open_cityscapes(tmp_path, {"train_labels": "coarse"}), tmp_path)
    assert message == f"{tmp_path / 'gtFine' / 'val'}: folder is missing; restore it"


def test_cityscapes_colour_files_in_place_of_ids_are_refused(tmp_path: Path) -> None:
    write_cityscapes_tree(tmp_path)
    mask = next((tmp_path / "gtFine" / "val").rglob("*_labelIds.png"))
    shutil.copy(mask.with_name(mask.name.replace("labelIds", "color")), mask)
    assert f"{mask}: mask has pixel mode 'RGB'" in failure(open_cityscapes(tmp_path), tmp_path)


def test_cityscapes_same_picture_in_two_parts_is_named(tmp_path: Path) -> None:
    write_cityscapes_tree(tmp_path)
    for folder in ("leftImg8bit", "gtCoarse"):
        shutil.copytree(tmp_path / folder / "train", tmp_path / folder / "train_extra", dirs_exist_ok=True)
    message = failure(open_cityscapes(tmp_path, {"train_labels": "coarse"}), tmp_path)
    assert "2 samples are in two folders of the split: trainville/trainville_000000_000019" in message


def test_mapillary_v2_is_refused(tmp_path: Path) -> None:
    write_mapillary_tree(tmp_path, labels="v2.0/labels")
    with pytest.raises(
        DataError, match=r"v2.0: holds the 124 classes of Mapillary Vistas v2.0; allowed are the 65"
    ):
        open_mapillary(tmp_path)


def test_mapillary_ids_of_v2_in_the_old_folder_are_refused(tmp_path: Path) -> None:
    write_mapillary_tree(tmp_path)
    mask = next((tmp_path / "training" / "labels").iterdir())
    Image.fromarray(np.full(SIZE, 100, np.uint8)).save(mask)
    assert "mask holds ids 100" in failure(open_mapillary(tmp_path), tmp_path)


def test_mapillary_config_of_another_release_is_named(tmp_path: Path) -> None:
    names = [*MAPILLARY_65.class_names, "Unlabeled"]
    write_mapillary_tree(tmp_path, names=names)
    assert open_mapillary(tmp_path).check() == []
    write_mapillary_tree(tmp_path, names=["Bird", "Cat", *names[2:], "More"])
    (problem,) = open_mapillary(tmp_path).check()
    assert "declares 67 labels, the first other one 'Cat' instead of 'Ground Animal'" in str(problem)
    (tmp_path / "config_v1.2.json").write_text("[]", encoding="utf-8")
    (problem,) = open_mapillary(tmp_path).check()
    assert "cannot be read as Mapillary's config" in str(problem)


def test_coco_stuff_164k_missing_maps_and_images_are_named(tmp_path: Path) -> None:
    write_coco_stuff_164k_tree(tmp_path)
    (tmp_path / "annotations" / "train2017" / "000000000139.png").unlink()
    (tmp_path / "images" / "val2017" / "000000000285.jpg").unlink()
    message = failure(open_coco_stuff_164k(tmp_path), tmp_path)
    assert "1 of 2 files have no mask <name>.png: 000000000139.jpg" in message
    assert "1 of 2 files have no image <name>.jpg: 000000000285.png" in message


def test_coco_stuff_10k_missing_files_and_lists_are_named(tmp_path: Path) -> None:
    write_coco_stuff_10k_tree(tmp_path, release="v1.1")
    next((tmp_path / "images").iterdir()).unlink()
    next((tmp_path / "annotations").iterdir()).unlink()
    (tmp_path / "imageLists" / "test.txt").unlink()
    problems = [str(problem) for problem in open_coco_stuff_10k(tmp_path).check()]
    assert f"{tmp_path / 'imageLists' / 'test.txt'}: list of the split is missing; restore it" in problems
    (tmp_path / "imageLists" / "test.txt").write_text("a\nb\na\n", encoding="utf-8")
    problems = [str(problem) for problem in open_coco_stuff_10k(tmp_path).check()]
    assert any("names a twice" in problem for problem in problems)
    (tmp_path / "imageLists" / "test.txt").write_text("a\nb\n", encoding="utf-8")
    problems = [str(problem) for problem in open_coco_stuff_10k(tmp_path).check()]
    assert any("2 of 2 masks are missing: a.mat, b.mat" in problem for problem in problems)


@pytest.mark.parametrize("release", ["v1.0", "v1.1"])
def test_coco_stuff_10k_mixed_releases_are_refused(tmp_path: Path, release: str) -> None:
    written = write_coco_stuff_10k_tree(tmp_path, release=release)
    key, ids = list(written["val"].items())[-1]
    save = save_classic_labels if release == "v1.0" else save_hdf5_labels
    save(tmp_path / "annotations" / f"{key}.mat", ids)
    message = failure(open_coco_stuff_10k(tmp_path), tmp_path)
    assert f"{key}.mat: is a file of COCO-Stuff 10K" in message
    assert f"among files of {release}, whose ids differ" in message


@pytest.mark.parametrize("release", ["v1.0", "v1.1"])
def test_coco_stuff_10k_damaged_files_are_named(tmp_path: Path, release: str) -> None:
    written = write_coco_stuff_10k_tree(tmp_path, release=release)
    keys = [*written["train"], *written["val"]]
    path = tmp_path / "annotations" / f"{keys[-1]}.mat"
    whole = path.read_bytes()
    for end in (600, len(whole) // 2):
        path.write_bytes(whole[:end])
        source = open_coco_stuff_10k(tmp_path)
        with pytest.raises(DataError, match=rf"{keys[-1]}.mat: "):
            source.load("val", keys[-1])
            raise AssertionError(f"read {end} of {len(whole)} bytes without an error")


def test_coco_stuff_10k_other_variables_and_values_are_refused(tmp_path: Path) -> None:
    written = write_coco_stuff_10k_tree(tmp_path, release="v1.1")
    key = list(written["train"])[-1]
    path = tmp_path / "annotations" / f"{key}.mat"
    for content, found in (
        ({"LabelMap": np.zeros(SIZE)}, "variable 'S' cannot be read (KeyError 'S')"),
        ({"S": np.full(SIZE, 0.5)}, "labels are no whole numbers"),
        ({"S": np.full(SIZE, -1.0)}, "labels reach from -1.0 to -1.0"),
        ({"S": np.zeros((*SIZE, 3))}, "labels are an array of shape (24, 32, 3)"),
        ({"S": np.zeros((10, 20))}, "mask is 20x10 but its image"),
    ):
        savemat(path, content)
        with pytest.raises(DataError) as caught:
            open_coco_stuff_10k(tmp_path).load("train", key)
        assert str(caught.value).startswith(f"{path}: ")
        assert found in str(caught.value)
    assert "mask is 20x10 but its image" in failure(open_coco_stuff_10k(tmp_path), tmp_path)


def test_pascal_context_without_labels_names_the_forms(tmp_path: Path) -> None:
    write_pascal_context_tree(tmp_path, form="png")
    shutil.rmtree(tmp_path / "VOCdevkit" / "VOC2010" / "SegmentationClassContext")
    with pytest.raises(
        DataError, match=r"SegmentationClassContext/\*.png, trainval/\*.mat and trainval_merged.json"
    ):
        open_pascal_context(tmp_path)


def test_pascal_context_pngs_with_another_numbering_are_refused(tmp_path: Path) -> None:
    written = write_pascal_context_tree(tmp_path, form="png")
    folder = tmp_path / "VOCdevkit" / "VOC2010" / "SegmentationClassContext"
    for masks in written.values():
        for key, ids in masks.items():  # shifted by one, background 255
            Image.fromarray(np.where(ids == 0, 255, ids - 1).astype(np.uint8)).save(folder / f"{key}.png")
    assert "mask holds ids 255" in failure(open_pascal_context(tmp_path), tmp_path)


def test_pascal_context_json_faults_are_named(tmp_path: Path) -> None:
    written = write_pascal_context_tree(tmp_path, form="json")
    path = tmp_path / "VOCdevkit" / "VOC2010" / "trainval_merged.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    lost = document["images"].pop(0)
    kept = [entry for entry in document["annos_segmentation"] if entry["image_id"] != lost["image_id"]]
    kept[0]["segmentation"]["counts"] = "T3"
    path.write_text(json.dumps({**document, "annos_segmentation": kept}), encoding="utf-8")
    source = open_pascal_context(tmp_path)
    (problem,) = source.check()
    assert "train.txt: 1 names are not in trainval_merged.json: 2008_000000" in str(problem)
    with pytest.raises(
        DataError, match=r"a segment of 2008_000001.jpg is damaged \(runs cover 100 pixels of 768\)"
    ):
        source.load("train", list(written["train"])[1])
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"not of the Detail API's format: KeyError 'images'"):
        open_pascal_context(tmp_path)


def test_pascal_context_missing_image_without_lists_is_named(tmp_path: Path) -> None:
    write_pascal_context_tree(tmp_path, form="json", lists="")
    (tmp_path / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000010.jpg").unlink()
    (problem,) = open_pascal_context(tmp_path).check()
    assert "1 of 2 images are missing: 2008_000010; restore them" in str(problem)


def test_run_lengths_that_run_backwards_are_refused() -> None:
    with pytest.raises(ValueError, match="runs cover"):
        decode_run_lengths([5, -1], (2, 2))


def test_images_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    written = write_coco_stuff_10k_tree(tmp_path, release="v1.1")
    path = tmp_path / "images" / f"{next(iter(written['val']))}.jpg"
    path.write_bytes(b"<html>")
    assert f"{path}: cannot be read as a picture" in failure(open_coco_stuff_10k(tmp_path), tmp_path)
