"""ResNet as DeepLab and HFGD use it (TensorFlow-Slim's ``resnet_v1_beta``), with random weights.

It differs from timm's in three places: the stem is three 3x3 convolutions of one width, a stage is strided in
its last block and not in its first, and a level is tapped just before that block.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from segsweep.models.layers.conv_module import conv_bn_relu

_EXPANSION = 4
_FIRST_LEVEL = 2
_STRIDES = (2, 2, 2, 1)  # of the last block of each stage
_OUTPUT_STRIDES = (8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class SlimResNetShape:
    """Which member of the family.

    Attributes:
        depths: Blocks of the four stages.
        stem: Width of the three stem convolutions. HFGD's published costs fit 64; its public code base
            has 64, 64, 128.
        width: Width of the 3x3 convolutions of the first stage; doubled in each later one.
    """

    depths: tuple[int, int, int, int]
    stem: int = 64
    width: int = 64


class SlimResNet(nn.Module):
    """Features of the four stages.

    Args:
        shape: Member of the family.
        levels: Levels to give, among 2 to 5; what lies above the coarsest is not built.
        output_stride: Stride that the network ends at; instead of further strides, later blocks are dilated.

    Attributes:
        channels: Width of each level of the output.
        strides: True stride of each level: ``min(2**level, output_stride)``.

    Raises:
        ValueError: If a level or the output stride is none of the possible ones.
    """

    def __init__(self, shape: SlimResNetShape, *, levels: tuple[int, ...], output_stride: int = 32) -> None:
        super().__init__()
        _check(levels, output_stride)
        self.strides = {level: min(2**level, output_stride) for level in levels}
        widths = [shape.width * 2**stage for stage in range(len(shape.depths))]
        self.channels = {level: _EXPANSION * widths[level - _FIRST_LEVEL] for level in levels}
        self.stem = nn.Sequential(
            conv_bn_relu(3, shape.stem, 3, stride=2),
            conv_bn_relu(shape.stem, shape.stem, 3),
            conv_bn_relu(shape.stem, shape.stem, 3),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        self.strided = nn.ModuleList()  # the last block of each stage but the last: level to next level
        stride, dilation, channels = 4, 1, shape.stem
        for index, depth in enumerate(shape.depths[: max(levels) - _FIRST_LEVEL + 1]):
            if index:  # the block between two levels, of the finer one's width
                step = 2 if stride < output_stride else 1
                self.strided.append(_Bottleneck(channels, widths[index - 1], stride=step, dilation=dilation))
                stride, dilation = stride * step, dilation * 2 // step
            blocks = depth if _STRIDES[index] == 1 else depth - 1
            self.stages.append(_stage(channels, widths[index], blocks=blocks, dilation=dilation))
            channels = _EXPANSION * widths[index]

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """``(B, 3, H, W) -> {l: (B, C_l, ceil(H / s_l), ceil(W / s_l))}`` with the strides s."""
        features = self.stem(images)
        pyramid = {}
        for index, stage in enumerate(self.stages):
            if index:
                features = self.strided[index - 1](features)
            features = stage(features)
            if index + _FIRST_LEVEL in self.channels:
                pyramid[index + _FIRST_LEVEL] = features
        return pyramid


class _Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolution; the shortcut is subsampled where nothing widens it."""

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        out_channels = _EXPANSION * width
        self.stride = stride
        self.reduce = conv_bn_relu(in_channels, width)
        self.conv = conv_bn_relu(width, width, 3, stride=stride, dilation=dilation)
        self.expand = _conv_bn(width, out_channels)
        self.shortcut = nn.Identity() if in_channels == out_channels else _conv_bn(in_channels, out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features[..., :: self.stride, :: self.stride] if self.stride > 1 else features
        out = self.expand(self.conv(self.reduce(features)))
        return self.relu(out + self.shortcut(shortcut))  # type: ignore[no-any-return]


def _stage(in_channels: int, width: int, *, blocks: int, dilation: int) -> nn.Sequential:
    first = _Bottleneck(in_channels, width, dilation=dilation)
    rest = (_Bottleneck(_EXPANSION * width, width, dilation=dilation) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def _conv_bn(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))


def _check(levels: tuple[int, ...], output_stride: int) -> None:
    possible = tuple(range(_FIRST_LEVEL, _FIRST_LEVEL + len(_STRIDES)))
    if not levels or not set(levels) <= set(possible):
        raise ValueError(f"a slim ResNet has no levels {levels}; choose among {possible}")
    if output_stride not in _OUTPUT_STRIDES:
        raise ValueError(f"output_stride={output_stride} is none of {_OUTPUT_STRIDES}; choose one of them")
