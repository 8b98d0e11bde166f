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
from segsweep.training.checkpoint import load_checkpoint, save_checkpoint
from segsweep.training.inference import evaluate
from segsweep.training.objective import LossValues, mean_values, weigh
from segsweep.training.optim import WeightAverage, build_optimizer, set_learning_rate
from segsweep.training.recipe import Recipe
from segsweep.training.session import Session

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


def fit(model: nn.Module, schedule: Schedule, session: Session, *, device: torch.device) -> list[Score]:
    """Train and validate after every epoch until the schedule or the session ends.

    Args:
        model: Segmentation model with its initial weights; trained in place.
        schedule: Data, recipe and rungs.
        session: Rank, world size and where scores go.
        device: Where to train.

    Returns:
        The scores of all epochs, those of the checkpoint that was resumed included.

    Raises:
        TrainingDiverged: If a loss is not finite.
        DataError: If a split is empty or smaller than one batch.
        InvalidInput: If the recipe does not fit the data or the number of workers.
    """
    training = Training(model, schedule, session, device)
    if (path := session.checkpoint()) is not None:
        training.restore(path)
    before = training.scores[-1].seconds if training.scores else 0.0
    started = time.perf_counter() - before
    while training.epoch < training.recipe.epochs:
        loss = training.train_epoch()
        session.mark("last_step")
        score = training.score(loss, seconds=time.perf_counter() - started)
        training.scores.append(score)
        if not session.report(score, training.save):
            break
    return training.scores


class Training:
    """The state that a checkpoint holds: model, average, optimiser, epoch, scores.

    Attributes:
        recipe: The schedule's, with ``epochs`` as they come out on the data.
        epoch: Finished epochs; ``scores``: of those.
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
        self.epoch = 0
        self.scores: list[Score] = []
        self.terms: dict[str, float] = {}

    def _replicate(self) -> nn.Module:
        if self.session.world_size == 1:
            return self.model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.model, device_ids=devices, broadcast_buffers=False)

    def train_epoch(self) -> float:
        """Train one epoch; returns the mean over its steps of the loss over all ranks."""
        self.model.train()
        losses: list[LossValues] = []
        first_step, last_step = (self._steps_after(epoch) for epoch in (self.epoch, self.epoch + 1))
        batches = self.loader.epoch(self.epoch)
        for step in range(first_step, last_step):
            with self.session.computing():
                batch = next(batches)
                if not losses and not self.scores:
                    self.session.mark("first_step")
                losses.append(self.train_step(step, *batch))
        self._raise_if_not_finite()
        self.epoch += 1
        mean = mean_values(losses)
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
        """Write everything that ``restore`` needs to go on exactly."""
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None,
            "average_updates": 0,
            "scores": [score.to_json() for score in self.scores],
        }
        if self.average is not None:
            state["average"] = self.average.model.state_dict()
            state["average_updates"] = self.average.updates
        save_checkpoint(path, state)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same config and recipe."""
        state = load_checkpoint(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.scores = [Score(**score) for score in state["scores"]]
        if self.average is not None and state["average"] is not None:
            self.average.model.load_state_dict(state["average"])
            self.average.updates = state["average_updates"]


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
