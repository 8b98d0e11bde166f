"""One tiny real sweep: its networks stay, are what was validated, and can be registered and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from segsweep.cli import app
from segsweep.cost.measure import SpeedConditions
from segsweep.data.loader import EvalLoader
from segsweep.data.shards import open_shards
from segsweep.errors import DataError
from segsweep.jobs.finished_sweep import FinishedSweep, open_sweep
from segsweep.jobs.image_scores import counts_per_image, prepared_data
from segsweep.jobs.recommend import recommend, register_choice
from segsweep.jobs.run_sweep import run_sweep_job
from segsweep.jobs.spec import DataSettings, ObjectiveSettings, SweepJob, SweepSettings
from segsweep.jobs.trial_models import kept_models, load_trial_model
from segsweep.metrics.bootstrap import mean_iou_of
from segsweep.metrics.confusion import mean_iou
from segsweep.records import Evaluation, Point, TrialStatus
from segsweep.search.load import load_space
from segsweep.tracking.registered_model import logits_of
from segsweep.training.inference import evaluate
from segsweep.training.recipe import Recipe
from segsweep.training.session import PlainSession
from segsweep.trial import TrialTask, evaluate_point

SPACE = """
method: eseg
source: "a test"
axes:
  backbone.name: {choice: [efficientnet_tiny]}
  neck.kind: {choice: [fpn]}
  neck.top_level: {choice: [5]}
  neck.channels: {choice: [8, 16, 24, 32]}
  recipe.lr: {choice: [0.02, 0.08]}
"""
SIZE = (64, 128)


@pytest.fixture(scope="module")
def sweep(ray_two_cpus: None, tmp_path_factory: pytest.TempPathFactory) -> FinishedSweep:
    """Five trials of 6 epochs on 8 scenes, with MLflow."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "space.yaml").write_text(SPACE)
    job = SweepJob(
        name="kept",
        space=str(folder / "space.yaml"),
        data=DataSettings(
            source="synthetic", size=SIZE, options={"train": 8, "val": 6, "height": 64, "width": 128}
        ),
        out=folder / "runs",
        recipe=Recipe(epochs=6, batch_size=4, ema_decay=0.5),
        sweep=SweepSettings(
            trials=5,
            cpus_per_trial=1,
            objectives=(
                ObjectiveSettings(metric="miou", direction="maximize"),
                ObjectiveSettings(metric="macs", direction="minimize"),
            ),
        ),
        speed=SpeedConditions(warmup=1, min_samples=3, min_seconds=0.0),
    )
    result = run_sweep_job(job, sweep_id="kept-1")
    assert result.mlflow.problem == ""
    return open_sweep(result.folder)


def test_exactly_the_networks_of_the_front_are_kept(sweep: FinishedSweep) -> None:
    assert len(sweep.complete) == 5 and not sweep.interrupted
    assert kept_models(sweep.folder) == tuple(sorted(item.trial_id for item in sweep.front))
    assert 0 < len(sweep.front) < 5  # or there was nothing to remove
    assert [path.name for path in (sweep.folder / "models").glob(".*")] == []


def test_a_kept_network_gives_the_recorded_miou(sweep: FinishedSweep) -> None:
    for item in sweep.front:
        trained = load_trial_model(sweep.folder, item.trial_id)
        shards = prepared_data(sweep)
        matrix = evaluate(
            trained.model,
            EvalLoader(shards.dataset("val"), batch_size=8),
            num_classes=trained.num_classes,
            device=torch.device("cpu"),
        )
        assert mean_iou(matrix) == pytest.approx(item.miou, abs=1e-9)
        assert trained.facts["point"] == item.point.as_dict()
        assert (trained.size, trained.info) == (SIZE, shards.info)


def test_a_dominated_trial_has_no_network_and_the_message_names_those_there_are(sweep: FinishedSweep) -> None:
    on_front = {item.trial_id for item in sweep.front}
    dominated = next(item for item in sweep.complete if item.trial_id not in on_front)
    with pytest.raises(DataError, match=rf"{dominated.trial_id}.*not kept.*{min(on_front)}"):
        load_trial_model(sweep.folder, dominated.trial_id)


def test_the_conditions_of_a_sweep_are_recorded(sweep: FinishedSweep) -> None:
    assert sweep.prepared is not None
    assert sweep.conditions.data_digest == open_shards(sweep.prepared).digest
    assert (sweep.conditions.size, sweep.conditions.threads) == (SIZE, 1)
    assert sweep.space.name == "space"


def test_counts_per_image_add_up_to_the_recorded_miou_and_are_computed_once(sweep: FinishedSweep) -> None:
    item = max(sweep.front, key=lambda item: item.miou or 0)
    calls: list[tuple[int, int]] = []
    counts = counts_per_image(sweep, item, progress=lambda done, total: calls.append((done, total)))
    assert counts.shape == (6, 3, 9)
    assert float(mean_iou_of(counts.sum(axis=0))) == pytest.approx(item.miou, abs=1e-3)
    again: list[tuple[int, int]] = []
    assert np.array_equal(
        counts_per_image(sweep, item, progress=lambda done, total: again.append((done, total))), counts
    )
    assert again == [] and (not calls or calls[-1] == (6, 6))
    stored = sweep.folder / "image_counts" / f"{item.trial_id}.npz"
    stored.write_bytes(stored.read_bytes()[:50])  # cut short: computed again
    assert np.array_equal(counts_per_image(sweep, item), counts)


def test_the_recommendation_has_an_interval_over_the_validation_images(sweep: FinishedSweep) -> None:
    answer = recommend([sweep.folder])
    assert answer.chosen is not None and answer.chosen.miou == max(item.miou or 0 for item in sweep.complete)
    assert answer.interval is not None and answer.interval.over == "images"
    assert answer.interval.count == 6
    assert 0 <= answer.interval.low < answer.interval.high <= 1
    assert recommend([sweep.folder], interval=False).interval_note == "it was not asked for"


def test_a_registered_network_loads_back_and_predicts_the_same_logits(
    sweep: FinishedSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = register_choice(recommend([sweep.folder], interval=False))
    model = answer.registered
    assert answer.chosen is not None and model is not None and model.is_new
    assert (model.name, model.version) == ("seg-kept", "1")
    assert {"recommended", "max-miou", "eseg-max-miou"} <= set(model.aliases)
    mlflow.set_tracking_uri(model.tracking_uri)
    try:
        loaded = mlflow.pyfunc.load_model(model.uri)
        images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
        found = loaded.predict(images)
    finally:
        mlflow.set_tracking_uri(None)
    expected = logits_of(load_trial_model(sweep.folder, answer.chosen.trial_id), images)
    assert np.array_equal(found, expected) and found.shape == (2, 9, *SIZE)
    inputs, outputs = loaded.metadata.signature.inputs, loaded.metadata.signature.outputs
    assert [spec.shape for spec in (*inputs, *outputs)] == [(-1, *SIZE, 3), (-1, 9, *SIZE)]
    assert loaded.input_example.shape == (1, *SIZE, 3)
    assert loaded.loader_module == "segsweep.tracking.registered_model"  # not a pickle
    artifacts = sweep.out / "mlflow-artifacts" / "kept" / "models"
    assert [path.name for path in artifacts.rglob("*.pt")] == [f"{answer.chosen.trial_id}.pt"]
    assert not list(artifacts.rglob("*.pkl")) and not list(tmp_path.iterdir())


def test_registering_again_makes_no_second_version(sweep: FinishedSweep) -> None:
    answer = register_choice(recommend([sweep.folder], interval=False))
    again = register_choice(recommend([sweep.folder], objective="macs", interval=False), name="seg-kept")
    assert answer.registered is not None and (answer.registered.version, answer.registered.is_new) == (
        "1",
        False,
    )
    assert again.registered is not None and again.chosen is not None and answer.chosen is not None
    if again.chosen.trial_id != answer.chosen.trial_id:
        assert again.registered.version == "2"
    client = mlflow.MlflowClient(again.registered.tracking_uri)
    holder = client.get_model_version_by_alias("seg-kept", "recommended")
    assert str(holder.version) == again.registered.version  # the alias has moved


def test_the_command_prints_one_document_and_says_when_nothing_fits(sweep: FinishedSweep) -> None:
    runner = CliRunner()
    folder = str(sweep.folder)
    done = runner.invoke(app, ["recommend", folder, "--where", "miou >= 0", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["chosen"]["sweep_id"] == "kept-1"
    nothing = runner.invoke(app, ["recommend", folder, "--where", "macs <= 1"])
    assert nothing.exit_code == 1 and "none of 5 complete trials meets macs <= 1" in nothing.stdout


def test_a_trial_whose_network_cannot_be_written_is_complete_all_the_same(
    tiny_shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "models").touch()  # a file where the folder should be
    task = TrialTask(
        space=load_space(tmp_path / "space.yaml"),
        recipe=Recipe(epochs=1, batch_size=4, ema_decay=None),
        shards=tiny_shards,
        scratch=tmp_path,
        speed=None,
        threads=1,
        models=tmp_path,
    )
    point = Point(
        {
            "backbone.name": "efficientnet_tiny",
            "neck.kind": "fpn",
            "neck.top_level": 5,
            "neck.channels": 8,
            "recipe.lr": 0.02,
        }
    )
    stub = Evaluation(trial_id="0000-abc", number=0, point=point, status=TrialStatus.FAILED)
    assert evaluate_point(point, task, PlainSession(), stub=stub).status is TrialStatus.COMPLETE
