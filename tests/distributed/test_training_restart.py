"""``segsweep train`` on a real Ray Train worker that is killed within an epoch; and a lost run folder."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from job_files import write_tiny_training

from segsweep.data.shards import open_shards, prepare
from segsweep.data.sources import open_source
from segsweep.distributed.training_job import CHECKPOINT, TrainingPlan, run_training
from segsweep.errors import InvalidJob
from segsweep.jobs.load import load_job
from segsweep.jobs.run_train import run_train_job
from segsweep.jobs.spec import TrainJob
from segsweep.models.methods import METHODS
from segsweep.records import Score
from segsweep.training.checkpoint import load_checkpoint
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import FolderStore
from segsweep.training.loop import Schedule, fit
from segsweep.training.recipe import Recipe
from segsweep.training.session import PlainSession

EPOCHS, STEPS_PER_EPOCH = 5, 16
KILLED_AFTER = 2 * STEPS_PER_EPOCH + 5  # steps: within the third epoch
RECIPE = Recipe(epochs=EPOCHS, batch_size=2, loss="cross_entropy", ema_decay=0.5)
CONFIG = METHODS["eseg"].model_validate(
    {"backbone": {"name": "efficientnet_tiny"}, "neck": {"top_level": 5, "channels": 8, "repeats": 1}}
)


@dataclass(frozen=True)
class Ran:
    plan: TrainingPlan
    store: FolderStore
    scores: list[Score]
    told: list[Score]
    said: list[str]
    killed_after: int


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restart_shards") / "synthetic"
    options = {"train": 2 * STEPS_PER_EPOCH, "val": 2, "height": 32, "width": 64}
    prepare(open_source("synthetic", root=None, options=options), folder, size=(32, 64))
    return folder


def _kill_the_worker_after(steps: int, store: FolderStore, killed: list[int], ended: threading.Event) -> None:
    """Wait for a checkpoint of that step or a later one, then SIGKILL the process that trains."""
    while not ended.wait(0.01):
        if (done := store.steps()) and done[0] >= steps:
            for process in psutil.Process().children(recursive=True):
                if any("TrainWorker" in part for part in process.cmdline()[:1]):
                    killed.append(done[0])
                    process.kill()
                    return


@pytest.fixture(scope="module")
def ran(shards: Path, tmp_path_factory: pytest.TempPathFactory, ray_two_cpus: None) -> Ran:
    """A training whose only worker was killed once."""
    folder = tmp_path_factory.mktemp("restart")
    checkpoints = CheckpointSettings(every_steps=1, store=str(folder / "store"))
    plan = TrainingPlan(
        folder=folder / "run", config=CONFIG, recipe=RECIPE, shards=shards, checkpoints=checkpoints
    )
    store = FolderStore(folder / "store" / "run")
    told: list[Score] = []
    said: list[str] = []
    killed: list[int] = []
    ended = threading.Event()
    killer = threading.Thread(target=_kill_the_worker_after, args=(KILLED_AFTER, store, killed, ended))
    killer.start()
    try:
        scores = run_training(plan, on_score=told.append, say=said.append)
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 1, "no worker was killed"
    return Ran(plan, store, scores, told, said, killed[0])


def _left_alone(shards: Path, path: Path) -> list[Score]:
    """The same training in this process, without interruption or checkpoints within epochs."""
    opened = open_shards(shards)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        model = CONFIG.build(opened.info.num_classes)
        schedule = Schedule(shards=opened, recipe=RECIPE, criterion=CONFIG.criterion, targets=CONFIG.targets)
        return fit(model, schedule, PlainSession(save_to=path), device=torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)


def test_weights_and_scores_are_those_of_an_uninterrupted_training(
    ran: Ran, shards: Path, tmp_path: Path
) -> None:
    scores = _left_alone(shards, tmp_path / "expected.pt")
    assert [(score.epoch, score.miou, score.train_loss) for score in ran.scores] == [
        (score.epoch, score.miou, score.train_loss) for score in scores
    ]
    found, expected = load_checkpoint(ran.plan.folder / CHECKPOINT), load_checkpoint(tmp_path / "expected.pt")
    for part in ("model", "average"):
        for name, value in expected[part].items():
            torch.testing.assert_close(found[part][name], value, rtol=0, atol=1e-6)


def test_the_restart_is_told_and_loses_no_step_that_was_written(ran: Ran) -> None:
    (said,) = ran.said
    step = int(said.removeprefix("going on after step ").split()[0])
    assert step >= ran.killed_after >= KILLED_AFTER
    assert str(ran.store.folder) in said


def test_every_epoch_is_told_once(ran: Ran) -> None:
    assert ran.told == ran.scores
    assert [score.epoch for score in ran.told] == list(range(1, EPOCHS + 1))


def test_only_as_many_checkpoints_stay_as_asked(ran: Ran) -> None:
    last = EPOCHS * STEPS_PER_EPOCH
    assert ran.store.steps() == [last, last - 1]


def test_the_job_of_a_lost_run_folder_comes_back_from_the_store(tmp_path: Path) -> None:
    job = load_job(
        write_tiny_training(tmp_path),
        overrides=[f"out={tmp_path / 'out'}", f"checkpoints.store={tmp_path}/store"],
    )
    assert isinstance(job, TrainJob)
    begun = json.dumps({"job": {**job.model_dump(mode="json"), "seed": 7}})
    FolderStore(tmp_path / "store" / "lost").write_text("job.json", begun)
    with pytest.raises(InvalidJob, match="resume lost: seed: was 7 when it began, is 0 now"):
        run_train_job(job, resume="lost")
    with pytest.raises(InvalidJob, match="holds no such run"):
        run_train_job(job, resume="never-begun")
