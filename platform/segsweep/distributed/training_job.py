"""Train one point at its full schedule with Ray Train: 1..N workers, checkpoints, resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segsweep.allocator import keep_freed_memory
from segsweep.data.joined_shards import join_shards
from segsweep.data.shards import ShardSet, open_shards
from segsweep.distributed.ray_session import ray_session, require_resources
from segsweep.errors import DataError, EnvironmentProblem, SegsweepError, TrainingDiverged
from segsweep.files import write_whole
from segsweep.models.interface import MethodConfig
from segsweep.records import CostReport, Score
from segsweep.training.checkpoint import load_checkpoint
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import open_store
from segsweep.training.initial_weights import fill_from
from segsweep.training.loop import Schedule, fit
from segsweep.training.ranks import seed_rank
from segsweep.training.recipe import Recipe
from segsweep.training.session import SaveCheckpoint
from segsweep.training.step_checkpoints import StepCheckpoints

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.pt"
SCORES = "scores.json"  # what the checkpoint holds, small enough to be read after each epoch
NEWS = "news.txt"  # what the workers want the driver to say, a line each
FAILURE = "failure.json"
POLL_SECONDS = 0.3
_FAILURES: dict[str, type[SegsweepError]] = {
    kind.__name__: kind for kind in (TrainingDiverged, DataError, EnvironmentProblem)
}


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
        max_failures: Restarts from the newest checkpoint after a worker died.
        checkpoints: When they are written besides the end of an epoch, and where they are kept.
        extra: Folder of shards with pseudo labels that join the training images.
        extra_share: Of each batch that comes from them.
        initial_weights: File of tensors that the model begins with, as ``fill_from`` reads it.
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
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    extra: Path | None = None
    extra_share: float = 0.5
    initial_weights: Path | None = None

    def open_shards(self) -> ShardSet:
        """The prepared data, joined by those with pseudo labels if there are any."""
        shards = open_shards(self.shards)
        return shards if self.extra is None else join_shards(shards, self.extra, share=self.extra_share)


class RayTrainSession:
    """Session of a Ray Train worker; rank 0 keeps the checkpoint of the last epoch."""

    def __init__(self, folder: Path) -> None:
        from ray import train

        self._report = train.report
        context = train.get_context()
        self._rank, self._world_size = int(context.get_world_rank()), int(context.get_world_size())
        self._folder = folder
        self._scores: list[dict[str, Any]] = []

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
            self._tell_scores([*self._scores, score.to_json()])
        self._report({"epoch": score.epoch, "miou": score.miou, "train_loss": score.train_loss})
        return True

    def computing(self) -> AbstractContextManager[None]:
        """A training has its workers' resources to itself."""
        return nullcontext()

    def mark(self, name: str) -> None:
        """Nobody asks for times here."""

    def resumed(self, state: dict[str, Any]) -> None:
        """Tell the driver of the epochs that the state brings along."""
        self._tell_scores(state["scores"])

    def say(self, line: str) -> None:
        """Tell the driver, and whoever reads the folder later; a full disk may be the news, and no error."""
        with suppress(OSError), (self._folder / NEWS).open("a", encoding="utf-8") as stream:
            stream.write(" ".join(line.split()) + "\n")

    def _tell_scores(self, scores: list[dict[str, Any]]) -> None:
        self._scores = scores
        write_whole(self._folder / SCORES, json.dumps(scores))


def run_training(
    plan: TrainingPlan,
    *,
    on_score: Callable[[Score], None],
    say: Callable[[str], None] = lambda line: None,
) -> list[Score]:
    """Train to the end of the schedule.

    Args:
        plan: What to train; an interrupted training in its folder or its store is continued.
        on_score: Told of every epoch, those of an earlier call first; runs in a thread of the driver.
        say: Told in a line which checkpoint a restart took, of damaged ones, and of those within an epoch
            that could not be written; in the same thread.

    Returns:
        The scores of all epochs.

    Raises:
        TrainingDiverged: If a loss was not finite.
        DataError: If there are checkpoints and all are damaged, or the data are.
        EnvironmentProblem: If a checkpoint could not be read, or at the end of an epoch not be written, or
            its store not be reached then; within an epoch that is only said.
        SegsweepError: If the training raised otherwise, or its workers died more often than allowed.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    (plan.folder / FAILURE).unlink(missing_ok=True)
    done = finished_scores(plan.folder)
    if not done or done[-1].epoch < plan.recipe.epochs:
        cpus = plan.workers * plan.threads + 1  # the trainer's controller takes none, Ray's own actors some
        with (
            ray_session(num_cpus=max(cpus, os.cpu_count() or 1)),
            _followed(plan.folder, on_score, say),
        ):
            _train_on_ray(plan)
    else:
        for score in done:
            on_score(score)
    _raise_failure(plan.folder)
    return finished_scores(plan.folder)


def finished_scores(folder: Path) -> list[Score]:
    """Scores of the epochs that the folder's checkpoint holds; empty if there is none that is whole."""
    if not (folder / CHECKPOINT).is_file():
        return []
    with suppress(DataError):  # the workers look for an older one, and say so
        return [Score(**item) for item in load_checkpoint(folder / CHECKPOINT)["scores"]]
    return []


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
        _fit(plan, session, device)
    except SegsweepError as error:
        failure = {"type": type(error).__name__, "message": str(error)}
        with suppress(OSError):  # a full disk may be the very failure; Ray carries the error as well
            write_whole(plan.folder / FAILURE, json.dumps(failure))
        raise  # the other ranks may wait for this one in a collective call


def _fit(plan: TrainingPlan, session: RayTrainSession, device: torch.device) -> None:
    shards = plan.open_shards()
    model = plan.config.build(shards.info.num_classes)  # from the same seed on every rank
    store = open_store(plan.checkpoints, plan.folder)
    begun = (plan.folder / CHECKPOINT).is_file() or bool(store.steps())  # then its weights are taken
    if plan.initial_weights is not None and not begun:
        fill_from(plan.initial_weights, model)
    if session.rank > 0:
        seed_rank(plan.seed, session.rank)  # dropout should differ between the parts of a batch
    schedule = Schedule(
        shards=shards,
        recipe=plan.recipe,
        criterion=plan.config.criterion,
        targets=plan.config.targets,
        seed=plan.seed,
    )
    checkpoints = StepCheckpoints(
        store,
        plan.checkpoints,
        published=plan.folder / CHECKPOINT,
        rank=session.rank,
        world_size=session.world_size,
        device=device,
        say=session.say,
        found=session.resumed,
    )
    fit(model, schedule, session, device=device, checkpoints=checkpoints)


def _raise_failure(folder: Path) -> None:
    if not (folder / FAILURE).is_file():
        return
    failure = json.loads((folder / FAILURE).read_text())
    raise _FAILURES.get(failure["type"], SegsweepError)(failure["message"])


@contextmanager
def _followed(folder: Path, on_score: Callable[[Score], None], say: Callable[[str], None]) -> Iterator[None]:
    """Tell of each epoch and of news while the driver waits for Ray."""
    told = 0
    heard = len(_news(folder))  # what an earlier call was told
    ended = threading.Event()

    def tell() -> None:
        nonlocal told, heard
        for line in (news := _news(folder))[heard:]:
            say(line)
        heard = len(news)
        with suppress(FileNotFoundError):
            scores = [Score(**item) for item in json.loads((folder / SCORES).read_text())]
            for score in scores[told:]:
                on_score(score)
            told = max(told, len(scores))  # an older checkpoint brings fewer: what is told stays told

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


def _news(folder: Path) -> list[str]:
    """Whole lines that the workers wrote."""
    try:
        return (folder / NEWS).read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
