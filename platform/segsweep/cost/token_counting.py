"""Costs as fvcore counts them for transformers on tokens: the convention of ALGM's tables (2406.09936)."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from segsweep.cost.counting import count_operations
from segsweep.models.interface import MethodConfig

_PER_NORMED_VALUE = 5  # fvcore, norm_flop_counter of an affine norm
_PER_ENLARGED_VALUE = 4  # fvcore, bilinear interpolation


@functools.lru_cache(maxsize=64)
def count_fvcore_macs(config: MethodConfig, *, num_classes: int, size: tuple[int, int]) -> int:
    """MACs, 5 for each value that an affine layer norm gives and 4 for each of the enlarged logits.

    fvcore calls them FLOPs and counts a MAC as one.

    Args:
        config: A design whose norms are layer norms and whose only resizing is that of the logits.
        num_classes: Number of classes of the head.
        size: Height and width of the image in pixels.
    """
    with torch.device("meta"):
        model = config.build(num_classes)
    normed = 0

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal normed
        normed += output.numel()

    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(hook)
    macs = count_operations(model, size).macs
    return macs + _PER_NORMED_VALUE * normed + _PER_ENLARGED_VALUE * num_classes * math.prod(size)
