"""A training killed with SIGKILL at a random step and resumed equals one that was left alone, bit by bit.

The model drops out, the batch comes in parts, the weights are averaged, AdamW keeps moments: whatever a
checkpoint forgets shows.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from segsweep.data.shards import open_shards
from segsweep.data.transforms import TrainTransform
from segsweep.losses.per_pixel import LossTerm, PerPixelLoss
from segsweep.models.interface import Criterion, SegmentationOutput
from segsweep.training.checkpoint import load_checkpoint
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import FolderStore
from segsweep.training.loop import Schedule, fit
from segsweep.training.recipe import Recipe
from segsweep.training.session import PlainSession
from segsweep.training.step_checkpoints import StepCheckpoints

CPU = torch.device("cpu")
STEPS, PARTS = 11, 2  # 4 steps an epoch: the third is cut
RECIPE = Recipe(
    iterations=STEPS,
    batch_size=2 * PARTS,
    accumulate=PARTS,
    optimizer="adamw",
    lr=0.01,
    loss="ohem",
    ohem_min_kept=500,
    ema_decay=0.9,
    augment=TrainTransform(brightness=0.2),
)


class Chancy(nn.Module):
    """Small, with normalisation that keeps moments and dropout that draws from torch's generator."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(0.5),
            nn.Conv2d(8, num_classes, 1),
            nn.Dropout(0.1),
        )

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(logits=self.layers(images))


def _killing(at: int | None) -> Callable[[PerPixelLoss], Criterion]:
    """A loss in whose ``at``-th evaluation the process gets SIGKILL: in the middle of a step."""
    calls = 0

    def criterion(pixel_loss: PerPixelLoss) -> Criterion:
        def loss(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"segmentation": LossTerm(pixel_loss(output.logits, labels))}

        return loss

    return criterion


def _train(
    shards: Path, folder: Path, *, kill_at: int | None = None, rank: int = 0, world_size: int = 1
) -> Any:
    """Train to the end or to the kill; returns the state that the last epoch left."""

    class Worker(PlainSession):
        pass

    Worker.rank, Worker.world_size = rank, world_size
    opened = open_shards(shards)
    model = Chancy(opened.info.num_classes)
    torch.manual_seed(rank)
    schedule = Schedule(shards=opened, recipe=RECIPE, criterion=_killing(kill_at))
    checkpoints = StepCheckpoints(
        FolderStore(folder / "steps"),
        CheckpointSettings(every_minutes=None, every_steps=3),
        rank=rank,
        world_size=world_size,
    )
    session = Worker(save_to=folder / "last.pt" if rank == 0 else None)
    fit(model, schedule, session, device=CPU, checkpoints=checkpoints)
    return load_checkpoint(folder / "last.pt") if rank == 0 else None


def _assert_same(found: Any, expected: Any, where: str = "state") -> None:
    """Equal to the last bit, times excepted."""
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected.keys() - {"seconds"}:
            _assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            _assert_same(one, other, f"{where}[{index}]")
    else:
        assert found == expected, where


def _random_call() -> int:
    """One of all evaluations of the loss but the first, another one in each run of the test."""
    return random.SystemRandom().randint(2, STEPS * PARTS)


def _prepare(tmp: Path) -> Path:
    from segsweep.data.shards import prepare
    from segsweep.data.sources import open_source

    source = open_source("synthetic", root=None, options={"train": 16, "val": 4, "height": 32, "width": 64})
    prepare(source, tmp / "shards", size=(32, 64))
    return tmp / "shards"


@pytest.fixture(scope="module")
def fork_server() -> ForkServerContext:
    """Starts processes from one that has imported all this and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "segsweep.training.loop", "segsweep.data.shards"])
    return context


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepare(tmp_path_factory.mktemp("exact"))


def test_killed_at_a_random_step_and_resumed(
    shards: Path, tmp_path: Path, fork_server: ForkServerContext
) -> None:
    kill_at = _random_call()
    interrupted = fork_server.Process(
        target=_train, args=(shards, tmp_path / "killed"), kwargs={"kill_at": kill_at}
    )
    interrupted.start()
    interrupted.join(120)
    assert interrupted.exitcode == -signal.SIGKILL
    resumed = _train(shards, tmp_path / "killed")
    expected = _train(shards, tmp_path / "left_alone")
    assert expected["step"] == STEPS
    _assert_same(resumed, expected, f"killed in evaluation {kill_at} of the loss: state")


def test_every_step_is_a_place_to_go_on_from(shards: Path, tmp_path: Path) -> None:
    """Within and between epochs, also when there is nothing left to do."""

    opened = open_shards(shards)

    def checkpoints(folder: Path) -> StepCheckpoints:
        settings = CheckpointSettings(every_minutes=None, every_steps=1, keep=100)
        return StepCheckpoints(FolderStore(folder), settings)

    def train(folder: Path) -> Any:
        model = Chancy(opened.info.num_classes)
        session = PlainSession(save_to=tmp_path / "last.pt")
        schedule = Schedule(shards=opened, recipe=RECIPE, criterion=_killing(None))
        fit(model, schedule, session, device=CPU, checkpoints=checkpoints(folder))
        return load_checkpoint(tmp_path / "last.pt")

    expected = train(tmp_path / "all")
    store = FolderStore(tmp_path / "all")
    assert store.steps() == list(range(STEPS, 0, -1))
    for step in store.steps()[1:]:
        again = FolderStore(tmp_path / f"from{step}")
        again.add(step, Path(store.name(step)))
        _assert_same(train(again.folder), expected, f"from step {step}: state")


def test_killed_while_a_checkpoint_is_written(
    shards: Path, tmp_path: Path, fork_server: ForkServerContext
) -> None:
    """The one before it is taken, and what was half written is cleared away."""
    folder = tmp_path / "killed"
    interrupted = fork_server.Process(target=_killed_in_fsync, args=(shards, folder, 3))
    interrupted.start()
    interrupted.join(120)
    assert interrupted.exitcode == -signal.SIGKILL
    assert list((folder / "steps").glob(".step-*")), "nothing was half written"
    resumed = _train(shards, folder)
    _assert_same(resumed, _train(shards, tmp_path / "left_alone"))
    assert not list(folder.rglob(".*"))


def _killed_in_fsync(shards: Path, folder: Path, call: int) -> None:
    """Train until a file is synchronised for the ``call``-th time, that is before it takes its place."""
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += Path(f"/proc/self/fd/{descriptor}").resolve().is_file()
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
    _train(shards, folder)


def _two_ranks(rank: int, folder: str, shards: str, kill_at: int | None) -> None:
    name = "first" if kill_at else "second"
    dist.init_process_group("gloo", init_method=f"file://{folder}/{name}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    training = {"rank": rank, "world_size": 2}
    resumed = _train(Path(shards), Path(folder) / "killed", kill_at=kill_at if rank else None, **training)
    expected = _train(Path(shards), Path(folder) / "left_alone", **training)
    if rank == 0:
        _assert_same(resumed, expected)
        states = [state["cpu"] for state in resumed["random"]]
        assert len(states) == 2 and not torch.equal(*states), "the ranks should draw differently"
        (Path(folder) / "compared").touch()
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.usefixtures("fork_server")
def test_two_workers_of_which_one_is_killed(shards: Path, tmp_path: Path) -> None:
    kill_at = _random_call()
    start = partial(mp.start_processes, _two_ranks, nprocs=2, start_method="forkserver")
    with pytest.raises(Exception, match=r"SIGKILL|Connection|process \d"):
        start(args=(str(tmp_path), str(shards), kill_at))
    assert not (tmp_path / "compared").exists()
    start(args=(str(tmp_path), str(shards), None))
    assert (tmp_path / "compared").exists(), f"killed in evaluation {kill_at} of the loss"
