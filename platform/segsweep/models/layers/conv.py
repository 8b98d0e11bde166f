"""Convolution, batch norm and activation as the decoders and the EfficientNet family use them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["silu", "relu"]

# SiLU not in place: its backward needs the input, so autograd would clone it first.
_ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "relu": lambda: nn.ReLU(inplace=True),
}

BATCH_NORM_EPS = 1e-3  # EfficientNet and EfficientDet (google/automl, batch_norm_epsilon)


def activation_layer(name: Activation) -> nn.Module:
    """A fresh activation module."""
    return _ACTIVATIONS[name]()


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the epsilon of EfficientNet; an ordinary one, so that it can be synchronised."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)


def set_batch_norm_momentum(model: nn.Module, momentum: float) -> None:
    """Set the share of the newest batch in the running statistics of every batch norm in ``model``."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


class FanOutConv2d(nn.Conv2d):
    """Convolution with the initialisation of EfficientNet: normal of variance 2 / fan-out, bias zero."""

    def reset_parameters(self) -> None:
        """Draw new weights; nothing on the meta device, where drawing would import torch._dynamo (1.3 s)."""
        if self.weight.is_meta:
            return
        fan_out = self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / fan_out))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class SameConv2d(FanOutConv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the bottom and right."""

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, D, ceil(h/s), ceil(w/s))`` for stride s."""
        top, bottom = _same_padding(images.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = _same_padding(images.shape[-1], self.kernel_size[1], self.stride[1])
        return super().forward(F.pad(images, (left, right, top, bottom)))


def _same_padding(pixels: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(pixels / stride) - 1) * stride + kernel - pixels, 0)
    return total // 2, total - total // 2


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    tf_same: bool = False,
) -> nn.Conv2d:
    """A convolution that gives ``ceil(n / stride)`` pixels for n.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel: Odd kernel size.
        stride: 1 or 2.
        groups: ``in_channels`` for a depthwise convolution.
        bias: Whether a bias is added.
        tf_same: Pad as TensorFlow does; differs from symmetric padding only where the stride is 2.
    """
    if tf_same and stride > 1:
        return SameConv2d(in_channels, out_channels, kernel, stride, groups=groups, bias=bias)
    padding = kernel // 2
    return FanOutConv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)


def separable_conv(in_channels: int, out_channels: int, *, bias: bool) -> nn.Sequential:
    """EfficientDet's separable convolution: depthwise 3x3 without bias, pointwise 1x1, batch norm."""
    return nn.Sequential(
        conv(in_channels, in_channels, 3, groups=in_channels),
        conv(in_channels, out_channels, bias=bias),
        batch_norm(out_channels),
    )
