"""How a model is trained: everything but the model and the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segsweep.data.transforms import TrainTransform
from segsweep.errors import InvalidInput, Problem

Multiplier = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]

# Two ways to write one thing: who gives the one takes back the other of the recipe below.
_TAKEN_BACK: dict[str, tuple[str, Any]] = {
    "epochs": ("iterations", None),
    "warmup_epochs": ("warmup_iterations", 0),
    "warmup_iterations": ("warmup_epochs", 0.0),
}


class Recipe(BaseModel):
    """A training recipe. ESeg, Section 4.1 trains with SGD 0.9, cosine decay, OHEM and EMA.

    Attributes:
        epochs: Full schedule: fidelity 1.0. An epoch leaves out an incomplete last batch.
        iterations: Full schedule in optimiser steps, instead of ``epochs``: those are then what it comes to
            on the training split, the last one cut.
        batch_size: Images per optimiser step over all workers together.
        accumulate: Parts in which each worker computes its share of a batch, one after the other, for want of
            memory. Their losses are averaged, each over its own pixels; batch normalisation sees one part.
        lr: Peak learning rate for this batch size; it is never scaled behind the user's back.
        min_lr: Where the decay ends, for all parameters alike.
        betas: Decay of AdamW's two moments.
        weight_decay: L2 (AdamW: decoupled) on convolution and linear weights.
        decay_norms: Decay norms, biases and scalars as well.
        decay_biases: Without ``decay_norms``: decay biases and scalars as well, and spare the norms alone.
        lr_multipliers: Factors on the learning rate of parameters, by a part of their name, for example
            ``{backbone: 0.1}``.
        decay_multipliers: Factors on the weight decay, likewise. Of all keys of both, the longest that is
            part of a parameter's name holds alone: where it has no factor, that is 1 (mmcv's
            ``paramwise_cfg``).
        layer_decay: Factor on the learning rate for each block between a parameter of the backbone and its
            output (BEiT): block i of n, from 0, learns with its (n - i)th power, what comes before the blocks
            with the (n + 1)th; ``None``: all alike. The backbone must be one row of blocks.
        warmup_epochs: Linear warm-up from 0; may be a fraction of an epoch. The decay begins after it.
        warmup_iterations: Warm-up in optimiser steps, instead: a factor that rises linearly from
            ``warmup_start`` to 1 on a decay that began at the first step (mmcv).
        clip_norm: Largest gradient norm; ``None`` does not clip.
        ema_decay: Decay of the weights' moving average that is validated; ``None`` for no EMA.
            Short runs ramp up to it as ``(1 + step) / (10 + step)``.
        precision: ``bfloat16`` runs the forward pass under autocast.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=9, ge=1)
    iterations: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.08, gt=0)
    min_lr: float = Field(default=0.0, ge=0)
    momentum: Momentum = 0.9
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    weight_decay: float = Field(default=5e-5, ge=0)
    decay_norms: bool = False
    decay_biases: bool = False
    lr_multipliers: dict[str, Multiplier] = Field(default_factory=dict)
    decay_multipliers: dict[str, Multiplier] = Field(default_factory=dict)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    poly_power: float = Field(default=0.9, gt=0)
    warmup_epochs: float = Field(default=0.0, ge=0)
    warmup_iterations: int = Field(default=0, ge=0)
    warmup_start: float = Field(default=1e-6, gt=0, le=1)
    clip_norm: float | None = Field(default=None, gt=0)
    loss: Literal["cross_entropy", "ohem"] = "ohem"
    ohem_threshold: float = Field(default=0.9, gt=0, le=1)
    ohem_min_kept: int = Field(default=131072, ge=1)
    ema_decay: float | None = Field(default=0.9998, gt=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    augment: TrainTransform = Field(default_factory=TrainTransform)

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_epochs and self.warmup_iterations:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} and warmup_iterations = {self.warmup_iterations} are "
                f"two warm-ups; set one of them to 0"
            )
        if self.iterations is None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs} must be below epochs = {self.epochs}")
        if self.iterations is not None and self.warmup_iterations >= self.iterations:
            raise ValueError(
                f"warmup_iterations = {self.warmup_iterations} must be below iterations = {self.iterations}"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr = {self.min_lr} must not exceed lr = {self.lr}")
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate = {self.accumulate} must not exceed batch_size = {self.batch_size}: every part "
                f"needs an image"
            )
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps of the full schedule."""
        return self.iterations or self.epochs * steps_per_epoch

    def warmup_steps(self, steps_per_epoch: int) -> float:
        """Optimiser steps of the warm-up."""
        return self.warmup_iterations or self.warmup_epochs * steps_per_epoch

    def for_images(self, count: int) -> Recipe:
        """The recipe with ``epochs`` as they come out on a training split.

        Args:
            count: Images of the split.

        Raises:
            InvalidInput: If the warm-up would last to the end of the schedule.
        """
        steps_per_epoch = max(1, count // self.batch_size)
        total, warmup = self.total_steps(steps_per_epoch), self.warmup_steps(steps_per_epoch)
        if warmup >= total:
            name = "warmup_iterations" if self.warmup_iterations else "warmup_epochs"
            message = (
                f"the warm-up of {warmup:g} steps must end before the schedule of {total} steps "
                f"({count} images in batches of {self.batch_size}); lower it or train longer"
            )
            raise InvalidInput([Problem(where=f"recipe.{name}", message=message)])
        return self.model_copy(update={"epochs": -(-total // steps_per_epoch)})


def overridden(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe with some replaced; ``Recipe.model_validate`` checks them.

    Args:
        recipe: Where the other values come from.
        values: New values, nested as in YAML; what they name of ``augment`` or of the multipliers replaces
            only that. Epochs replace iterations and the other way round, also of the warm-up.
    """
    merged = _merged(recipe.model_dump(), values)
    for given, (other, nothing) in _TAKEN_BACK.items():
        if given in values and other not in values:
            merged[other] = nothing
    return merged


def _merged(base: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        inner = merged.get(key)
        merged[key] = (
            _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
        )
    return merged
