"""Optimiser, learning-rate schedule and moving average of the weights."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from segsweep.errors import InvalidInput, Problem
from segsweep.training.recipe import Recipe

EMA_RAMP = 10  # (1 + n) / (10 + n): the average follows closely while it is young
LR_MULTIPLIER = "lr_multiplier"  # key in the optimiser's parameter groups
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
_BLOCK = re.compile(r"(?P<backbone>(?:.+\.)?backbone\.)blocks\.(?P<block>\d+)\.")


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW with one parameter group for each pair of multipliers that occurs."""
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters with their share of learning rate and weight decay.

    Norms, biases and scalars (all of at most one axis) are not decayed unless ``recipe.decay_norms``, or
    ``recipe.decay_biases`` for those that are no norm's; the multipliers come on top of that.

    Raises:
        InvalidInput: If the recipe decays by layer and the backbone has no blocks.
    """
    spared = _spared(model, recipe)
    by_layer = {} if recipe.layer_decay is None else layer_multipliers(model, recipe.layer_decay)
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            on_rate, on_decay = multipliers(name, recipe)
            on_rate *= by_layer.get(name, 1.0)
            if name in spared:
                on_decay = 0.0
            members.setdefault((on_decay, on_rate), []).append(parameter)
    # A fixed order, decayed parameters first: a checkpoint knows its groups by their number.
    return [
        {
            "params": members[on_decay, on_rate],
            "lr": recipe.lr * on_rate,
            "weight_decay": recipe.weight_decay * on_decay,
            LR_MULTIPLIER: on_rate,
        }
        for on_decay, on_rate in sorted(members, reverse=True)
    ]


def _spared(model: nn.Module, recipe: Recipe) -> set[str]:
    """Names of the parameters that are not decayed, whatever the multipliers."""
    if recipe.decay_norms:
        return set()
    if not recipe.decay_biases:
        return {name for name, parameter in model.named_parameters() if parameter.ndim <= 1}
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if isinstance(module, _NORMS)
        for name, _ in module.named_parameters(recurse=False)
    }


def layer_multipliers(model: nn.Module, decay: float) -> dict[str, float]:
    """Factors on the learning rate of the backbone's parameters, by depth (Bao et al. 2022, BEiT).

    Args:
        model: Its backbone is one row of blocks, ``backbone.blocks.0`` to ``backbone.blocks.{n - 1}``.
        decay: Factor for each block between a parameter and the backbone's output.

    Returns:
        By name of the parameter: ``decay ** (n - i)`` in block i, ``decay ** (n + 1)`` before all blocks;
        without what comes behind them and the other parts of the model.

    Raises:
        InvalidInput: If there are no such blocks.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    blocks = {name: int(match["block"]) for name in names if (match := _BLOCK.match(name))}
    if not blocks:
        message = (
            f"found {decay}, but the model has no backbone.blocks to count; leave it out, or take a backbone "
            "that is one row of blocks (ViT, BEiT)"
        )
        raise InvalidInput([Problem(where="recipe.layer_decay", message=message)])
    depth = max(blocks.values()) + 1
    factors = {name: decay ** (depth - block) for name, block in blocks.items()}
    return factors | dict.fromkeys(_before_blocks(names), decay ** (depth + 1))


def _before_blocks(names: Iterable[str]) -> list[str]:
    """Parameters of the backbone that are in no block and in no norm behind them."""
    names = list(names)
    (backbone,) = {match["backbone"] for name in names if (match := _BLOCK.match(name))}
    behind = (f"{backbone}blocks.", f"{backbone}norm.")
    return [name for name in names if name.startswith(backbone) and not name.startswith(behind)]


def multipliers(name: str, recipe: Recipe) -> tuple[float, float]:
    """Factors on learning rate and weight decay of a parameter: those of the longest key in its name."""
    keys = {key for key in (*recipe.lr_multipliers, *recipe.decay_multipliers) if key in name}
    if not keys:
        return 1.0, 1.0
    key = min(keys, key=lambda key: (-len(key), key))
    return recipe.lr_multipliers.get(key, 1.0), recipe.decay_multipliers.get(key, 1.0)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, *, steps_per_epoch: int
) -> float:
    """Give each parameter group its learning rate of a step; returns that of multiplier 1."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(
            recipe, step, steps_per_epoch=steps_per_epoch, multiplier=group.get(LR_MULTIPLIER, 1.0)
        )
    return learning_rate(recipe, step, steps_per_epoch=steps_per_epoch)


def learning_rate(recipe: Recipe, step: int, *, steps_per_epoch: int, multiplier: float = 1.0) -> float:
    """Learning rate of optimiser step ``step`` (from 0): linear warm-up, then decay to ``recipe.min_lr``.

    The schedule runs over the recipe's full length, also for a trial that will be stopped.

    Args:
        recipe: Schedule and peak rate.
        step: Optimiser steps that were made before.
        steps_per_epoch: Optimiser steps of an epoch.
        multiplier: Of a parameter group, on the peak rate; the end is the same for all.
    """
    peak = recipe.lr * multiplier
    end = min(recipe.min_lr, peak)
    before = recipe.warmup_epochs * steps_per_epoch
    if step < before:
        return peak * (step + 1) / (before + 1)
    progress = (step - before) / max(recipe.total_steps(steps_per_epoch) - before, 1)
    rate = end + (peak - end) * _decay(recipe, progress)
    if step < recipe.warmup_iterations:
        start, passed = recipe.warmup_start, step / recipe.warmup_iterations
        rate *= start + (1 - start) * passed
    return rate


def _decay(recipe: Recipe, progress: float) -> float:
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "poly":
        return float((1 - progress) ** recipe.poly_power)
    return 0.5 * (1 + math.cos(math.pi * progress))


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
