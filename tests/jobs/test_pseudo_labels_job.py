"""Pseudo labels: what the teacher is sure of, as shards that say where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from job_files import write_tiny_training
from PIL import Image
from trained_runs import train_here

from segsweep.data.shards import open_shards
from segsweep.data.sources import open_source
from segsweep.data.transforms import normalise
from segsweep.errors import DataError, InvalidInput, InvalidJob
from segsweep.jobs.check import check_paths
from segsweep.jobs.load import load_job
from segsweep.jobs.run_pseudo_labels import PseudoLabelsResult, run_pseudo_labels_job
from segsweep.jobs.spec import PseudoLabelsJob
from segsweep.jobs.trained_run import open_run

SIZE = (64, 128)
JOB = """\
kind: pseudo_labels
name: scenes
teacher: mine
data: {source: synthetic, size: [64, 128], options: {train: 4, val: 1, height: 64, width: 128, seed: 9}}
threshold: 0.35
scales: [1.0, 1.5]
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a teacher that is not sure of everything."""
    out = tmp_path_factory.mktemp("runs")
    job_file = write_tiny_training(tmp_path_factory.mktemp("job"), ("epochs: 2", "epochs: 16"))
    train_here(job_file, out, "mine")
    return out


def job(folder: Path, out: Path, *overrides: str, text: str = JOB) -> PseudoLabelsJob:
    path = folder / "pseudo.yaml"
    path.write_text(text)
    loaded = load_job(path, overrides=[f"out={out}", *overrides])
    assert isinstance(loaded, PseudoLabelsJob)
    return loaded


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(out: Path, told: list[str], tmp_path_factory: pytest.TempPathFactory) -> PseudoLabelsResult:
    labelled = job(tmp_path_factory.mktemp("pseudo"), out)
    return run_pseudo_labels_job(labelled, run_id="first", say=told.append)


def expected_labels(image: np.ndarray, out: Path, *, scales: Sequence[float], threshold: float) -> np.ndarray:
    """Mean over scales and mirror images of the probabilities, by a loop of its own."""
    run = open_run("mine", out=out)
    model = run.model(torch.device("cpu"))
    total = torch.zeros(run.info.num_classes, *SIZE)
    for scale in scales:
        height, width = round(SIZE[0] * scale), round(SIZE[1] * scale)
        seen = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        pixels = normalise(torch.from_numpy(seen.transpose(2, 0, 1).copy())[None])
        for mirrored in (False, True):
            with torch.no_grad():
                logits = model(pixels.flip(-1) if mirrored else pixels).logits
            maps = torch.nn.functional.interpolate(logits, (height, width), mode="bilinear")
            maps = torch.nn.functional.interpolate(maps, SIZE, mode="bilinear")
            total += (maps.flip(-1) if mirrored else maps).softmax(1)[0]
    sureness, classes = (total / (2 * len(scales))).max(0)
    return torch.where(sureness > threshold, classes, 255).numpy()


def test_labels_are_the_classes_of_the_mean_probability_and_void_below_the_threshold(
    result: PseudoLabelsResult, out: Path
) -> None:
    source = open_source(
        "synthetic", root=None, options={"train": 4, "val": 1, "height": 64, "width": 128, "seed": 9}
    )
    dataset = result.shards.dataset("train")
    assert len(dataset) == 4
    void = 0
    for row, key in enumerate(source.keys("train")):
        image, labels = dataset.arrays(row)
        np.testing.assert_array_equal(image.transpose(1, 2, 0), source.load("train", key).image)
        expected = expected_labels(image.transpose(1, 2, 0), out, scales=(1.0, 1.5), threshold=0.35)
        assert np.mean(labels != expected) < 1e-3  # two implementations round differently at the edges
        void += int((labels == 255).sum())
    assert 0 < void < 4 * SIZE[0] * SIZE[1]
    assert result.labelled_share == 1 - void / (4 * SIZE[0] * SIZE[1])


def test_a_stricter_threshold_only_takes_labels_away(
    result: PseudoLabelsResult, out: Path, tmp_path: Path
) -> None:
    strict = run_pseudo_labels_job(job(tmp_path, out, "threshold=0.5"), run_id="strict")
    for row in range(4):
        loose, kept = (
            result.shards.dataset("train").arrays(row)[1],
            strict.shards.dataset("train").arrays(row)[1],
        )
        np.testing.assert_array_equal(kept[kept != 255], loose[kept != 255])
    assert strict.labelled_share < result.labelled_share


def test_the_shards_say_where_their_labels_come_from(result: PseudoLabelsResult, out: Path) -> None:
    provenance = open_shards(result.folder / "shards").index.provenance
    assert provenance is not None
    checkpoint = out / "trainings" / "mine" / "checkpoint.pt"
    assert provenance["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (provenance["teacher"], provenance["threshold"], provenance["scales"]) == (
        "mine",
        0.35,
        [1.0, 1.5],
    )
    assert provenance["images"]["options"]["seed"] == 9
    assert result.shards.info.class_names == open_run("mine", out=out).info.class_names


def test_what_was_labelled_is_told(result: PseudoLabelsResult, told: list[str]) -> None:
    assert told[0] == "mine labels 4 images of synthetic"
    assert told[-1].startswith(f"{100 * result.labelled_share:.1f} % of the pixels have a label")


def test_a_finished_run_is_not_labelled_again(result: PseudoLabelsResult, out: Path, tmp_path: Path) -> None:
    before = (result.shards.path / "train.arrow").stat().st_mtime_ns
    again = run_pseudo_labels_job(job(tmp_path, out), resume="first")
    assert again.to_json() == result.to_json()
    assert (result.shards.path / "train.arrow").stat().st_mtime_ns == before
    with pytest.raises(InvalidJob, match=r"threshold: was 0\.35 when it began, is 0\.6 now"):
        run_pseudo_labels_job(job(tmp_path, out, "threshold=0.6"), resume="first")


def test_any_folder_of_pictures_can_be_labelled(out: Path, tmp_path: Path) -> None:
    scene = open_source("synthetic", root=None, options={"height": 80, "width": 100}).load("val", "000000")
    for name in ("a.png", "more/b.jpg"):
        (tmp_path / "pictures" / name).parent.mkdir(exist_ok=True)
        Image.fromarray(scene.image).save(tmp_path / "pictures" / name)
    pictures = ["data={source: images, root: pictures, size: [64, 128]}", "threshold=0"]
    labelled = run_pseudo_labels_job(job(tmp_path, out, *pictures), run_id="pictures")
    dataset = labelled.shards.dataset("train")
    assert [dataset.key(row) for row in range(2)] == ["a.png", "more/b.jpg"]
    assert labelled.labelled_share == 1 and dataset.size == SIZE


def test_a_teacher_that_is_sure_of_nothing_is_said(out: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sure of no pixel at threshold 0\.99; train it longer or lower"):
        run_pseudo_labels_job(job(tmp_path, out, "threshold=0.99"), run_id="nothing")


def test_what_is_wrong_is_told_at_once_before_anything_is_labelled(out: Path, tmp_path: Path) -> None:
    wrong = ["teacher=gone", "data={source: images, root: none, size: [64, 128]}"]
    with pytest.raises(InvalidInput, match=r"(?s)data root of 'images'.*found no training there"):
        run_pseudo_labels_job(job(tmp_path, out, *wrong))
    with pytest.raises(InvalidInput, match=r"split: found 'test', allowed: train, val"):
        run_pseudo_labels_job(job(tmp_path, out, "split=test"))
    with pytest.raises(InvalidJob, match=r"scales: at 0\.1: an image of 6x13 pixels"):
        run_pseudo_labels_job(job(tmp_path, out, "scales=[0.1]"))
    assert not list((out / "pseudo_labels").glob("scenes-*/shards"))


def test_check_reads_the_job(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "pseudo.yaml"
    path.write_text(JOB + f"out: {out}\n")
    assert check_paths([path]) == {path: ()}
    path.write_text(JOB + f"out: {out}\nthreshhold: 0.5\n")
    assert "did you mean 'threshold'?" in str(check_paths([path])[path][0])
