"""Train one point at its full schedule with Ray Train: 1..N workers, checkpoints, resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.allocator import keep_freed_memory
from segsweep.data.shards import open_shards
from segsweep.distributed.ray_session import ray_session, require_resources
from segsweep.errors import SegsweepError, TrainingDiverged
from segsweep.models.interface import MethodConfig
from segsweep.records import CostReport, Score
from segsweep.training.checkpoint import load_checkpoint
from segsweep.training.loop import Schedule, fit
from segsweep.training.recipe import Recipe
from segsweep.training.session import SaveCheckpoint

CHECKPOINT = "checkpoint.pt"
SCORES = "scores.json"  # what the checkpoint holds, small enough to be read after each epoch
FAILURE = "failure.json"
POLL_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Everything that decides a training.

    Attributes:
        folder: The training's own folder, seen by all workers; a checkpoint in it is resumed from.
        config: What to build.
        shards: Folder of the prepared data, readable by every worker.
        workers: Processes that train together; the recipe's batch is split over them.
        threads: Torch threads of one worker.
        gpus_per_worker: Ray GPUs of one worker.
        max_failures: Restarts from the last checkpoint after a worker died.
    """

    folder: Path
    config: MethodConfig
    recipe: Recipe
    shards: Path
    seed: int = 0
    workers: int = 1
    threads: int = 1
    gpus_per_worker: float = 0.0
    max_failures: int = 2


class RayTrainSession:
    """Session of a Ray Train worker; rank 0 keeps the checkpoint of the last epoch."""

    def __init__(self, folder: Path) -> None:
        from ray import train

        self._report = train.report
        context = train.get_context()
        self._rank, self._world_size = int(context.get_world_rank()), int(context.get_world_size())
        self._folder = folder
        self._scores = [score.to_json() for score in finished_scores(folder)]

    @property
    def rank(self) -> int:
        """Rank of this worker."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return self._world_size

    def cost(self, report: CostReport) -> None:
        """The driver counted the cost before the workers started."""

    def report(self, score: Score, save: SaveCheckpoint) -> bool:
        """Write the checkpoint on rank 0; reporting to Ray is a barrier for all ranks."""
        if self.rank == 0:
            save(self._folder / CHECKPOINT)
            self._scores.append(score.to_json())
            _write_whole(self._folder / SCORES, json.dumps(self._scores))
        self._report({"epoch": score.epoch, "miou": score.miou, "train_loss": score.train_loss})
        return True

    def checkpoint(self) -> Path | None:
        """The checkpoint of the last epoch, of Ray's restart or of an earlier call alike."""
        path = self._folder / CHECKPOINT
        return path if path.is_file() else None

    def computing(self) -> AbstractContextManager[None]:
        """A training has its workers' resources to itself."""
        return nullcontext()

    def mark(self, name: str) -> None:
        """Nobody asks for times here."""


def run_training(plan: TrainingPlan, *, on_score: Callable[[Score], None]) -> list[Score]:
    """Train to the end of the schedule.

    Args:
        plan: What to train; an interrupted training in its folder is continued.
        on_score: Told of every epoch, those of an earlier call first; runs in a thread of the driver.

    Returns:
        The scores of all epochs.

    Raises:
        TrainingDiverged: If a loss was not finite.
        SegsweepError: If the training raised, or its workers died more often than allowed.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    (plan.folder / FAILURE).unlink(missing_ok=True)
    done = finished_scores(plan.folder)
    if not done or done[-1].epoch < plan.recipe.epochs:
        cpus = plan.workers * plan.threads + 1  # the trainer's controller takes none, Ray's own actors some
        with (
            ray_session(num_cpus=max(cpus, os.cpu_count() or 1)),
            _followed(plan.folder, on_score),
        ):
            _train_on_ray(plan)
    else:
        for score in done:
            on_score(score)
    _raise_failure(plan.folder)
    return finished_scores(plan.folder)


def finished_scores(folder: Path) -> list[Score]:
    """Scores of the epochs that the folder's checkpoint holds; empty if there is none."""
    if not (folder / CHECKPOINT).is_file():
        return []
    return [Score(**item) for item in load_checkpoint(folder / CHECKPOINT)["scores"]]


def _train_on_ray(plan: TrainingPlan) -> None:
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    require_resources(cpus=plan.threads, gpus=plan.gpus_per_worker, count=plan.workers)
    gpu = plan.gpus_per_worker > 0
    resources = {"CPU": float(plan.threads)} | ({"GPU": plan.gpus_per_worker} if gpu else {})
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"plan": plan},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=train.ScalingConfig(
            num_workers=plan.workers, use_gpu=gpu, resources_per_worker=resources
        ),
        run_config=train.RunConfig(
            name="ray_train",
            storage_path=str(plan.folder.resolve()),
            failure_config=train.FailureConfig(max_failures=plan.max_failures),
        ),
    )
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except SystemExit:  # Ray's way to end on Ctrl-C
        raise KeyboardInterrupt from None
    except Exception as error:
        if (plan.folder / FAILURE).is_file():
            return  # our own error, told by the caller
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SegsweepError(
            f"the training's workers failed more than {plan.max_failures} times: {lines[-1]}; what was "
            f"trained is kept in {plan.folder}, add --resume to go on"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # Ray leaves its own behind
        shutil.rmtree(plan.folder / "ray_train", ignore_errors=True)


def _train_worker(config: dict[str, Any]) -> None:
    """Body of every worker. Our own errors are final: trying again would only repeat them."""
    import torch

    plan: TrainingPlan = config["plan"]
    if (plan.folder / FAILURE).is_file():  # Ray tries again after an error of ours on some rank
        return
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    keep_freed_memory()
    session = RayTrainSession(plan.folder)
    device = torch.device("cpu")
    if plan.gpus_per_worker > 0:
        from ray.train.torch import get_device

        device = get_device()
    try:
        shards = open_shards(plan.shards)
        model = plan.config.build(shards.info.num_classes)
        schedule = Schedule(
            shards=shards,
            recipe=plan.recipe,
            criterion=plan.config.criterion,
            targets=plan.config.targets,
            seed=plan.seed,
        )
        fit(model, schedule, session, device=device)
    except SegsweepError as error:
        failure = {"type": type(error).__name__, "message": str(error)}
        _write_whole(plan.folder / FAILURE, json.dumps(failure))
        raise  # the other ranks may wait for this one in a collective call


def _raise_failure(folder: Path) -> None:
    if not (folder / FAILURE).is_file():
        return
    failure = json.loads((folder / FAILURE).read_text())
    kind = TrainingDiverged if failure["type"] == TrainingDiverged.__name__ else SegsweepError
    raise kind(failure["message"])


@contextmanager
def _followed(folder: Path, on_score: Callable[[Score], None]) -> Iterator[None]:
    """Tell of each epoch while the driver waits for Ray."""
    told = 0
    ended = threading.Event()

    def tell() -> None:
        nonlocal told
        with suppress(FileNotFoundError):
            scores = [Score(**item) for item in json.loads((folder / SCORES).read_text())]
            for score in scores[told:]:
                on_score(score)
            told = len(scores)

    def follow() -> None:
        while not ended.wait(POLL_SECONDS):
            tell()

    thread = threading.Thread(target=follow, name="segsweep-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
