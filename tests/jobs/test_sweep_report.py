"""Reports of sweeps on disk: where they go, what they show, what they say is missing."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compared_sweeps import trial, trials, write_sweep
from PIL import Image

from segsweep.data.shards import open_shards
from segsweep.errors import DataError, InvalidInput
from segsweep.jobs import image_scores, sample_pictures
from segsweep.jobs.choice_interval import miou_interval
from segsweep.jobs.finished_sweep import CONDITIONS, open_sweep, remember_conditions
from segsweep.jobs.image_scores import COUNTS, counts_per_image
from segsweep.jobs.recommendation import Candidate
from segsweep.jobs.sample_pictures import spread
from segsweep.jobs.sweep_report import report_on
from segsweep.metrics.bootstrap import mean_iou_of
from segsweep.models.methods import METHODS
from segsweep.training.model_file import TrialModel, model_path, save_model


def shown(report: Path) -> dict[str, Any]:
    found = re.search(r'id="segsweep-data">(.*?)</script>', report.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


@pytest.fixture
def with_models(tmp_path: Path, tiny_shards: Path) -> Path:
    """A sweep whose best trial and knee kept their networks (of random weights), and its prepared data."""
    evaluations = [
        trial(n, miou, macs, 50.0 - n) for n, (miou, macs) in enumerate([(0.2, 1e8), (0.5, 2e8), (0.52, 9e8)])
    ]
    folder = write_sweep(tmp_path, "eseg-0", evaluations)
    shutil.copytree(tiny_shards, tmp_path / "data" / "synthetic-64x128")
    shards = open_shards(tmp_path / "data" / "synthetic-64x128")
    remember_conditions(folder, shards)
    config = METHODS["eseg"].model_validate(
        {"backbone": {"name": "efficientnet_tiny"}, "neck": {"channels": 16, "repeats": 1, "top_level": 6}}
    )
    for evaluation in evaluations[1:]:
        model = config.build(shards.info.num_classes)
        kept = TrialModel(model=model, config=config, info=shards.info, size=(64, 128))
        save_model(model_path(folder, evaluation.trial_id), kept)
    return folder


def test_the_report_lies_in_the_sweeps_folder_with_a_figure_beside_it(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "eseg-0", trials(12, seed=0))
    result = report_on(["eseg-0"], out=tmp_path)
    assert result.report == folder / "report.html"
    assert result.figure == folder / "pareto.png"
    with Image.open(folder / "pareto.png") as picture:
        assert picture.width > 1000
    assert len(shown(result.report)["trials"]["id"]) == 12


def test_the_figure_of_the_sweep_is_not_drawn_again(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "eseg-0", trials(4, seed=0))
    (folder / "pareto.png").write_bytes(b"drawn before")
    report_on([folder])
    assert (folder / "pareto.png").read_bytes() == b"drawn before"


def test_several_sweeps_share_one_report(tmp_path: Path) -> None:
    write_sweep(tmp_path, "eseg-0", trials(5, seed=0))
    write_sweep(tmp_path, "hfgd-0", trials(5, seed=1), space="hfgd_camvid")
    result = report_on(["eseg-0", "hfgd-0"], out=tmp_path)
    assert result.report == tmp_path / "reports" / "eseg-0-and-hfgd-0.html"
    assert [sweep["method"] for sweep in shown(result.report)["sweeps"]] == ["eseg", "hfgd"]
    assert result.figure is None


def test_seeds_of_one_job_are_averaged_and_other_recipes_are_not(tmp_path: Path) -> None:
    same = {"recipe": {"epochs": 10, "lr": 0.1}}
    write_sweep(tmp_path, "a-0", [trial(0, 0.5, 1e8)], seed=0, **same)
    write_sweep(tmp_path, "a-1", [trial(0, 0.6, 1e8)], seed=1, **same)
    write_sweep(tmp_path, "b-2", [trial(0, 0.6, 1e8)], seed=2, recipe={"epochs": 10, "lr": 0.2})
    result = report_on(["a-0", "a-1", "b-2"], out=tmp_path)
    assert shown(result.report)["designs"] == [[0, 1]]


def test_networks_of_the_best_and_the_knee_predict_samples(with_models: Path) -> None:
    result = report_on([with_models])
    pictures = shown(result.report)["pictures"]
    best, knee = (item.trial_id for item in reversed(open_sweep(with_models).evaluations[1:]))
    assert [picture["heading"] for picture in pictures] == [f"eseg-0/{best}"] * 3 + [f"eseg-0/{knee}"] * 3
    assert all(picture["data"].startswith("data:image/webp;base64,") for picture in pictures)
    assert result.pictures == 6
    assert result.notes == ()


def test_missing_data_or_networks_are_said_and_the_report_is_written(with_models: Path) -> None:
    shutil.rmtree(with_models.parent.parent / "data")
    result = report_on([with_models])
    assert result.pictures == 0
    assert "no sample predictions of eseg-0: the prepared data are not at hand" in result.notes[0]
    shutil.rmtree(with_models / "models")
    assert "no network of the front was kept" in report_on([with_models]).notes[0]
    assert report_on([with_models], pictures=False).notes == ()


def test_a_sweep_without_a_complete_trial_has_a_report_and_no_figure(tmp_path: Path) -> None:
    write_sweep(tmp_path, "eseg-0", [])
    result = report_on(["latest"], out=tmp_path)
    assert result.figure is None
    assert shown(result.report)["trials"]["id"] == []


def test_an_unknown_sweep_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    write_sweep(tmp_path, "eseg-0", [])
    with pytest.raises(InvalidInput, match="eseg-0"):
        report_on(["eseg-9"], out=tmp_path)


def test_old_sweeps_without_recorded_conditions_are_readable(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "eseg-0", trials(4, seed=0))
    (folder / CONDITIONS).unlink()
    rows = dict(shown(report_on([folder]).report)["sweeps"][0]["conditions"])
    assert rows["prepared data"] == "not recorded"


@pytest.mark.parametrize(
    ("count", "wanted", "rows"), [(9, 3, [1, 4, 7]), (2, 3, [0, 1]), (1, 3, [0]), (0, 3, [])]
)
def test_samples_are_spread_over_the_split(count: int, wanted: int, rows: list[int]) -> None:
    assert list(spread(count, wanted)) == rows


def test_pictures_and_figure_that_fail_are_notes_and_the_report_is_written(
    with_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (with_models / "report.png").mkdir()  # no figure can be written there
    (with_models / "pareto.png").mkdir()

    def full_gpu(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sample_pictures, "predict_image", full_gpu)
    result = report_on([with_models])
    assert len(shown(result.report)["trials"]["id"]) == 3
    assert result.figure is None
    assert "no sample predictions of eseg-0: OutOfMemoryError: CUDA out of memory" in result.notes[0]
    assert result.notes[1].startswith("no figure: IsADirectoryError")


def test_counts_are_found_where_they_cannot_be_kept(
    with_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = open_sweep(with_models)
    with pytest.raises(DataError, match="and not the recorded"):  # random weights reach something else
        counts_per_image(sweep, sweep.evaluations[1])
    (kept,) = (with_models / COUNTS).iterdir()
    counts = np.load(kept)["counts"]
    shutil.rmtree(with_models / COUNTS)
    (with_models / COUNTS).write_text("a file: nothing can be written below it")
    score = dataclasses.replace(sweep.evaluations[1].scores[0], miou=float(mean_iou_of(counts.sum(axis=0))))
    right = dataclasses.replace(sweep.evaluations[1], scores=(score,))
    assert (counts_per_image(sweep, right) == counts).all()
    candidate = Candidate(sweep=sweep, evaluation=right, on_front=True)
    assert miou_interval(candidate)[0] is not None

    def full_gpu(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(image_scores, "evaluate", full_gpu)
    interval, note = miou_interval(candidate)
    assert interval is None
    assert note.endswith("CUDA out of memory")
