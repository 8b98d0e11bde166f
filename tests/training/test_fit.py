"""The training loop: it learns, resumes exactly, notices divergence, and does not depend on the workers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from segsweep.data.interface import DatasetInfo, Sample
from segsweep.data.shards import open_shards, prepare
from segsweep.data.transforms import TrainTransform
from segsweep.errors import DataError, Problem, TrainingDiverged
from segsweep.labels import IGNORE_INDEX
from segsweep.models.methods import METHODS
from segsweep.records import Score
from segsweep.training.checkpoint import load_checkpoint
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import FolderStore
from segsweep.training.loop import Schedule, fit
from segsweep.training.optim import WeightAverage, learning_rate
from segsweep.training.recipe import Recipe
from segsweep.training.session import PlainSession
from segsweep.training.step_checkpoints import StepCheckpoints

CPU = torch.device("cpu")
CONFIG = {
    "backbone": {"name": "efficientnet_tiny"},
    "neck": {"bottom_level": 2, "top_level": 6, "channels": 16, "repeats": 1},
}
RECIPE = Recipe(epochs=3, batch_size=4, lr=0.05, loss="ohem", ohem_min_kept=2000, ema_decay=0.9)


def _model(num_classes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return METHODS["eseg"].model_validate(CONFIG).build(num_classes)


def _fit(
    shards: Path,
    recipe: Recipe = RECIPE,
    session: PlainSession | None = None,
    resume_from: Path | None = None,
) -> list[Score]:
    opened = open_shards(shards)
    model = _model(opened.info.num_classes)
    checkpoints = None
    if resume_from is not None:
        store = FolderStore(resume_from.parent / "steps")
        checkpoints = StepCheckpoints(store, CheckpointSettings(), published=resume_from)
    schedule = Schedule(shards=opened, recipe=recipe)
    return fit(model, schedule, session or PlainSession(), device=CPU, checkpoints=checkpoints)


def _without_time(scores: list[Score]) -> list[Score]:
    return [dataclasses.replace(score, seconds=0.0) for score in scores]


class Blocks:
    """Four pictures of coloured blocks on a grid of 8 pixels: everything about them can be learnt."""

    info = DatasetInfo(
        name="blocks", class_names=("a", "b", "c"), palette=((0, 0, 0),) * 3, ignore_index=IGNORE_INDEX
    )

    def splits(self) -> tuple[str, ...]:
        return ("train", "val")

    def keys(self, split: str) -> list[str]:
        return ["0", "1", "2", "3"]

    def load(self, split: str, key: str) -> Sample:
        random = np.random.default_rng(int(key))
        labels = np.kron(random.integers(0, 3, (8, 8)), np.ones((8, 8))).astype(np.uint8)
        image = np.stack([labels * 80 + 20, 255 - labels * 60, np.full_like(labels, 90)], axis=-1)
        noisy = image + random.integers(0, 12, image.shape)
        return Sample(key=key, image=noisy.astype(np.uint8), labels=labels)

    def check(self) -> list[Problem]:
        return []

    def fingerprint(self) -> str:
        return "blocks"


def test_four_images_are_learnt_by_heart(tmp_path: Path) -> None:
    shards = prepare(Blocks(), tmp_path / "shards", size=(64, 64))
    recipe = Recipe(
        epochs=80,
        batch_size=4,
        lr=0.02,
        optimizer="adamw",
        loss="cross_entropy",
        ema_decay=0.5,
        augment=TrainTransform(scale_range=(1.0, 1.0), flip=0.0),
    )
    scores = fit(_model(3), Schedule(shards=shards, recipe=recipe), PlainSession(), device=CPU)
    assert scores[-1].miou > 0.95


def test_the_same_seed_gives_the_same_scores(tiny_shards: Path) -> None:
    assert _without_time(_fit(tiny_shards)) == _without_time(_fit(tiny_shards))


def test_a_resumed_training_equals_an_uninterrupted_one(tiny_shards: Path, tmp_path: Path) -> None:
    class StopAfterOne(PlainSession):
        def report(self, score: Score, save):  # type: ignore[no-untyped-def]
            super().report(score, save)
            return False

    checkpoint = tmp_path / "checkpoint.pt"
    first = _fit(tiny_shards, session=StopAfterOne(save_to=checkpoint))
    assert [score.epoch for score in first] == [1]
    resumed = _fit(tiny_shards, resume_from=checkpoint)
    assert _without_time(resumed) == _without_time(_fit(tiny_shards))


def test_a_damaged_checkpoint_is_named(tiny_shards: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    _fit(tiny_shards, RECIPE.model_copy(update={"epochs": 1}), PlainSession(save_to=checkpoint))
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"checkpoint\.pt: not a readable checkpoint"):
        load_checkpoint(checkpoint)


def test_divergence_is_an_error_with_a_remedy(tiny_shards: Path) -> None:
    recipe = RECIPE.model_copy(update={"lr": 1e30, "epochs": 5})
    with pytest.raises(TrainingDiverged, match=r"recipe\.lr"):
        _fit(tiny_shards, recipe)


def test_fewer_images_than_a_batch_is_an_error(tiny_shards: Path) -> None:
    with pytest.raises(DataError, match="8 samples, fewer than a batch of 16"):
        _fit(tiny_shards, RECIPE.model_copy(update={"batch_size": 16}))


def _two_workers(rank: int, folder: str, shards: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)

    class Worker(PlainSession):
        world_size = 2

    Worker.rank = rank
    scores = _fit(Path(shards), session=Worker())
    torch.save([dataclasses.asdict(score) for score in scores], f"{folder}/rank{rank}.pt")
    dist.barrier()  # the first to leave removes the store that the other may still read
    dist.destroy_process_group()


def test_two_workers_give_the_loss_curve_of_one_with_the_summed_batch(
    tiny_shards: Path, tmp_path: Path
) -> None:
    mp.spawn(_two_workers, args=(str(tmp_path), str(tiny_shards)), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    one = _fit(tiny_shards)
    for rank in ranks:
        assert [score["train_loss"] for score in rank] == pytest.approx(
            [score.train_loss for score in one], abs=1e-4
        )
        assert [score["miou"] for score in rank] == pytest.approx([score.miou for score in one], abs=2e-3)


def test_cosine_schedule_in_closed_form() -> None:
    recipe = Recipe(epochs=10, lr=0.4, warmup_epochs=1)
    rates = [learning_rate(recipe, step, steps_per_epoch=5) for step in range(50)]
    assert rates[:5] == pytest.approx([0.4 * (step + 1) / 6 for step in range(5)])
    assert rates[5] == pytest.approx(0.4)
    assert rates[27] == pytest.approx(0.2 * (1 + math.cos(math.pi * 22 / 45)))
    assert 0 < rates[49] < 0.001


def test_weight_average_follows_its_formula() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.5)
    start = model.weight.item()
    model.weight.data.fill_(start + 1.0)
    average.update(model)  # decay min(0.5, 1/10)
    assert average.model.weight.item() == pytest.approx(start + 0.9)
    average.update(model)  # decay min(0.5, 2/11)
    assert average.model.weight.item() == pytest.approx(start + 1.0 - 0.1 * 2 / 11)
