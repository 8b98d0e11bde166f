"""Optimiser, learning-rate schedule and moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from segsweep.training.recipe import Recipe

EMA_RAMP = 10  # (1 + n) / (10 + n): the average follows closely while it is young


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW with weight decay on matrices and kernels only, not on norms, biases and scalars."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


def learning_rate(recipe: Recipe, step: int, *, steps_per_epoch: int) -> float:
    """Learning rate of optimiser step ``step`` (from 0): linear warm-up, then decay to 0.

    The schedule runs over the recipe's full number of epochs, also for a trial that will be stopped.
    """
    total = recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.lr
    progress = (step - warmup) / max(total - warmup, 1)
    if recipe.schedule == "poly":
        return float(recipe.lr * (1 - progress) ** recipe.poly_power)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))


class WeightAverage:
    """Exponential moving average of parameters and floating buffers (ESeg, Section 4.1)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model by ``1 - min(decay, (1 + n) / (10 + n))``."""
        decay = min(self.decay, (1 + self.updates) / (EMA_RAMP + self.updates))
        self.updates += 1
        source = model.state_dict()
        floating, targets = [], []
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                targets.append(value)
                floating.append(source[name])
            else:
                value.copy_(source[name])
        torch._foreach_lerp_(targets, floating, 1 - decay)
