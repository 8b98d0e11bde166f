from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from segsweep.data.interface import Sample
from segsweep.data.sources import open_source
from segsweep.data.sources.street_canvas import Camera, Canvas, Patch
from segsweep.errors import InvalidInput
from segsweep.labels import IGNORE_INDEX

SOURCE = open_source("synthetic", root=None, options={"train": 60, "val": 8})


@pytest.fixture(scope="module")
def scenes() -> list[Sample]:
    return [SOURCE.load("train", key) for key in SOURCE.keys("train")]


def pixels_of(scenes: list[Sample], name: str) -> np.ndarray:
    """Green channel of a class's pixels, each scene's mean brightness taken out."""
    train_id = SOURCE.info.class_names.index(name)
    values = [scene.image[..., 1][scene.labels == train_id] - scene.image.mean() for scene in scenes]
    return np.concatenate([value[:: max(1, len(value) // 200)] for value in values])


def test_a_scene_depends_on_seed_split_and_index_only() -> None:
    again = open_source("synthetic", root=None, options={"train": 3, "val": 3})
    sample = again.load("train", "000002")
    np.testing.assert_array_equal(sample.image, SOURCE.load("train", "000002").image)
    np.testing.assert_array_equal(sample.labels, SOURCE.load("train", "000002").labels)
    others = [
        again.load("train", "000001"),
        again.load("val", "000002"),
        open_source("synthetic", root=None, options={"seed": 1}).load("train", "000002"),
    ]
    assert all((other.image != sample.image).any() for other in others)


@pytest.mark.parametrize("size", [(16, 16), (128, 256), (97, 301), (600, 1100)])
def test_pictures_have_the_size_that_was_asked_for(size: tuple[int, int]) -> None:
    options = {"height": size[0], "width": size[1], "train": 2}
    sample = open_source("synthetic", root=None, options=options).load("train", "000001")
    assert (sample.image.shape, sample.labels.shape) == ((*size, 3), size)
    assert (sample.image.dtype, sample.labels.dtype) == (np.uint8, np.uint8)


def test_labels_are_classes_or_ignored_and_every_class_is_common(scenes: list[Sample]) -> None:
    classes = range(SOURCE.info.num_classes)
    assert all(np.isin(scene.labels, [*classes, IGNORE_INDEX]).all() for scene in scenes)
    share = [np.mean([(scene.labels == train_id).any() for scene in scenes]) for train_id in classes]
    assert min(share) > 0.8


def test_a_few_scenes_have_void_pixels(scenes: list[Sample]) -> None:
    share = np.mean([(scene.labels == IGNORE_INDEX).any() for scene in scenes])
    assert 0.1 < share < 0.6


def test_road_and_pavement_share_their_colour_but_not_their_place(scenes: list[Sample]) -> None:
    road, pavement = pixels_of(scenes, "road"), pixels_of(scenes, "pavement")
    truth = np.repeat([0, 1], [len(road), len(pavement)])
    by_colour = roc_auc_score(truth, np.concatenate([road, pavement]))
    assert 0.35 < by_colour < 0.65  # 0.5: brightness says nothing
    bottom = np.concatenate([scene.labels[100:, 108:148].ravel() for scene in scenes])
    names = SOURCE.info.class_names
    assert (bottom == names.index("road")).mean() > 10 * (bottom == names.index("pavement")).mean()


def test_small_things_need_resolution(scenes: list[Sample]) -> None:
    """Most columns of poles are one or two pixels wide; at a quarter of the size they cannot all be kept."""
    pole = SOURCE.info.class_names.index("pole")
    runs = []
    for scene in scenes:
        edges = np.diff(np.pad((scene.labels == pole).astype(np.int8), ((0, 0), (1, 1))), axis=1)
        runs += (np.argwhere(edges == -1)[:, 1] - np.argwhere(edges == 1)[:, 1]).tolist()
    assert np.median(runs) <= 2


def test_an_object_projects_to_its_size_over_its_distance() -> None:
    camera = Camera(focal=100.0, horizon=50.0, centre=100.0, eye=1.5)
    canvas = Canvas(100, 200, camera)
    patch = Patch(canvas, 2.0, 10.0, half_width=1.0, top=2.0)
    patch.fill((np.abs(patch.u) < 1) & (patch.v > 0) & (patch.v < 2), (1.0, 2.0, 3.0), label=4)
    rows, columns = np.nonzero(canvas.labels == 4)
    # pinhole: pixels = focal * metres / distance; x = 1..3 m, height 0..2 m seen from 1.5 m
    assert (columns.min(), columns.max()) == (110, 129)
    assert (rows.min(), rows.max()) == (45, 64)
    assert np.unique(canvas.depth[canvas.labels == 4]).tolist() == [10.0]


def test_wrong_options_are_all_listed() -> None:
    with pytest.raises(InvalidInput) as caught:
        open_source("synthetic", root=None, options={"heigth": 64, "width": 3, "seed": "x"})
    assert [problem.where for problem in caught.value.problems] == [
        "options.width",
        "options.seed",
        "options.heigth",
    ]
    assert "allowed are height, width, train, val, seed" in str(caught.value)
