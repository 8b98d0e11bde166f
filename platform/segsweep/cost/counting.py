"""Exact counts from one forward pass on the meta device: no weights, no arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class OperationCounts:
    """Operations of one forward pass for one image.

    Attributes:
        macs: Multiply-accumulates of convolutions and matrix products.
        elementwise: Other operations, by the convention of ``count_elementwise``.
    """

    macs: int
    elementwise: int

    @property
    def tensorflow_flops(self) -> int:
        """What google/automl reports, and so ESeg: half of the ``float_ops`` of TensorFlow's profiler."""
        return self.macs + self.elementwise // 2


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters: weights, biases and affine norms; no running statistics."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_inference_parameters(model: nn.Module) -> int:
    """Trainable parameters without the submodules that the model names in ``training_only``."""
    left_out = {
        id(parameter)
        for name in getattr(model, "training_only", ())
        for parameter in model.get_submodule(name).parameters()
    }
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if parameter.requires_grad and id(parameter) not in left_out
    )


def count_macs(model: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image.

    Args:
        model: On the meta device (built under ``torch.device("meta")``); its mode is restored.
        size: Height and width of the image in pixels.

    Returns:
        MACs of the forward pass to logits at the model's output stride.
    """
    return count_operations(model, size).macs


def count_elementwise(model: nn.Module, size: tuple[int, int]) -> int:
    """Operations for one image that are no MACs, by the convention of ESeg's figures.

    An output of an addition, multiplication, division, bias or SiLU is one operation, a pooled output is one
    for each pixel of its window, a mean is one for each input; batch norm, ReLU, sigmoid and resizing are
    free.

    Args:
        model: On the meta device; its mode is restored.
        size: Height and width of the image in pixels.
    """
    return count_operations(model, size).elementwise


def count_operations(model: nn.Module, size: tuple[int, int]) -> OperationCounts:
    """Both counts from one forward pass; arguments as ``count_macs``."""
    counter = _Counter()
    was_training = model.training
    model.eval()
    try:
        # no_grad, not inference_mode: there, composite operators (linear, matmul) arrive whole and uncounted
        with torch.no_grad(), counter:
            model(torch.empty(1, 3, *size, device="meta"))
    finally:
        model.train(was_training)
    return OperationCounts(macs=counter.flops // 2, elementwise=counter.elementwise)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the formulas of ``torch.utils.flop_counter``; its own mode imports torch._dynamo, 1.3 s."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.elementwise = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True, the default, imports torch._dynamo to switch it off; nothing is compiled here

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operator = func.overloadpacket
        output = _SHAPES.get(func, func)(*args, **kwargs)
        if operator in flop_registry:
            self.flops += flop_registry[operator](*args, **kwargs, out_val=output)
        if operator in _ELEMENTWISE:
            self.elementwise += _ELEMENTWISE[operator](args, output)
        return output


def _same(features: Tensor, *_: Any) -> Tensor:
    return features.new_empty(features.shape)


def _unchanged(features: Tensor, *_: Any, **__: Any) -> Tensor:
    return features


def _batch_norm(features: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _same(features), features.new_empty(0), features.new_empty(0)  # no statistics in eval


def _broadcast(left: Tensor, right: Tensor | float, **_: Any) -> Tensor:
    shape = np.broadcast_shapes(left.shape, getattr(right, "shape", ()))
    return torch.empty(shape, dtype=torch.result_type(left, right), device="meta")


def _reduced(features: Tensor, axes: Sequence[int] | None, keepdim: bool = False, **_: Any) -> Tensor:
    gone = {axis % features.ndim for axis in (axes or range(features.ndim))}
    sizes = enumerate(features.shape)
    return features.new_empty([1 if axis in gone else n for axis, n in sizes if keepdim or axis not in gone])


def _convolved(features: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    stride, padding, dilation, transposed = rest[:4]
    if transposed:
        return cast(Tensor, aten.convolution.default(features, weight, bias, *rest))
    spatial = [
        (length + 2 * padding[axis] - dilation[axis] * (weight.shape[axis + 2] - 1) - 1) // stride[axis] + 1
        for axis, length in enumerate(features.shape[2:])
    ]
    return features.new_empty((features.shape[0], weight.shape[0], *spatial))


def _pooled_size(lengths: Sequence[int], window: Sequence[int], stride: Sequence[int], pad: Any) -> list[int]:
    padding = (pad, pad) if isinstance(pad, int) else tuple(pad) * (2 // len(pad))
    steps = tuple(stride or window)
    return [
        (length + 2 * padding[axis] - window[axis % len(window)]) // steps[axis % len(steps)] + 1
        for axis, length in enumerate(lengths)
    ]


def _average_pooled(features: Tensor, window: Any, stride: Any = (), padding: Any = 0, *rest: Any) -> Tensor:
    if rest and rest[0]:  # ceil_mode
        return cast(Tensor, aten.avg_pool2d.default(features, window, stride, padding, *rest))
    return features.new_empty(
        (*features.shape[:-2], *_pooled_size(features.shape[-2:], window, stride, padding))
    )


def _max_pooled(
    features: Tensor, window: Any, stride: Any = (), padding: Any = 0, *rest: Any
) -> tuple[Tensor, Tensor]:
    if rest:  # dilation, ceil_mode
        return cast(
            tuple[Tensor, Tensor],
            aten.max_pool2d_with_indices.default(features, window, stride, padding, *rest),
        )
    size = (*features.shape[:-2], *_pooled_size(features.shape[-2:], window, stride, padding))
    return features.new_empty(size), features.new_empty(size, dtype=torch.int64)


def _layer_norm(features: Tensor, shape: Sequence[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    kept = [*features.shape[: features.ndim - len(shape)], *(1 for _ in shape)]
    return _same(features), features.new_empty(kept), features.new_empty(kept)


def _multiplied(left: Tensor, right: Tensor, *_: Any) -> Tensor:
    return left.new_empty((*left.shape[:-1], right.shape[-1]))


def _looked_up(table: Tensor, indices: Tensor, *_: Any) -> Tensor:
    return table.new_empty((*indices.shape, *table.shape[1:]))


def _projected(bias: Tensor, left: Tensor, right: Tensor, **_: Any) -> Tensor:
    return _multiplied(left, right)


def _joined(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return parts[0].new_empty(shape)


def _resized(features: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return features.new_empty((*features.shape[:2], *size))


# The meta kernels of these are written in Python and import torch._dynamo (1.3 s) or sympy (0.5 s). The same
# shapes without:
_SHAPES: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: _broadcast,
    aten.add.Scalar: _broadcast,
    aten.add_.Tensor: _unchanged,
    aten.clamp_min.default: _same,
    aten.log.default: _same,
    aten.mul.Tensor: _broadcast,
    aten.mul.Scalar: _broadcast,
    aten.embedding.default: _looked_up,
    aten.roll.default: _same,
    aten.addmm.default: _projected,
    aten.mm.default: _multiplied,
    aten.bmm.default: _multiplied,
    aten.cat.default: _joined,
    aten.gelu.default: _same,
    aten.native_layer_norm.default: _layer_norm,
    aten.div.Tensor: _broadcast,
    aten.convolution.default: _convolved,
    aten.avg_pool2d.default: _average_pooled,
    aten.max_pool2d_with_indices.default: _max_pooled,
    aten._softmax.default: _same,
    aten._safe_softmax.default: _same,
    aten.relu.default: _same,
    aten.silu.default: _same,
    aten.sigmoid.default: _same,
    aten.mean.dim: _reduced,
    aten.sum.dim_IntList: _reduced,
    aten.native_batch_norm.default: _batch_norm,
    aten.upsample_bilinear2d.default: _resized,
    aten.upsample_nearest2d.default: _resized,
}


def _outputs(arguments: Sequence[Any], output: Any) -> int:
    return int(output.numel())


def _bias(arguments: Sequence[Any], output: Any) -> int:
    return int(output.numel()) if arguments[2] is not None else 0


def _window(arguments: Sequence[Any], output: Any) -> int:
    pooled = output[0] if isinstance(output, tuple) else output
    return int(math.prod(arguments[1]) * pooled.numel())


_ELEMENTWISE: dict[Any, Callable[[Sequence[Any], Any], int]] = {
    aten.add: _outputs,
    aten.add_: _outputs,
    aten.mul: _outputs,
    aten.mul_: _outputs,
    aten.div: _outputs,
    aten.addcmul: lambda arguments, output: 2 * _outputs(arguments, output),
    aten.silu: _outputs,
    aten.convolution: _bias,
    aten.max_pool2d_with_indices: _window,
    aten.avg_pool2d: _window,
    aten.mean: lambda arguments, output: int(arguments[0].numel()),
}
