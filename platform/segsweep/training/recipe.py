"""How a model is trained: everything but the model and the data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segsweep.data.transforms import TrainTransform


class Recipe(BaseModel):
    """A training recipe. ESeg, Section 4.1 trains with SGD 0.9, cosine decay, OHEM and EMA.

    Attributes:
        epochs: Full schedule: fidelity 1.0.
        batch_size: Images per optimiser step over all workers together.
        lr: Peak learning rate for this batch size; it is never scaled behind the user's back.
        weight_decay: L2 on convolution and linear weights only (not on norms and biases).
        warmup_epochs: Linear warm-up from 0; may be a fraction of an epoch.
        clip_norm: Largest gradient norm; ``None`` does not clip.
        ema_decay: Decay of the weights' moving average that is validated; ``None`` for no EMA.
            Short runs ramp up to it as ``(1 + step) / (10 + step)``.
        precision: ``bfloat16`` runs the forward pass under autocast.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=9, ge=1)
    batch_size: int = Field(default=8, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.08, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-5, ge=0)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    poly_power: float = Field(default=0.9, gt=0)
    warmup_epochs: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    loss: Literal["cross_entropy", "ohem"] = "ohem"
    ohem_threshold: float = Field(default=0.9, gt=0, le=1)
    ohem_min_kept: int = Field(default=131072, ge=1)
    ema_decay: float | None = Field(default=0.9998, gt=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    augment: TrainTransform = Field(default_factory=TrainTransform)

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Recipe:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs} must be below epochs = {self.epochs}")
        return self
