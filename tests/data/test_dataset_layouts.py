"""Every raw code of every published layout, void included, against the data sets' own tables."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import (
    COUNT,
    Written,
    run_lengths,
    write_ade20k_tree,
    write_cityscapes_tree,
    write_coco_stuff_10k_tree,
    write_coco_stuff_164k_tree,
    write_mapillary_tree,
    write_pascal_context_tree,
)
from PIL import Image

from segsweep.data.interface import Source
from segsweep.data.shards import prepare
from segsweep.data.sources.ade20k import open_ade20k
from segsweep.data.sources.cityscapes import open_cityscapes
from segsweep.data.sources.coco_stuff_10k import open_coco_stuff_10k
from segsweep.data.sources.coco_stuff_164k import open_coco_stuff_164k
from segsweep.data.sources.detail_json import decode_run_lengths
from segsweep.data.sources.mapillary import open_mapillary
from segsweep.data.sources.pascal_context import open_pascal_context

# cityscapesScripts, labels.py: label id -> train id
CITYSCAPES = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13},
    **{27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}
# cocodataset.org: the ids of the 91 object types that have no annotations
COCO_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
# Pascal Context, the 60 ids in ascending order, background first
PASCAL = [
    *(0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115),
    *(144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349),
    *(354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
]


def coco_train_ids() -> dict[int, int]:
    used = [coco_id for coco_id in range(1, 183) if coco_id not in COCO_UNUSED]
    return {coco_id: rank for rank, coco_id in enumerate(used)}


def assert_labels(source: Source, written: Written, train_ids: Mapping[int, int], *, void: int = 255) -> None:
    """Every sample's labels are its stored ids through a table, everything else void."""
    assert source.check() == []
    assert source.splits() == tuple(written)
    for split, masks in written.items():
        assert list(source.keys(split)) == list(masks)
        assert len(masks) == COUNT
        for key, ids in masks.items():
            sample = source.load(split, key)
            expected = np.vectorize(lambda stored: train_ids.get(int(stored), void))(ids)
            np.testing.assert_array_equal(sample.labels, expected)
            assert sample.image.shape == (*ids.shape, 3)
            assert sample.labels.dtype == source.info.label_dtype


def test_ade20k_ids_start_at_one_and_zero_is_void(tmp_path: Path) -> None:
    written = write_ade20k_tree(tmp_path)
    source = open_ade20k(tmp_path)
    assert_labels(source, written, {raw: raw - 1 for raw in range(1, 151)})
    # objectInfo150.txt: first, last and some between; color150 of the toolkit
    assert [source.info.class_names[index] for index in (0, 2, 12, 149)] == ["wall", "sky", "person", "flag"]
    assert source.info.num_classes == len(source.info.palette) == 150
    assert (source.info.palette[0], source.info.palette[149]) == ((120, 120, 120), (92, 0, 255))


def test_ade20k_opens_from_the_parent_folder(tmp_path: Path) -> None:
    written = write_ade20k_tree(tmp_path / "ADEChallengeData2016")
    assert open_ade20k(tmp_path).keys("val") == tuple(written["val"])


def test_cityscapes_label_ids_become_train_ids(tmp_path: Path) -> None:
    written = write_cityscapes_tree(tmp_path)
    source = open_cityscapes(tmp_path)
    assert_labels(source, {split: written[split] for split in ("train", "val")}, CITYSCAPES)
    assert source.info.class_names[13] == "car"
    assert source.info.palette[13] == (0, 0, 142)
    assert source.info.num_classes == len(source.info.palette) == 19


def test_cityscapes_test_split_is_all_void(tmp_path: Path) -> None:
    written = write_cityscapes_tree(tmp_path)
    source = open_cityscapes(tmp_path, {"test": True})
    assert_labels(source, {split: written[split] for split in ("train", "val", "test")}, CITYSCAPES)
    labels = source.load("test", source.keys("test")[0]).labels
    assert (labels == 255).all()


def test_cityscapes_coarse_labels_are_more_images_with_their_own_masks(tmp_path: Path) -> None:
    written = write_cityscapes_tree(tmp_path)
    source = open_cityscapes(tmp_path, {"train_labels": "coarse"})
    train = {**written["coarse train"], **written["coarse train_extra"]}
    assert source.keys("train") == tuple(sorted(train))
    for key, ids in train.items():
        expected = np.vectorize(lambda stored: CITYSCAPES.get(int(stored), 255))(ids)
        np.testing.assert_array_equal(source.load("train", key).labels, expected)
    both = open_cityscapes(tmp_path, {"train_labels": "fine+extra"})
    assert both.keys("train") == tuple(sorted({**written["train"], **written["coarse train_extra"]}))
    assert both.keys("val") == source.keys("val") == tuple(written["val"])


@pytest.mark.parametrize("labels", ["labels", "v1.2/labels"])
def test_mapillary_ids_are_train_ids_and_65_is_void(tmp_path: Path, labels: str) -> None:
    written = write_mapillary_tree(tmp_path, labels=labels)
    source = open_mapillary(tmp_path)
    assert_labels(source, written, {raw: raw for raw in range(65)})
    assert [source.info.class_names[index] for index in (0, 13, 55, 64)] == [
        "Bird",
        "Road",
        "Car",
        "Ego Vehicle",
    ]
    assert source.info.palette[13] == (128, 64, 128)  # config.json
    assert source.info.num_classes == len(source.info.palette) == 65


def test_coco_stuff_164k_stores_coco_ids_less_one(tmp_path: Path) -> None:
    written = write_coco_stuff_164k_tree(tmp_path)
    source = open_coco_stuff_164k(tmp_path)
    assert_labels(source, written, {coco_id - 1: train_id for coco_id, train_id in coco_train_ids().items()})


def test_coco_stuff_164k_also_lies_without_the_images_folder(tmp_path: Path) -> None:
    written = write_coco_stuff_164k_tree(tmp_path)
    for split in written:
        (tmp_path / "images" / f"{split}2017").rename(tmp_path / f"{split}2017")
    (tmp_path / "annotations").rename(tmp_path / "stuffthingmaps")
    assert open_coco_stuff_164k(tmp_path).keys("train") == tuple(written["train"])


def test_coco_stuff_classes_have_the_names_of_their_coco_ids(tmp_path: Path) -> None:
    write_coco_stuff_164k_tree(tmp_path)
    names = open_coco_stuff_164k(tmp_path).info.class_names
    # labels.txt of cocostuff, around the gaps and at both ends
    published = {
        1: "person",
        11: "fire hydrant",
        13: "stop sign",
        27: "backpack",
        31: "handbag",
        44: "bottle",
    }
    published |= {67: "dining table", 70: "toilet", 84: "book", 90: "toothbrush", 92: "banner", 106: "clouds"}
    published |= {124: "grass", 149: "road", 157: "sky-other", 169: "tree", 173: "wall-other", 182: "wood"}
    assert {coco_id: names[coco_train_ids()[coco_id]] for coco_id in published} == published
    assert len(names) == len(set(names)) == 171


def test_coco_stuff_10k_v10_is_transposed_hdf5_with_classes_from_two(tmp_path: Path) -> None:
    written = write_coco_stuff_10k_tree(tmp_path, release="v1.0")
    source = open_coco_stuff_10k(tmp_path)
    assert_labels(source, written, {stored: stored - 2 for stored in range(2, 173)})


def test_coco_stuff_10k_v11_is_classic_with_coco_ids(tmp_path: Path) -> None:
    written = write_coco_stuff_10k_tree(tmp_path, release="v1.1")
    assert_labels(open_coco_stuff_10k(tmp_path), written, coco_train_ids())


def test_coco_stuff_10k_v10_believes_the_files_own_names(tmp_path: Path) -> None:
    source = open_coco_stuff_10k(_renamed(tmp_path / "same", swap=None))
    assert source.ids.train_ids == {stored: stored - 2 for stored in range(2, 173)}
    swapped = open_coco_stuff_10k(_renamed(tmp_path / "swapped", swap=(100, 150)))
    assert swapped.ids.train_ids[101] == 149  # name 150 stands at stored id 101, counted from 1
    assert swapped.ids.train_ids[151] == 99


def _renamed(root: Path, *, swap: tuple[int, int] | None) -> Path:
    """A tree of v1.0 whose names are the published ones, two of the classes swapped if wanted."""
    write_coco_stuff_164k_tree(root / "names")
    names = ["unlabeled", *open_coco_stuff_164k(root / "names").info.class_names]
    if swap:
        names[swap[0]], names[swap[1]] = names[swap[1]], names[swap[0]]
    write_coco_stuff_10k_tree(root, release="v1.0", names=names)
    return root


@pytest.mark.parametrize("form", ["png16", "mat", "json"])
def test_pascal_context_459_ids_keep_59_or_60_classes(tmp_path: Path, form: str) -> None:
    written = write_pascal_context_tree(tmp_path, form=form)
    classes = {raw: index for index, raw in enumerate(PASCAL)}
    assert_labels(open_pascal_context(tmp_path), written, {raw: classes[raw] - 1 for raw in PASCAL[1:]})
    every = {raw: classes.get(raw, 0) for raw in range(460)}
    assert_labels(open_pascal_context(tmp_path, {"classes": 60}), written, every)


def test_pascal_context_8_bit_pngs_number_the_classes(tmp_path: Path) -> None:
    written = write_pascal_context_tree(tmp_path, form="png")
    assert_labels(open_pascal_context(tmp_path), written, {index: index - 1 for index in range(1, 60)})
    source = open_pascal_context(tmp_path, {"classes": 60})
    assert_labels(source, written, {index: index for index in range(60)})
    # 59_labels.txt gives these ids: 2 aeroplane, 23 bicycle, 284 person, 360 sky, 427 tvmonitor, 458 wood
    names = {PASCAL[index]: name for index, name in enumerate(source.info.class_names)}
    found = [names[raw] for raw in (0, 2, 23, 284, 360, 427, 458)]
    assert found == ["background", "aeroplane", "bicycle", "person", "sky", "tvmonitor", "wood"]


@pytest.mark.parametrize("lists", ["Main", ""])
def test_pascal_context_falls_back_to_the_lists_of_voc_and_to_the_phases(tmp_path: Path, lists: str) -> None:
    written = write_pascal_context_tree(tmp_path, form="json", lists=lists)
    source = open_pascal_context(tmp_path / "VOCdevkit")
    assert source.check() == []
    assert {split: source.keys(split) for split in source.splits()} == {
        split: tuple(masks) for split, masks in written.items()
    }


def test_run_lengths_of_coco_are_read() -> None:
    # By hand: one run of 100 = 0b11_00100: "T" is 48 + 32 (more) + 4, "3" is 48 + 3.
    assert not decode_run_lengths("T3", (10, 10)).any()
    # Column by column: 1 outside, 2 inside, 1 outside; the third count is no difference yet.
    np.testing.assert_array_equal(decode_run_lengths("121", (2, 2)), [[False, True], [True, False]])
    generator = np.random.default_rng(0)
    for share in (0.02, 0.5, 0.98):
        inside = generator.random((33, 47)) < share
        np.testing.assert_array_equal(decode_run_lengths(run_lengths(inside), (33, 47)), inside)


def test_prepared_shards_hold_the_labels_of_the_source(tmp_path: Path) -> None:
    write_coco_stuff_10k_tree(tmp_path / "raw", release="v1.1")
    source = open_coco_stuff_10k(tmp_path / "raw")
    shards = prepare(source, tmp_path / "shards")
    for split in source.splits():
        for index, key in enumerate(source.keys(split)):
            _, labels = shards.dataset(split).arrays(index)
            np.testing.assert_array_equal(labels, source.load(split, key).labels)


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    write_coco_stuff_10k_tree(tmp_path, release="v1.1")
    before = open_coco_stuff_10k(tmp_path).fingerprint()
    assert open_coco_stuff_10k(tmp_path).fingerprint() == before
    image = next((tmp_path / "images").glob("*.jpg"))
    Image.new("RGB", (32, 24)).save(image)
    assert open_coco_stuff_10k(tmp_path).fingerprint() != before


@pytest.mark.parametrize("form", ["png", "mat", "json"])
def test_sources_travel_to_other_processes(tmp_path: Path, form: str) -> None:
    write_pascal_context_tree(tmp_path, form=form)
    source = open_pascal_context(tmp_path)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.fingerprint() == source.fingerprint()
    for key in source.keys("val"):
        np.testing.assert_array_equal(copy.load("val", key).labels, source.load("val", key).labels)
