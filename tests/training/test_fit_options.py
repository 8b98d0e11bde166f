"""The loop with what the published recipes need: iterations, parts of a batch, several loss terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from segsweep.data.shards import open_shards
from segsweep.data.transforms import TrainTransform
from segsweep.errors import InvalidInput
from segsweep.losses.per_pixel import LossTerm, PerPixelLoss, PixelLoss
from segsweep.models.interface import Criterion, SegmentationOutput
from segsweep.records import Score
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import FolderStore
from segsweep.training.loop import Schedule, Training, fit
from segsweep.training.recipe import Recipe
from segsweep.training.session import PlainSession
from segsweep.training.step_checkpoints import StepCheckpoints

CPU = torch.device("cpu")
# The shards have 8 training images: two steps an epoch.
RECIPE = Recipe(
    iterations=5,
    batch_size=4,
    optimizer="adamw",
    lr=0.01,
    schedule="poly",
    loss="cross_entropy",
    ema_decay=None,
    augment=TrainTransform(scale_range=(1.0, 1.0)),
)


class Pixelwise(nn.Module):
    """Classifies each pixel by its colour: nothing in it depends on how a batch is split."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(8, num_classes, 1)
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(logits=self.head(self.backbone(images).relu()))


class EveryPixelCounts:
    """Squares of the logits, of void pixels too: all parts of a batch weigh the same."""

    ignore_index = 255

    def __call__(self, logits: Tensor, labels: Tensor) -> PixelLoss:
        wanted = nn.functional.one_hot(labels.clamp(max=logits.shape[1] - 1), logits.shape[1])
        return PixelLoss((logits - wanted.permute(0, 3, 1, 2)).square().sum(), torch.tensor(labels.numel()))


def _squares(pixel_loss: PerPixelLoss) -> Criterion:
    def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
        return {"squares": LossTerm(EveryPixelCounts()(output.logits, labels))}

    return criterion


def _training(shards: Path, recipe: Recipe, **schedule: Callable[[PerPixelLoss], Criterion]) -> Training:
    opened = open_shards(shards)
    model = Pixelwise(opened.info.num_classes)
    return Training(model, Schedule(shards=opened, recipe=recipe, **schedule), PlainSession(), CPU)


def _fit(
    shards: Path,
    recipe: Recipe = RECIPE,
    session: PlainSession | None = None,
    resume_from: Path | None = None,
) -> list[Score]:
    opened = open_shards(shards)
    schedule = Schedule(shards=opened, recipe=recipe, criterion=_squares)
    checkpoints = None
    if resume_from is not None:
        store = FolderStore(resume_from.parent / "steps")
        checkpoints = StepCheckpoints(store, CheckpointSettings(), published=resume_from)
    model = Pixelwise(opened.info.num_classes)
    return fit(model, schedule, session or PlainSession(), device=CPU, checkpoints=checkpoints)


def test_iterations_end_within_an_epoch(tiny_shards: Path) -> None:
    training = _training(tiny_shards, RECIPE)
    for _ in range(training.recipe.epochs):
        training.train_epoch()
    steps = {int(state["step"]) for state in training.optimizer.state.values()}
    assert (training.recipe.epochs, steps) == (3, {5})


def test_fidelity_is_the_share_of_the_iterations(tiny_shards: Path) -> None:
    scores = _fit(tiny_shards)
    assert [(score.epoch, score.fidelity) for score in scores] == [(1, 0.4), (2, 0.8), (3, 1.0)]


def test_whole_epochs_of_iterations_equal_the_epochs(tiny_shards: Path) -> None:
    in_iterations = _fit(tiny_shards, RECIPE.model_copy(update={"iterations": 4}))
    in_epochs = _fit(tiny_shards, RECIPE.model_copy(update={"iterations": None, "epochs": 2}))
    assert [s.train_loss for s in in_iterations] == [s.train_loss for s in in_epochs]
    assert [s.fidelity for s in in_iterations] == [s.fidelity for s in in_epochs]


def test_a_resumed_training_in_iterations_equals_an_uninterrupted_one(
    tiny_shards: Path, tmp_path: Path
) -> None:
    class StopAfterTwo(PlainSession):
        def report(self, score: Score, save):  # type: ignore[no-untyped-def]
            super().report(score, save)
            return score.epoch < 2

    checkpoint = tmp_path / "checkpoint.pt"
    assert len(_fit(tiny_shards, session=StopAfterTwo(save_to=checkpoint))) == 2
    resumed = _fit(tiny_shards, resume_from=checkpoint)
    assert [s.train_loss for s in resumed] == [s.train_loss for s in _fit(tiny_shards)]


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_batch_in_parts_is_the_batch(tiny_shards: Path, parts: int) -> None:
    """For a loss that weighs all images alike; 3 parts of 4 images are unequal, so theirs is another mean."""
    whole = [score.train_loss for score in _fit(tiny_shards)]
    in_parts = [
        score.train_loss for score in _fit(tiny_shards, RECIPE.model_copy(update={"accumulate": parts}))
    ]
    assert (in_parts == pytest.approx(whole, rel=1e-5)) is (parts != 3)


def test_parts_average_their_gradients(tiny_shards: Path) -> None:
    recipe = RECIPE.model_copy(
        update={"accumulate": 2, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    )
    training = _training(tiny_shards, recipe, criterion=_squares)
    images, labels = next(training.loader.epoch(0))
    model = Pixelwise(training.num_classes)
    for part in (slice(0, 2), slice(2, 4)):
        total, count = EveryPixelCounts()(model(images[part]).logits, labels[part])
        (total / count / 2).backward()
    before = [parameter.clone() for parameter in training.model.parameters()]
    training.train_step(0, images, labels)
    for old, new, expected in zip(before, training.model.parameters(), model.parameters(), strict=True):
        assert expected.grad is not None
        torch.testing.assert_close(old - new, recipe.lr * expected.grad, rtol=1e-4, atol=1e-6)


def _two_workers(rank: int, folder: str, shards: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)

    class Worker(PlainSession):
        world_size = 2

    Worker.rank = rank
    scores = _fit(Path(shards), RECIPE.model_copy(update={"accumulate": 2}), Worker())
    torch.save([dataclasses.asdict(score) for score in scores], f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_in_two_parts_equal_one_process(tiny_shards: Path, tmp_path: Path) -> None:
    mp.spawn(_two_workers, args=(str(tmp_path), str(tiny_shards)), nprocs=2)
    one = [score.train_loss for score in _fit(tiny_shards)]
    for rank in range(2):
        scores = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert [score["train_loss"] for score in scores] == pytest.approx(one, rel=1e-4)


def test_more_parts_than_images_of_a_worker_are_refused(tiny_shards: Path) -> None:
    class TwoWorkers(PlainSession):
        world_size = 2

    opened = open_shards(tiny_shards)
    schedule = Schedule(shards=opened, recipe=RECIPE.model_copy(update={"accumulate": 3}))
    with pytest.raises(InvalidInput, match="3 parts of a batch of 4 on 2 workers, allowed are up to 2"):
        Training(Pixelwise(3), schedule, TwoWorkers(), CPU)


def _two_terms(pixel_loss: PerPixelLoss) -> Criterion:
    def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
        teacher = LossTerm(pixel_loss(2 * output.logits, labels), weight=0.25)
        return {"segmentation": LossTerm(pixel_loss(output.logits, labels)), "teacher": teacher}

    return criterion


def test_the_mean_of_each_term_over_the_epoch_is_kept(tiny_shards: Path) -> None:
    training = _training(tiny_shards, RECIPE, criterion=_two_terms)
    assert training.terms == {}
    loss = training.train_epoch()
    assert training.terms.keys() == {"segmentation", "teacher"}
    assert loss == pytest.approx(training.terms["segmentation"] + 0.25 * training.terms["teacher"], rel=1e-6)


def test_the_backbone_learns_at_its_own_rate(tiny_shards: Path) -> None:
    recipe = RECIPE.model_copy(update={"lr_multipliers": {"backbone": 0.0}, "weight_decay": 0.0})
    training = _training(tiny_shards, recipe)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.train_epoch()
    after = training.model.state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"head"}
