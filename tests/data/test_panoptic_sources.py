from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from panoptic_trees import (
    COCO_CATEGORIES,
    WrittenAde,
    save_instances,
    save_segment_ids,
    write_ade20k_panoptic_tree,
    write_coco_panoptic_tree,
)

from segsweep.data.panoptic import PanopticSource
from segsweep.data.shards import open_shards, prepare
from segsweep.data.sources import open_source
from segsweep.data.sources.ade20k_classes import ADE20K_150, ADE20K_THINGS
from segsweep.data.sources.ade20k_panoptic import open_ade20k_panoptic
from segsweep.data.sources.coco_panoptic import open_coco_panoptic
from segsweep.errors import DataError, InvalidInput
from segsweep.metrics.panoptic import match_panoptic, panoptic_quality

COCO_TRAIN_IDS = {stored: index for index, (stored, *_) in enumerate(COCO_CATEGORIES)}


def test_coco_segments_come_back_with_class_crowd_and_area(tmp_path: Path) -> None:
    written = write_coco_panoptic_tree(tmp_path)
    source = open_coco_panoptic(tmp_path)
    assert source.check() == []
    assert source.splits() == ("train", "val")
    for split, pictures in written.items():
        assert list(source.keys(split)) == list(pictures)
        for key, picture in pictures.items():
            sample = source.load_segments(split, key)
            assert sample.image.shape == (24, 32, 3)
            assert {segment.stored_id for segment in sample.segments} == set(picture.segments)
            np.testing.assert_array_equal(sample.segment_ids == 0, picture.stored_ids == 0)
            for number, segment in enumerate(sample.segments, start=1):
                category, crowd = picture.segments[segment.stored_id]
                mask = picture.stored_ids == segment.stored_id
                np.testing.assert_array_equal(sample.segment_ids == number, mask)
                assert segment.train_id == COCO_TRAIN_IDS[category]
                assert (segment.crowd, segment.area) == (bool(crowd), mask.sum())
                assert segment.thing == (category <= 90)


def test_coco_classes_are_numbered_by_their_stored_ids(tmp_path: Path) -> None:
    write_coco_panoptic_tree(tmp_path)
    source = open_coco_panoptic(tmp_path)
    assert source.info.class_names == ("person", "car", "toothbrush", "banner", "rug-merged")
    assert source.info.palette[1] == (0, 0, 142)
    assert source.things == (0, 1, 2)


def test_coco_labels_are_the_classes_of_the_segments(tmp_path: Path) -> None:
    written = write_coco_panoptic_tree(tmp_path)
    source = open_coco_panoptic(tmp_path)
    key, picture = next(iter(written["val"].items()))
    table = {stored: COCO_TRAIN_IDS[category] for stored, (category, _) in picture.segments.items()}
    expected = np.vectorize(lambda stored: table.get(stored, 255))(picture.stored_ids)
    labels = source.load("val", key).labels
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)


def test_masks_leave_crowds_out(tmp_path: Path) -> None:
    written = write_coco_panoptic_tree(tmp_path)
    key, picture = next(iter(written["val"].items()))
    classes, masks = open_coco_panoptic(tmp_path).load_segments("val", key).masks()
    kept = [stored for stored, (_, crowd) in picture.segments.items() if not crowd]
    assert classes.tolist() == [COCO_TRAIN_IDS[picture.segments[stored][0]] for stored in kept]
    np.testing.assert_array_equal(masks, [picture.stored_ids == stored for stored in kept])


def test_archives_may_lie_at_the_root_and_images_in_a_folder(tmp_path: Path) -> None:
    written = write_coco_panoptic_tree(tmp_path)
    (tmp_path / "images").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").rename(tmp_path / "images" / f"{split}2017")
        (tmp_path / "annotations" / f"panoptic_{split}2017").rename(tmp_path / f"panoptic_{split}2017")
    source = open_coco_panoptic(tmp_path)
    assert source.check() == []
    assert list(source.keys("train")) == list(written["train"])


def test_ade_instances_lie_over_stuff_and_the_rest_of_things_is_void(tmp_path: Path) -> None:
    written = write_ade20k_panoptic_tree(tmp_path)
    source = open_ade20k_panoptic(tmp_path)
    assert source.check() == []
    for split, pictures in written.items():
        for key, picture in pictures.items():
            sample = source.load_segments(split, key)
            of_segment = np.array([255, *(segment.train_id for segment in sample.segments)])
            np.testing.assert_array_equal(of_segment[sample.segment_ids], ade_classes(picture))
            things = sorted(segment.stored_id for segment in sample.segments if segment.thing)
            assert things == [1000 + number for number in (2, 4, 9, 30)]
            for number, segment in enumerate(sample.segments, start=1):
                mask = sample.segment_ids == number
                assert segment.area == mask.sum() > 0
                if segment.thing:
                    np.testing.assert_array_equal(mask, picture.instances == segment.stored_id - 1000)
            np.testing.assert_array_equal(
                source.load(split, key).labels, np.where(picture.classes == 0, 255, picture.classes - 1)
            )


def ade_classes(picture: WrittenAde) -> np.ndarray:
    """Wall (0) and sky (2), beds (7) and people (12) where an instance says so, else void."""
    classes = np.full(picture.classes.shape, 255)
    for raw, train_id in ((1, 0), (3, 2)):
        classes[picture.classes == raw] = train_id
    for raw, train_id in ((1, 7), (4, 12)):  # classes of the instance labels
        classes[(picture.instances > 0) & (picture.instance_classes == raw)] = train_id
    return classes


def test_ade_has_100_things_and_50_kinds_of_stuff() -> None:
    assert len(ADE20K_150.class_names) == len(set(ADE20K_150.class_names)) == 150
    assert len(set(ADE20K_THINGS)) == 100
    assert list(ADE20K_THINGS) == sorted(ADE20K_THINGS)
    # Places Challenge 2017, instanceInfo100: instance class -> name; objectInfo150: class - 1 -> name
    for instance_class, name, train_id in ((1, "bed", 7), (35, "screen door", 58), (100, "flag", 149)):
        assert ADE20K_THINGS[instance_class - 1] == train_id
        assert ADE20K_150.class_names[train_id] == name


@pytest.mark.parametrize("kind", ["coco", "ade"])
def test_truth_as_prediction_has_perfect_quality(tmp_path: Path, kind: str) -> None:
    source: PanopticSource
    if kind == "coco":
        write_coco_panoptic_tree(tmp_path)
        source = open_coco_panoptic(tmp_path)
    else:
        write_ade20k_panoptic_tree(tmp_path)
        source = open_ade20k_panoptic(tmp_path)
    count = source.info.num_classes
    table = torch.zeros(count, 4, dtype=torch.float64)
    for key in source.keys("val"):
        truth = source.load_segments("val", key).segment_map()
        table += match_panoptic(truth, truth, num_classes=count)
    quality = panoptic_quality(table, things=source.things)
    assert (quality.all.pq, quality.things.sq, quality.stuff.rq) == (1, 1, 1)
    assert (quality.things.classes, quality.stuff.classes) == (2, 2)


def test_semantic_shards_are_made_from_a_panoptic_source(tmp_path: Path) -> None:
    written = write_coco_panoptic_tree(tmp_path / "coco")
    source = open_coco_panoptic(tmp_path / "coco")
    prepare(source, tmp_path / "shards")
    shards = open_shards(tmp_path / "shards")
    assert shards.info == source.info
    dataset = shards.dataset("val")
    key = next(iter(written["val"]))
    assert dataset.key(0) == key
    np.testing.assert_array_equal(dataset.arrays(0)[1], source.load("val", key).labels)


def test_fingerprint_changes_with_the_annotations(tmp_path: Path) -> None:
    write_coco_panoptic_tree(tmp_path / "coco")
    write_ade20k_panoptic_tree(tmp_path / "ade")
    before = [
        open_coco_panoptic(tmp_path / "coco").fingerprint(),
        open_ade20k_panoptic(tmp_path / "ade").fingerprint(),
    ]
    path = tmp_path / "coco" / "annotations" / "panoptic_val2017.json"
    path.write_text(path.read_text() + "\n")
    next((tmp_path / "ade" / "annotations_instance" / "training").iterdir()).unlink()
    after = [
        open_coco_panoptic(tmp_path / "coco").fingerprint(),
        open_ade20k_panoptic(tmp_path / "ade").fingerprint(),
    ]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_segments_that_png_and_json_do_not_share_are_named(tmp_path: Path) -> None:
    written = write_coco_panoptic_tree(tmp_path)
    key, picture = next(iter(written["train"].items()))
    path = tmp_path / "annotations" / "panoptic_train2017" / f"{key}.png"
    changed = picture.stored_ids.copy()
    changed[0, 0] = 77
    assert 77 not in picture.segments
    save_segment_ids(path, changed)
    with pytest.raises(
        DataError, match=rf"{key}.png: segments \[77\] have pixels but no entry in panoptic_train"
    ):
        open_coco_panoptic(tmp_path).load_segments("train", key)
    gone = next(iter(picture.segments))
    save_segment_ids(path, np.where(picture.stored_ids == gone, 0, picture.stored_ids))
    with pytest.raises(DataError, match=rf"segments \[{gone}\] of panoptic_train2017.json have no pixels"):
        open_coco_panoptic(tmp_path).load_segments("train", key)
    save_segment_ids(path, picture.stored_ids[:10])
    with pytest.raises(DataError, match=r"32x10 but its image .* is 32x24"):
        open_coco_panoptic(tmp_path).load_segments("train", key)


def test_all_structural_problems_of_coco_are_reported_at_once(tmp_path: Path) -> None:
    written = write_coco_panoptic_tree(tmp_path)
    first, second = written["train"]
    (tmp_path / "annotations" / "panoptic_train2017" / f"{first}.png").unlink()
    path = tmp_path / "annotations" / "panoptic_train2017.json"
    document = json.loads(path.read_text())
    document["annotations"] = document["annotations"][:1]
    document["categories"][0]["name"] = "human"
    path.write_text(json.dumps(document))
    message = "\n".join(map(str, open_coco_panoptic(tmp_path).check()))
    assert "1 of 2 files have no mask" in message
    assert f"1 annotations have no image or no PNG: {first}" in message
    assert f"1 images have no annotation and are left out: {second}" in message
    assert "categories differ from the val split's" in message


def test_json_that_is_damaged_or_of_another_format_is_named(tmp_path: Path) -> None:
    write_coco_panoptic_tree(tmp_path)
    path = tmp_path / "annotations" / "panoptic_val2017.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"panoptic_val2017\.json: cannot be read as JSON"):
        open_coco_panoptic(tmp_path).keys("val")
    path.write_text(json.dumps({"annotations": [], "images": []}))
    assert "it needs categories (id, name, isthing)" in str(open_coco_panoptic(tmp_path).check())
    path.unlink()
    with pytest.raises(
        DataError, match=r"file is missing; root must hold annotations/panoptic_val2017\.json"
    ):
        open_coco_panoptic(tmp_path)
    with pytest.raises(DataError, match="coco_panoptic' lies on disk: give its folder"):
        open_coco_panoptic(None)


def test_wrong_ade_instances_are_named(tmp_path: Path) -> None:
    written = write_ade20k_panoptic_tree(tmp_path)
    key, picture = next(iter(written["val"].items()))
    path = tmp_path / "annotations_instance" / "validation" / f"{key}.png"
    classes = picture.instance_classes.copy()
    classes[1, 2] = 4  # one pixel of the bed says person
    save_instances(path, WrittenAde(picture.classes, classes, picture.instances))
    source = open_ade20k_panoptic(tmp_path)
    with pytest.raises(DataError, match=r"instance 4 has more than one class"):
        source.load_segments("val", key)
    classes[picture.instances == 4] = 101
    save_instances(path, WrittenAde(picture.classes, classes, picture.instances))
    with pytest.raises(DataError, match=r"instance 4 has class 101; allowed are 1\.\.100"):
        source.load_segments("val", key)
    small = WrittenAde(picture.classes, classes[:10], picture.instances[:10])
    save_instances(path, small)
    with pytest.raises(DataError, match="instance labels are 32x10 but the image is 32x24"):
        source.load_segments("val", key)
    path.unlink()
    assert f"1 images have no instance labels: {key}" in str(source.check())
    with pytest.raises(DataError, match="file is missing"):
        source.load_segments("val", key)


@pytest.mark.parametrize("name", ["coco_panoptic", "ade20k_panoptic"])
def test_panoptic_data_are_opened_by_name(name: str, tmp_path: Path) -> None:
    write = {"coco_panoptic": write_coco_panoptic_tree, "ade20k_panoptic": write_ade20k_panoptic_tree}[name]
    write(tmp_path)
    source = open_source(name, root=tmp_path)
    assert source.check() == []
    with pytest.raises(InvalidInput, match=f"data set '{name}' takes no options"):
        open_source(name, root=tmp_path, options={"year": 2017})
    with pytest.raises(DataError, match=f"'?{name}'?"):
        open_source(name, root=None)
