"""Costs as fvcore's ``flop_count`` prints them: MACs, norms and bilinear resizing, up to the class map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from segsweep.cost.counting import count_operations
from segsweep.models.interface import MethodConfig
from segsweep.models.layers.frozen_norm import FrozenBatchNorm2d

_BATCH_NORM = 2  # for each value; in evaluation mode a product and a sum
_OTHER_NORM = 5  # for each value of a layer or group norm with weights
_BILINEAR = 4  # for each output


@functools.lru_cache(maxsize=256)
def count_semantic_macs(config: MethodConfig, *, num_classes: int, size: tuple[int, int]) -> int:
    """Multiply-accumulates from the image to class maps of its size, for one image.

    MaskFormer's network ends at masks: the product of classes and masks, formed at image size, comes on top
    of what ``count_config`` counts. Of other methods both are equal.

    Args:
        config: Any method's config.
        num_classes: Number of classes.
        size: Height and width of the image in pixels.
    """
    return count_operations(_Merged(_build(config, num_classes), size), size).macs


@functools.lru_cache(maxsize=256)
def count_fvcore_macs(
    config: MethodConfig, *, num_classes: int, size: tuple[int, int], original: tuple[int, int] | None = None
) -> int:
    """Cost of a config for one image, by the convention of fvcore 0.1.5 (MaskFormer's tables).

    A MAC is one FLOP there. To ``count_semantic_macs`` come 2 for each value of a batch norm, 5 for each
    value of another norm and 4 for each output of bilinear resizing.

    Args:
        config: Any method's config.
        num_classes: Number of classes.
        size: Height and width of the image in pixels.
        original: Height and width that the class maps are resized to; by default those of a 4:3 image with
            the same height, which MaskFormer's figures fit (an image of ADE20K, before its crop).
    """
    if original is None:
        original = (size[0], round(size[0] * 4 / 3))
    merged = _Merged(_build(config, num_classes), original)
    return count_with_norms(merged, size) + _BILINEAR * merged.resized.values


def count_with_norms(module: nn.Module, size: tuple[int, int]) -> int:
    """MACs and norms of a part of a model by the same convention, without resizing.

    Args:
        module: On the meta device; ``(1, 3, H, W)`` to anything.
        size: Height and width of the image in pixels.
    """
    counted = 0

    def hook(norm: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal counted
        counted += (_BATCH_NORM if isinstance(norm, _BATCH_NORMS) else _OTHER_NORM) * inputs[0].numel()

    norms = (*_BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)
    handles = [part.register_forward_hook(hook) for part in module.modules() if isinstance(part, norms)]
    try:
        macs = count_operations(module, size).macs
    finally:
        for handle in handles:
            handle.remove()
    return macs + counted


_BATCH_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def _build(config: MethodConfig, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        return config.build(num_classes)


class _Merged(nn.Module):
    """A model up to class maps of a size; counts what is resized on the way."""

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.resized = _ResizeCounter()

    def forward(self, images: Tensor) -> Tensor:
        """``(1, 3, H, W) -> (1, K, *size)``."""
        with self.resized:
            return self.model(images).semantic_logits(self.size)  # type: ignore[no-any-return]


class _ResizeCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the outputs of bilinear resizing and passes every operator on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True, the default, imports torch._dynamo (1.3 s) to switch it off

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.upsample_bilinear2d.default:
            self.values += output.numel()
        return output
