"""The training loop: one function of data, model, recipe and session; the same for 1 and N workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segsweep.data.loader import EvalLoader, TrainLoader
from segsweep.data.shards import ShardSet
from segsweep.errors import DataError, InvalidInput, Problem, TrainingDiverged
from segsweep.losses.per_pixel import CrossEntropy, OhemCrossEntropy, PerPixelLoss
from segsweep.metrics.confusion import mean_iou
from segsweep.models.interface import Criterion, Targets, segmentation_criterion, segmentation_targets
from segsweep.records import Score
from segsweep.training.batch_norm import synchronise_batch_norm
from segsweep.training.checkpoint import save_checkpoint
from segsweep.training.inference import evaluate
from segsweep.training.objective import LossValues, mean_values, weigh
from segsweep.training.optim import WeightAverage, build_optimizer, set_learning_rate
from segsweep.training.ranks import RandomState, random_states, restore_random_state, seed_rank
from segsweep.training.recipe import Recipe
from segsweep.training.session import Session
from segsweep.training.step_checkpoints import StepCheckpoints

GPU_LOADER_THREADS = 4  # augment ahead of a GPU


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What is trained on and when the scheduler is asked.

    Attributes:
        shards: Prepared data with splits ``train`` and ``val``.
        recipe: Training recipe.
        criterion: The method's loss, given the recipe's loss per pixel (``MethodConfig.criterion``).
        targets: What its predictions are compared with at validation (``MethodConfig.targets``).
        seed: Seeds data order and augmentation (initial weights are the caller's).
        rung_epochs: Epochs after which the scheduler decides.
        eval_batch_size: Images per validation batch.
    """

    shards: ShardSet
    recipe: Recipe
    criterion: Callable[[PerPixelLoss], Criterion] = segmentation_criterion
    targets: Targets = segmentation_targets
    seed: int = 0
    rung_epochs: frozenset[int] = field(default_factory=frozenset)
    eval_batch_size: int = 8


def fit(
    model: nn.Module,
    schedule: Schedule,
    session: Session,
    *,
    device: torch.device,
    checkpoints: StepCheckpoints | None = None,
    keep: Callable[[nn.Module], None] | None = None,
) -> list[Score]:
    """Train and validate after every epoch until the schedule or the session ends.

    Args:
        model: Segmentation model with its initial weights; trained in place.
        schedule: Data, recipe and rungs.
        session: Rank, world size and where scores go.
        device: Where to train.
        checkpoints: Where the state is written within and after epochs and resumed from; without them the
            training begins anew.
        keep: Called with the network that was validated last (the average, if there is one) when the whole
            schedule has been trained.

    Returns:
        The scores of all epochs, those of the checkpoint that was resumed included.

    Raises:
        TrainingDiverged: If a loss is not finite.
        DataError: If a split is empty or smaller than one batch, or every checkpoint is damaged.
        EnvironmentProblem: If a checkpoint cannot be read, or at the end of an epoch not be written, or its
            store not be reached then; within an epoch the training goes on.
        InvalidInput: If the recipe does not fit the data or the number of workers.
    """
    training = Training(model, schedule, session, device)
    if checkpoints is not None and (state := checkpoints.newest()) is not None:
        training.load(state)

    def after_step() -> None:
        if checkpoints is not None and checkpoints.due(training.step):
            training.note_random_states()
            checkpoints.write(training.step, training.state)

    def save(path: Path) -> None:
        training.save(path)
        if checkpoints is not None:
            checkpoints.add(training.step, path)

    while training.epoch < training.recipe.epochs:
        loss = training.train_epoch(after_step)
        session.mark("last_step")
        training.scores.append(training.score(loss, seconds=training.seconds))
        training.note_random_states()
        if not session.report(training.scores[-1], save):
            break
    if keep is not None and training.epoch == training.recipe.epochs:
        keep(training.average.model if training.average is not None else training.model)
    return training.scores


def _nothing() -> None:
    """After a step."""


class Training:
    """The state that a checkpoint holds: model, average, optimiser, place in the data, chance, scores.

    Attributes:
        recipe: The schedule's, with ``epochs`` as they come out on the data.
        step: Optimiser steps that are done; the data of the next one follow from it.
        epoch: Finished epochs; ``scores``: of those.
        losses: Of the steps of the epoch that is under way.
        terms: Mean over the last epoch of each loss term, by name and without its weight.
    """

    def __init__(self, model: nn.Module, schedule: Schedule, session: Session, device: torch.device) -> None:
        recipe = schedule.recipe
        _refuse_empty_parts(recipe, session.world_size)
        self.schedule, self.session, self.device = schedule, session, device
        self.num_classes = cast(int, model.num_classes)  # of the model: a policy has two, whatever the data
        self.model: nn.Module = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if session.world_size > 1:
            self.model = synchronise_batch_norm(self.model)
        self.average = WeightAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.replica = self._replicate()
        self.optimizer = build_optimizer(self.model, recipe)
        self.criterion = schedule.criterion(_build_loss(recipe, schedule.shards.info.ignore_index))
        self.loader = TrainLoader(
            schedule.shards.dataset("train"),
            batch_size=recipe.batch_size,
            transform=recipe.augment,
            seed=schedule.seed,
            rank=session.rank,
            world_size=session.world_size,
            workers=GPU_LOADER_THREADS if device.type == "cuda" else 0,  # a CPU has no time to spare
        )
        self.validation = EvalLoader(
            schedule.shards.dataset("val"),
            batch_size=schedule.eval_batch_size,
            rank=session.rank,
            world_size=session.world_size,
        )
        self.recipe = recipe.for_images(len(self.loader.dataset))
        self.epoch, self.step = 0, 0
        self.scores: list[Score] = []
        self.losses: list[LossValues] = []
        self.terms: dict[str, float] = {}
        self._random: list[RandomState] = []
        self._began = time.perf_counter()

    def _replicate(self) -> nn.Module:
        if self.session.world_size == 1:
            return self.model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.model, device_ids=devices, broadcast_buffers=False)

    def train_epoch(self, after_step: Callable[[], None] = _nothing) -> float:
        """Train one epoch, or what is left of it.

        Args:
            after_step: Called between the steps; the state may be saved then.

        Returns:
            The mean over the epoch's steps of the loss over all ranks.
        """
        self.model.train()
        first_step, last_step = (self._steps_after(epoch) for epoch in (self.epoch, self.epoch + 1))
        batches = self.loader.epoch(self.epoch, first_step=self.step - first_step)
        for step in range(self.step, last_step):
            with self.session.computing():
                batch = next(batches)
                if not self.losses and not self.scores:
                    self.session.mark("first_step")
                self.losses.append(self.train_step(step, *batch))
            self.step = step + 1
            after_step()
        self._raise_if_not_finite()
        self.epoch += 1
        mean, self.losses = mean_values(self.losses), []
        self.terms = mean.terms
        return mean.value

    def _steps_after(self, epochs: int) -> int:
        """Optimiser steps of so many epochs; the schedule may end within the last."""
        steps = self.loader.steps_per_epoch
        return min(epochs * steps, self.recipe.total_steps(steps))

    def train_step(self, step: int, images: Tensor, labels: Tensor) -> LossValues:
        """One optimiser step on this rank's share of the batch; returns the loss over all ranks."""
        rate = set_learning_rate(
            self.optimizer, self.recipe, step, steps_per_epoch=self.loader.steps_per_epoch
        )
        images = images.to(self.device, memory_format=torch.channels_last)
        labels = labels.to(self.device)
        count = self.recipe.accumulate
        losses: list[LossValues] = []
        self.optimizer.zero_grad(set_to_none=True)
        for part in zip(images.tensor_split(count), labels.tensor_split(count), strict=True):
            with self._synchronising(len(losses) == count - 1):
                share, loss = self._loss(*part)
                if not math.isfinite(loss.value):
                    raise TrainingDiverged(
                        f"the training loss is {loss.value} at step {step} (learning rate {rate:.3g}); lower "
                        f"recipe.lr or set recipe.warmup_epochs or recipe.clip_norm"
                    )
                (share / count).backward()  # type: ignore[no-untyped-call]
            losses.append(loss)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        return mean_values(losses)

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, LossValues]:
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bfloat16"
        ):
            output = self.replica(images)
        return weigh(self.criterion(output, labels), world_size=self.session.world_size)

    def _synchronising(self, last: bool) -> AbstractContextManager[None]:
        """Gradients travel between the ranks once a step: with its last part."""
        if last or not isinstance(self.replica, DistributedDataParallel):
            return nullcontext()
        return self.replica.no_sync()

    def _raise_if_not_finite(self) -> None:
        """The last step's update is in no loss yet, and argmax of NaN looks like a prediction."""
        parameters = [parameter.detach() for parameter in self.model.parameters()]
        if not torch.isfinite(torch.stack(torch._foreach_norm(parameters))).all():
            raise TrainingDiverged(
                f"weights are NaN or infinite after epoch {self.epoch + 1}; lower recipe.lr "
                f"or set recipe.clip_norm"
            )

    def score(self, loss: float, *, seconds: float) -> Score:
        """Validate the averaged weights on the whole ``val`` split."""
        model = self.average.model if self.average is not None else self.model
        matrix = evaluate(
            model,
            self.validation,
            num_classes=self.num_classes,
            device=self.device,
            ignore_index=self.schedule.shards.info.ignore_index,
            targets=self.schedule.targets,
            computing=self.session.computing,
        )
        miou = mean_iou(matrix)
        if not math.isfinite(miou):
            raise DataError(
                f"{self.schedule.shards.path}: no pixel of split 'val' has a class, so there is no mIoU; "
                f"check the masks and the void value"
            )
        return Score(
            epoch=self.epoch,
            fidelity=self._steps_after(self.epoch) / self._steps_after(self.recipe.epochs),
            miou=miou,
            train_loss=loss,
            seconds=seconds,
            is_rung=self.epoch in self.schedule.rung_epochs,
        )

    def save(self, path: Path) -> None:
        """Write everything that ``load`` needs to go on exactly; see ``state``."""
        save_checkpoint(path, self.state())

    @property
    def seconds(self) -> float:
        """Time spent so far, that before an interruption included."""
        return time.perf_counter() - self._began

    def note_random_states(self) -> None:
        """Ask all ranks for their random states; by all of them, before one of them calls ``state``."""
        self._random = random_states(world_size=self.session.world_size, device=self.device)

    def state(self) -> dict[str, Any]:
        """All that decides how the training goes on, as tensors and plain values.

        The order of the data and their augmentation need only the step: see ``segsweep.data.loader``.
        """
        if self.session.world_size == 1:
            self.note_random_states()
        average = self.average
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if average is None else average.model.state_dict(),
            "average_updates": 0 if average is None else average.updates,
            "losses": [[loss.value, loss.terms] for loss in self.losses],
            "random": self._random,
            "scores": [score.to_json() for score in self.scores],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state; on another number of ranks chance goes on differently, all else does not."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.step = state.get("step", self._steps_after(self.epoch))
        self.scores = [Score(**score) for score in state["scores"]]
        self.losses = [LossValues(value=value, terms=terms) for value, terms in state.get("losses", [])]
        if self.average is not None and state["average"] is not None:
            self.average.model.load_state_dict(state["average"])
            self.average.updates = state["average_updates"]
        before = self.scores[-1].seconds if self.scores else 0.0
        self._began = time.perf_counter() - state.get("seconds", before)
        self._load_random(state.get("random", []))

    def _load_random(self, states: list[RandomState]) -> None:
        if len(states) == self.session.world_size:
            restore_random_state(states[self.session.rank], device=self.device)
        elif states:
            seed_rank(self.schedule.seed, self.session.rank, step=self.step)


def _refuse_empty_parts(recipe: Recipe, world_size: int) -> None:
    """Every part of a rank's share of a batch needs an image."""
    share = recipe.batch_size // world_size
    if recipe.accumulate > share:
        message = (
            f"found {recipe.accumulate} parts of a batch of {recipe.batch_size} on {world_size} workers, "
            f"allowed are up to {share}; lower it, or raise batch_size"
        )
        raise InvalidInput([Problem(where="recipe.accumulate", message=message)])


def _build_loss(recipe: Recipe, ignore_index: int) -> CrossEntropy | OhemCrossEntropy:
    if recipe.loss == "ohem":
        return OhemCrossEntropy(
            prob_threshold=recipe.ohem_threshold,
            min_kept=recipe.ohem_min_kept,
            ignore_index=ignore_index,
        )
    return CrossEntropy(ignore_index=ignore_index)
