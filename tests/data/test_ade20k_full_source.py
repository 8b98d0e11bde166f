from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import FULL_847, FULL_OBJECTS, write_ade20k_full_tree
from PIL import Image

from segsweep.data.shards import prepare
from segsweep.data.sources.ade20k_full import CACHE, open_ade20k_full, reduced_size
from segsweep.data.sources.ade20k_full_classes import ObjectIndex, derive_847
from segsweep.errors import DataError, InvalidInput

TRAIN_IDS = {code: train_id for train_id, code in enumerate(FULL_847)}


@pytest.mark.parametrize("index", [True, False])
def test_objects_of_both_splits_are_classes_and_the_rest_is_void(tmp_path: Path, index: bool) -> None:
    written = write_ade20k_full_tree(tmp_path, index=index)
    source = open_ade20k_full(tmp_path)
    assert source.check() == []
    names = {entry.code: entry.name for entry in FULL_OBJECTS}
    assert source.info.class_names == tuple(names[code] for code in FULL_847)
    stored: set[int] = set()
    for split, masks in written.items():
        assert source.keys(split) == tuple(masks)
        for key, ids in masks.items():
            sample = source.load(split, key)
            expected = np.vectorize(lambda code: TRAIN_IDS.get(int(code), 65535))(ids)
            np.testing.assert_array_equal(sample.labels, expected)
            assert sample.labels.dtype == np.uint16
            stored |= set(np.unique(ids).tolist())
    assert stored == {0, 2978, 312, 2420, 165, 774}  # of both splits, of one only, and unlabelled


def test_derived_classes_are_ordered_by_images_then_by_code() -> None:
    index = ObjectIndex(
        names={1: "a", 2: "b", 3: "c", 4: "d", 5: "e"},
        train={1: 1, 2: 5, 3: 9, 5: 1},
        val={1: 1, 2: 5, 4: 9, 5: 1},
    )
    assert [entry.stored_id for entry in derive_847(index)] == [2, 1, 5]


def test_derived_classes_are_cached_until_the_index_changes(tmp_path: Path) -> None:
    write_ade20k_full_tree(tmp_path)
    first = open_ade20k_full(tmp_path).info
    document = json.loads((tmp_path / CACHE).read_text(encoding="utf-8"))
    assert [entry["id"] for entry in document["classes"]] == list(FULL_847)
    document["classes"][0]["name"] = "from the cache"
    (tmp_path / CACHE).write_text(json.dumps(document), encoding="utf-8")
    assert open_ade20k_full(tmp_path).info.class_names[0] == "from the cache"
    write_ade20k_full_tree(tmp_path, protocol=2)
    assert open_ade20k_full(tmp_path).info == first
    (tmp_path / CACHE).write_text("{", encoding="utf-8")
    assert open_ade20k_full(tmp_path).info == first


def test_read_only_data_needs_no_cache(tmp_path: Path) -> None:
    write_ade20k_full_tree(tmp_path)
    source = open_ade20k_full(tmp_path, {"cache": str(tmp_path / "nowhere" / "cache.json")})
    assert source.info.num_classes == len(FULL_847)
    assert not (tmp_path / CACHE).exists()


def test_a_given_table_decides_the_classes_and_their_order(tmp_path: Path) -> None:
    written = write_ade20k_full_tree(tmp_path)
    # The rows of the table that the MaskFormer repository ships: {"name": ..., "id": ..., "trainId": ...}
    rows = [
        {"name": "wall", "id": 2978, "trainId": 0},
        {"name": "building, edifice", "id": 312, "trainId": 1},
        {"name": "sky", "id": 2420, "trainId": 2},
        {"name": "bed", "id": 165, "trainId": 3},
    ]
    table = tmp_path / "table.json"
    table.write_text(json.dumps(rows), encoding="utf-8")
    source = open_ade20k_full(tmp_path, {"table": str(table)})
    assert source.info.class_names == ("wall", "building, edifice", "sky", "bed")
    key, ids = next(iter(written["train"].items()))
    np.testing.assert_array_equal(source.load("train", key).labels == 3, ids == 165)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"name": "wall", "id": 2978, "trainId": 1}], "train ids are not 0, 1, 2"),
        ([{"name": "a", "id": 5, "trainId": 0}, {"name": "b", "id": 5, "trainId": 1}], "not all different"),
        ([{"name": "a", "id": 0, "trainId": 0}], "in 1..6655"),
        ([{"name": "a", "trainId": 0}], "KeyError 'id'"),
        ([], "train ids are not 0, 1, 2"),
        ("wall", "TypeError"),
    ],
)
def test_a_wrong_table_is_explained(tmp_path: Path, rows: object, found: str) -> None:
    write_ade20k_full_tree(tmp_path)
    table = tmp_path / "table.json"
    table.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"table.json: not a table of classes") as caught:
        open_ade20k_full(tmp_path, {"table": str(table)})
    assert found in str(caught.value)


def test_large_images_are_reduced_to_a_short_side_of_512(tmp_path: Path) -> None:
    # By hand: 700 -> 512 is a factor 0.731428..., 900 * 0.731428... = 658.29
    assert reduced_size((700, 900), short_side=512) == (512, 658)
    assert reduced_size((900, 700), short_side=512) == (658, 512)
    assert reduced_size((512, 4000), short_side=512) == (512, 4000)
    assert reduced_size((700, 900), short_side=None) == (700, 900)
    written = write_ade20k_full_tree(tmp_path, size=(36, 50))
    source = open_ade20k_full(tmp_path, {"short_side": 12})
    key, ids = next(iter(written["val"].items()))
    sample = source.load("val", key)
    assert sample.image.shape == (12, 17, 3)  # 50 / 3 = 16.67
    rows = [3 * row + 1 for row in range(12)]  # the centre of every third row
    columns = [int((column + 0.5) * 50 / 17) for column in range(17)]
    expected = np.vectorize(lambda code: TRAIN_IDS.get(int(code), 65535))(ids[np.ix_(rows, columns)])
    np.testing.assert_array_equal(sample.labels, expected)
    assert source.fingerprint() != open_ade20k_full(tmp_path).fingerprint()


def test_sixteen_bit_labels_survive_preparation(tmp_path: Path) -> None:
    write_ade20k_full_tree(tmp_path / "raw")
    source = open_ade20k_full(tmp_path / "raw")
    dataset = prepare(source, tmp_path / "shards").dataset("val")
    for index, key in enumerate(source.keys("val")):
        np.testing.assert_array_equal(dataset.arrays(index)[1], source.load("val", key).labels)


def test_structural_faults_are_reported_together(tmp_path: Path) -> None:
    written = write_ade20k_full_tree(tmp_path)
    train = [tmp_path / "images/ADE/training" / key for key in written["train"]]
    val = [tmp_path / "images/ADE/validation" / key for key in written["val"]]
    train[0].with_name(f"{train[0].name}_seg.png").unlink()
    val[0].with_suffix(".jpg").unlink()
    grey = val[1].with_name(f"{val[1].name}_seg.png")
    Image.open(grey).convert("L").save(grey)
    with pytest.raises(DataError) as caught:
        prepare(open_ade20k_full(tmp_path), tmp_path / "shards")
    message = str(caught.value)
    assert "1 of 2 files have no mask <name>_seg.png: ADE_train_00000001.jpg" in message
    assert "1 of 2 files have no image <name>.jpg: ADE_val_00000001_seg.png" in message
    assert f"{grey}: has pixel mode 'L'; allowed is RGB" in message


def test_missing_annotations_name_the_ways_to_declare_classes(tmp_path: Path) -> None:
    written = write_ade20k_full_tree(tmp_path, index=False)
    key = next(iter(written["train"]))
    (tmp_path / "images/ADE/training" / f"{key}.json").unlink()
    with pytest.raises(
        DataError, match=r"00000001.json: not of ADE20K's format.*index_ade20k.pkl or a `table`"
    ):
        open_ade20k_full(tmp_path)


def test_missing_split_is_named(tmp_path: Path) -> None:
    write_ade20k_full_tree(tmp_path)
    (tmp_path / "images/ADE/validation").rename(tmp_path / "images/ADE/val")
    (problem,) = open_ade20k_full(tmp_path).check()
    assert str(problem) == f"{tmp_path}/images/ADE/validation: folder is missing; restore it"


def test_unknown_options_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_ade20k_full(tmp_path, {"short_side": 0, "classes": 847})
    message = str(caught.value)
    assert "options.short_side: found 0" in message
    assert "options.classes: found 847" in message
    assert "allowed are table, short_side, cache" in message
