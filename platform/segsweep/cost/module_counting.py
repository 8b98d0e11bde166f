"""Costs as mmcv's ``get_flops`` prints them: MACs of layers that are modules, nothing for functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segsweep.cost.counting import (
    OperationCounts,
    count_inference_parameters,
    count_operations,
    count_parameters,
)
from segsweep.models.interface import MethodConfig


class ModelCounts(NamedTuple):
    """Sizes and costs of a config by several conventions.

    Attributes:
        params: Trainable parameters, those that only teach included.
        inference_params: Trainable parameters that inference needs.
        macs: Multiply-accumulates of all convolutions and matrix products, for one image.
        mmcv_macs: Cost of one image as ``count_module_macs`` counts it.
    """

    params: int
    inference_params: int
    macs: int
    mmcv_macs: int


@functools.lru_cache(maxsize=256)
def count_conventions(config: MethodConfig, *, num_classes: int, size: tuple[int, int]) -> ModelCounts:
    """Count a config by all conventions in one forward pass.

    Args:
        config: Any method's config.
        num_classes: Number of classes of the head.
        size: Height and width of the image in pixels.
    """
    with torch.device("meta"):
        model = config.build(num_classes)
    operations: list[OperationCounts] = []
    mmcv_macs = count_module_macs(model, lambda: operations.append(count_operations(model, size)))
    return ModelCounts(
        params=count_parameters(model),
        inference_params=count_inference_parameters(model),
        macs=operations[0].macs,
        mmcv_macs=mmcv_macs,
    )


def count_mmcv_macs(config: MethodConfig, *, num_classes: int, size: tuple[int, int]) -> int:
    """Cost of one image by the convention of ``count_module_macs``; arguments as ``count_conventions``."""
    return count_conventions(config, num_classes=num_classes, size=size).mmcv_macs


def count_module_macs(model: nn.Module, forward: Callable[[], object]) -> int:
    """What mmcv 1.4's ``get_flops`` would print for a forward pass, in MACs.

    A convolution counts its MACs and one operation for each output that gets a bias, a linear layer its MACs
    without bias, an affine layer norm 2 for each element, ReLU 1, pooling 1 for each input. Batch norm is
    free, as SyncBN is there; so are GELU and all that is no module: attention products, softmax, the dot
    product with the class embeddings, resizing.

    Args:
        model: Whose modules are counted; those that ``forward`` does not call count nothing.
        forward: Runs the model, on the meta device where nothing is computed.
    """
    counted = 0

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal counted
        counted += _module_macs(module, inputs[0], output)

    handles = [
        module.register_forward_hook(hook) for module in model.modules() if isinstance(module, _COUNTED)
    ]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return counted


_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_COUNTED = (nn.Conv2d, nn.Linear, nn.LayerNorm, nn.ReLU, *_POOLING)


def _module_macs(module: nn.Module, features: Tensor, output: Tensor) -> int:
    match module:
        case nn.Conv2d():
            taps = math.prod(module.kernel_size) * module.in_channels // module.groups
            return output.numel() * (taps + (module.bias is not None))
        case nn.Linear():
            return output.numel() * module.in_features
        case nn.LayerNorm():
            return features.numel() * (2 if module.elementwise_affine else 1)
        case _:
            return features.numel()
