"""EfficientNet (Tan and Le 2019) and ESeg-Lite's fused variant, without the head convolution.

Layers are named as in timm, so timm's ``tf_efficientnet_b*`` weights load as they are. Not timm's own module:
importing timm takes 1.8 s (it pulls torchvision and torch._dynamo in), and its ``BatchNormAct2d`` would lose
the activation when batch norms are synchronised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from segsweep.models.layers.conv import Activation, FanOutConv2d, activation_layer, batch_norm, conv

_EXPANSION = 6
_SE_RATIO = 0.25
_STEM_CHANNELS = 32
_STEM_STRIDE = 2
_OUTPUT_STRIDES = (8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    level: int  # of the output


# Tan and Le 2019, Table 1, stages 2 to 8.
_STAGES = (
    _Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16, level=1),
    _Stage(repeats=2, kernel=3, stride=2, expansion=_EXPANSION, channels=24, level=2),
    _Stage(repeats=2, kernel=5, stride=2, expansion=_EXPANSION, channels=40, level=3),
    _Stage(repeats=3, kernel=3, stride=2, expansion=_EXPANSION, channels=80, level=4),
    _Stage(repeats=3, kernel=5, stride=1, expansion=_EXPANSION, channels=112, level=4),
    _Stage(repeats=4, kernel=5, stride=2, expansion=_EXPANSION, channels=192, level=5),
    _Stage(repeats=1, kernel=3, stride=1, expansion=_EXPANSION, channels=320, level=5),
)


@dataclass(frozen=True, kw_only=True)
class EfficientNetShape:
    """Which member of the family.

    Attributes:
        width: Multiplier of every width; widths are rounded to multiples of 8.
        depth: Multiplier of the number of blocks of a stage, rounded up.
        fused: ESeg-Lite's blocks: one dense convolution for the 1x1 and the depthwise one, no
            squeeze-and-excitation (ESeg-Lite; kernel sizes are kept, else Lite-S has 10 G MACs, not 17).
        tf_same: TensorFlow's asymmetric padding, for weights converted from TensorFlow.
    """

    width: float
    depth: float
    fused: bool = False
    tf_same: bool = False

    @property
    def activation(self) -> Activation:
        """ReLU in fused networks (ESeg, Lite models), else SiLU."""
        return "relu" if self.fused else "silu"


class EfficientNet(nn.Module):
    """Features of EfficientNet after the last block of each stride.

    Args:
        shape: Member of the family.
        levels: Levels to give, among 1 to 5; stages above the coarsest are not built.
        output_stride: Coarsest stride, 8, 16 or 32; stages beyond it keep their size and spread their kernels
            instead (atrous convolution, Chen et al. 2017). Parameters are the same.

    Attributes:
        channels: Width of each level of the output.
        strides: Stride of each level of the output, ``min(2**level, output_stride)``.

    Raises:
        ValueError: If ``output_stride`` is none of the three.
    """

    def __init__(self, shape: EfficientNetShape, *, levels: tuple[int, ...], output_stride: int = 32) -> None:
        super().__init__()
        if output_stride not in _OUTPUT_STRIDES:
            raise ValueError(f"output_stride={output_stride} is none of {_OUTPUT_STRIDES}; use one of them")
        stem = round_channels(_STEM_CHANNELS * shape.width)
        self.conv_stem = conv(3, stem, 3, stride=_STEM_STRIDE, tf_same=shape.tf_same)
        self.bn1 = batch_norm(stem)
        self.act1 = activation_layer(shape.activation)
        self.blocks = nn.Sequential()
        self.channels: dict[int, int] = {}
        last_stage: dict[int, int] = {}  # level -> index of the last stage with its stride
        self.strides: dict[int, int] = {level: min(2**level, output_stride) for level in sorted(levels)}
        channels = stem
        steps = _stage_steps(output_stride)
        for index, stage in enumerate(stage for stage in _STAGES if stage.level <= max(levels)):
            self.blocks.append(_make_stage(stage, shape, channels, steps=steps[index]))
            channels = round_channels(stage.channels * shape.width)
            if stage.level in levels:
                self.channels[stage.level] = channels
                last_stage[stage.level] = index
        self._taps = {index: level for level, index in last_stage.items()}

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """``(B, 3, H, W) -> {l: (B, C_l, ceil(H / s), ceil(W / s))}`` with ``s = strides[l]``."""
        features = self.act1(self.bn1(self.conv_stem(images)))
        pyramid = {}
        for index, stage in enumerate(self.blocks):
            features = stage(features)
            if index in self._taps:
                pyramid[self._taps[index]] = features
        return pyramid


def round_channels(channels: float, divisor: int = 8) -> int:
    """Nearest multiple of ``divisor``, at least one of it and never less than 90 % of ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class _Step(NamedTuple):
    stride: int = 1
    dilation: int = 1  # more than 1 only with stride 1


def _stage_steps(output_stride: int) -> list[tuple[_Step, _Step]]:
    """Stride and dilation of the first and of the other blocks of each stage."""
    steps = []
    reached, dilation = _STEM_STRIDE, 1
    for stage in _STAGES:
        if reached * stage.stride <= output_stride:
            first = _Step(stage.stride, dilation)
            reached *= stage.stride
        else:  # the first block still sees the pixels of the stage before, so it keeps their distance
            first = _Step(1, dilation)
            dilation *= stage.stride
        steps.append((first, _Step(1, dilation)))
    return steps


def _make_stage(
    stage: _Stage, shape: EfficientNetShape, in_channels: int, *, steps: tuple[_Step, _Step]
) -> nn.Sequential:
    blocks = nn.Sequential()
    out_channels = round_channels(stage.channels * shape.width)
    for index in range(math.ceil(stage.repeats * shape.depth)):
        step = steps[min(index, 1)]
        blocks.append(_make_block(stage, shape, channels=(in_channels, out_channels), step=step))
        in_channels = out_channels
    return blocks


def _make_block(
    stage: _Stage, shape: EfficientNetShape, *, channels: tuple[int, int], step: _Step
) -> nn.Module:
    if shape.fused and stage.expansion == 1:
        return _ConvBlock(channels, stage.kernel, step)
    if shape.fused:
        return _FusedMBConv(channels, stage.kernel, step)
    if stage.expansion == 1:
        return _DepthwiseSeparable(channels, stage.kernel, step, tf_same=shape.tf_same)
    return _MBConv(channels, stage.kernel, step, tf_same=shape.tf_same)


def _spatial_conv(
    channels: tuple[int, int], kernel: int, step: _Step, *, groups: int = 1, tf_same: bool = False
) -> nn.Conv2d:
    inside, outside = channels
    if step.dilation == 1:
        return conv(inside, outside, kernel, stride=step.stride, groups=groups, tf_same=tf_same)
    padding = step.dilation * (kernel // 2)
    return FanOutConv2d(
        inside, outside, kernel, padding=padding, dilation=step.dilation, groups=groups, bias=False
    )


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce = conv(channels, reduced, bias=True)
        self.act1 = activation_layer("silu")
        self.conv_expand = conv(reduced, channels, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = features.mean((2, 3), keepdim=True)
        gate: Tensor = self.conv_expand(self.act1(self.conv_reduce(squeezed)))
        return features * gate.sigmoid()


class _DepthwiseSeparable(nn.Module):
    """First stage of EfficientNet: MBConv with expansion 1."""

    def __init__(self, channels: tuple[int, int], kernel: int, step: _Step, *, tf_same: bool) -> None:
        super().__init__()
        inside, outside = channels
        self.residual = inside == outside and step.stride == 1
        self.conv_dw = _spatial_conv((inside, inside), kernel, step, groups=inside, tf_same=tf_same)
        self.bn1 = batch_norm(inside)
        self.act1 = activation_layer("silu")
        self.se = _SqueezeExcite(inside, round(inside * _SE_RATIO))
        self.conv_pw = conv(inside, outside)
        self.bn2 = batch_norm(outside)

    def forward(self, features: Tensor) -> Tensor:
        out = self.se(self.act1(self.bn1(self.conv_dw(features))))
        out = self.bn2(self.conv_pw(out))
        return out + features if self.residual else out  # type: ignore[no-any-return]


class _MBConv(nn.Module):
    """Expand 1x1, depthwise, squeeze-and-excitation, project 1x1."""

    def __init__(self, channels: tuple[int, int], kernel: int, step: _Step, *, tf_same: bool) -> None:
        super().__init__()
        inside, outside = channels
        expanded = inside * _EXPANSION
        self.residual = inside == outside and step.stride == 1
        self.conv_pw = conv(inside, expanded)
        self.bn1 = batch_norm(expanded)
        self.act1 = activation_layer("silu")
        self.conv_dw = _spatial_conv((expanded, expanded), kernel, step, groups=expanded, tf_same=tf_same)
        self.bn2 = batch_norm(expanded)
        self.act2 = activation_layer("silu")
        self.se = _SqueezeExcite(expanded, round(inside * _SE_RATIO))
        self.conv_pwl = conv(expanded, outside)
        self.bn3 = batch_norm(outside)

    def forward(self, features: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv_pw(features)))
        out = self.se(self.act2(self.bn2(self.conv_dw(out))))
        out = self.bn3(self.conv_pwl(out))
        return out + features if self.residual else out  # type: ignore[no-any-return]


class _ConvBlock(nn.Module):
    """Fused MBConv with expansion 1: a single convolution."""

    def __init__(self, channels: tuple[int, int], kernel: int, step: _Step) -> None:
        super().__init__()
        inside, outside = channels
        self.residual = inside == outside and step.stride == 1
        self.conv = _spatial_conv((inside, outside), kernel, step)
        self.bn1 = batch_norm(outside)
        self.act1 = activation_layer("relu")

    def forward(self, features: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv(features)))
        return out + features if self.residual else out  # type: ignore[no-any-return]


class _FusedMBConv(nn.Module):
    """Dense convolution that expands, then project 1x1."""

    def __init__(self, channels: tuple[int, int], kernel: int, step: _Step) -> None:
        super().__init__()
        inside, outside = channels
        expanded = inside * _EXPANSION
        self.residual = inside == outside and step.stride == 1
        self.conv_exp = _spatial_conv((inside, expanded), kernel, step)
        self.bn1 = batch_norm(expanded)
        self.act1 = activation_layer("relu")
        self.conv_pwl = conv(expanded, outside)
        self.bn2 = batch_norm(outside)

    def forward(self, features: Tensor) -> Tensor:
        out = self.bn2(self.conv_pwl(self.act1(self.bn1(self.conv_exp(features)))))
        return out + features if self.residual else out  # type: ignore[no-any-return]
