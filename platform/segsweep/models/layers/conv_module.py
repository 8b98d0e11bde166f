"""Convolution, batch norm and ReLU as the mmsegmentation and HFGD families use them; linear projections."""

from __future__ import annotations

from torch import nn

from segsweep.models.layers.conv import FanOutConv2d


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution without bias, batch norm (epsilon 1e-5) and ReLU.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel: Odd kernel size.
        stride: The output has ``ceil(n / stride)`` pixels for n.
        dilation: Distance of the kernel's taps in pixels.
        groups: ``in_channels`` for a depthwise convolution.
    """
    return nn.Sequential(
        FanOutConv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def separable_conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, *, dilation: int = 1
) -> nn.Sequential:
    """Depthwise and pointwise convolution, each with batch norm and ReLU (Chen et al. 2018, DeepLabV3+).

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel: Odd kernel size of the depthwise convolution.
        dilation: Distance of the depthwise kernel's taps in pixels.
    """
    return nn.Sequential(
        *conv_bn_relu(in_channels, in_channels, kernel, dilation=dilation, groups=in_channels),
        *conv_bn_relu(in_channels, out_channels),
    )


class Projection(nn.Conv2d):
    """Linear map of the channels, with bias and nothing after it: queries, keys and values of attention.

    Xavier uniform and zero biases, the defaults of the framework that HFGD and CAR were written in: He's
    variance would saturate an attention that does not divide by the root of the width.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def reset_parameters(self) -> None:
        """Draw new weights; nothing on the meta device, where drawing would import torch._dynamo (1.3 s)."""
        if self.weight.is_meta:
            return
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Classifier(nn.Conv2d):
    """Linear map from features to logits; small weights, so that the loss starts at ``ln(num_classes)``.

    Args:
        in_channels: Width of the features.
        num_classes: Number of classes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, kernel_size=1)

    def reset_parameters(self) -> None:
        """Draw new weights of standard deviation 0.01 (mmsegmentation); nothing on the meta device."""
        if self.weight.is_meta:
            return
        nn.init.normal_(self.weight, 0.0, 0.01)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
