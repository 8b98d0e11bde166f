"""``segsweep train`` on real Ray Train workers against one plain process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segsweep.data.shards import open_shards
from segsweep.distributed.training_job import CHECKPOINT, TrainingPlan, finished_scores, run_training
from segsweep.errors import TrainingDiverged
from segsweep.models.methods import METHODS
from segsweep.records import Score
from segsweep.training.checkpoint import load_checkpoint, save_checkpoint
from segsweep.training.loop import Schedule, fit
from segsweep.training.recipe import Recipe
from segsweep.training.session import PlainSession

CONFIG = METHODS["eseg"].model_validate(
    {"backbone": {"name": "efficientnet_tiny"}, "neck": {"top_level": 6, "channels": 16, "repeats": 1}}
)
RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, ohem_min_kept=2000, ema_decay=0.9)

pytestmark = pytest.mark.usefixtures("ray_two_cpus")


def _one_process(shards: Path, session: PlainSession, recipe: Recipe = RECIPE) -> list[Score]:
    opened = open_shards(shards)
    torch.manual_seed(0)
    model = CONFIG.build(opened.info.num_classes)
    return fit(model, Schedule(shards=opened, recipe=recipe), session, device=torch.device("cpu"))


def test_two_ray_workers_give_the_loss_curve_of_one_process(tiny_shards: Path, tmp_path: Path) -> None:
    told: list[Score] = []
    plan = TrainingPlan(folder=tmp_path / "run", config=CONFIG, recipe=RECIPE, shards=tiny_shards, workers=2)
    scores = run_training(plan, on_score=told.append)
    expected = _one_process(tiny_shards, PlainSession())
    assert [score.train_loss for score in scores] == pytest.approx([s.train_loss for s in expected], abs=1e-4)
    assert told == scores == finished_scores(plan.folder)
    assert load_checkpoint(plan.folder / CHECKPOINT)["epoch"] == RECIPE.epochs


def test_a_training_goes_on_from_the_checkpoint_in_its_folder(tiny_shards: Path, tmp_path: Path) -> None:
    class StopAfterOne(PlainSession):
        def report(self, score: Score, save):  # type: ignore[no-untyped-def]
            super().report(score, save)
            return False

    folder = tmp_path / "run"
    _one_process(tiny_shards, StopAfterOne(save_to=folder / CHECKPOINT))
    plan = TrainingPlan(folder=folder, config=CONFIG, recipe=RECIPE, shards=tiny_shards, workers=1)
    scores = run_training(plan, on_score=lambda score: None)
    expected = _one_process(tiny_shards, PlainSession())
    assert [score.epoch for score in scores] == [1, 2]
    assert [score.train_loss for score in scores] == pytest.approx([s.train_loss for s in expected], abs=1e-6)


def test_divergence_is_told_as_such_and_not_tried_again(tiny_shards: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"lr": 1e30})
    plan = TrainingPlan(folder=tmp_path / "run", config=CONFIG, recipe=recipe, shards=tiny_shards)
    with pytest.raises(TrainingDiverged, match="the training loss is"):
        run_training(plan, on_score=lambda score: None)


def test_a_finished_training_is_not_trained_again(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    scores = _one_process(tiny_shards, PlainSession(save_to=folder / CHECKPOINT))
    state = load_checkpoint(folder / CHECKPOINT)
    save_checkpoint(folder / CHECKPOINT, {key: value for key, value in state.items() if key != "format"})
    before = (folder / CHECKPOINT).stat().st_mtime_ns
    plan = TrainingPlan(folder=folder, config=CONFIG, recipe=RECIPE, shards=tiny_shards)
    assert run_training(plan, on_score=lambda score: None) == scores
    assert (folder / CHECKPOINT).stat().st_mtime_ns == before
