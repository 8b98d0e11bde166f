"""Slim, dilated and patch-cutting backbones: sizes, widths, strides and parameters."""

from __future__ import annotations

import math

import pytest
import torch

from segsweep.models.backbones import SLIM_RESNETS, build_backbone
from segsweep.models.backbones.slim_resnet import SlimResNet

LEVELS = (2, 3, 4, 5)
RESNET_CHANNELS = {2: 256, 3: 512, 4: 1024, 5: 2048}


def size(pixels: tuple[int, int], stride: int) -> tuple[int, ...]:
    return tuple(math.ceil(n / stride) for n in pixels)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50c", 23_527_264),  # SenFormer's backbones, without the classifier
        ("resnet101c", 42_519_392),
        ("resnet50_slim", 23_574_336),  # HFGD's, stem 64, 64, 64
    ],
)
def test_parameters_without_classifier(name: str, expected: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, levels=LEVELS)
    assert sum(p.numel() for p in backbone.parameters()) == expected
    assert backbone.channels == RESNET_CHANNELS


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(
    "name", ["resnet50_slim", "resnet50c", "resnet18", "tf_efficientnet_b0", "convnext_atto", "swin_nano"]
)
@pytest.mark.parametrize("pixels", [(64, 96), (65, 97), (520, 520)])
def test_levels_keep_their_stage_and_tell_their_stride(
    name: str, output_stride: int, pixels: tuple[int, int]
) -> None:
    if name == "swin_nano" and output_stride < 32:
        with pytest.raises(ValueError, match=r"swin_nano.*output_stride=(8|16).*no convolutions"):
            build_backbone(name, levels=LEVELS, output_stride=output_stride)
        return
    with torch.device("meta"):
        backbone = build_backbone(name, levels=LEVELS, output_stride=output_stride)
        pyramid = backbone(torch.empty(1, 3, *pixels))
    assert backbone.strides == {level: min(2**level, output_stride) for level in LEVELS}
    assert {level: tuple(features.shape[1:]) for level, features in pyramid.items()} == {
        level: (backbone.channels[level], *size(pixels, backbone.strides[level])) for level in LEVELS
    }


@pytest.mark.parametrize("name", ["resnet50_slim", "resnet50c", "tf_efficientnet_b0"])
def test_dilation_adds_no_parameters_and_can_share_weights(name: str) -> None:
    with torch.device("meta"):
        plain, dilated = (build_backbone(name, levels=LEVELS, output_stride=stride) for stride in (32, 8))
    shapes = {key: value.shape for key, value in plain.state_dict().items()}
    assert shapes == {key: value.shape for key, value in dilated.state_dict().items()}


@pytest.mark.parametrize("name", ["vgg11", "edgenext_xx_small", "swin_tiny_patch4_window7_224"])
def test_a_network_that_cannot_be_dilated_says_so(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*output_stride=8.*use output_stride=32"):
        build_backbone(name, levels=(3, 4), output_stride=8)


def test_an_output_stride_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"output_stride=4 is none of \(8, 16, 32\)"):
        build_backbone("resnet50_slim", levels=LEVELS, output_stride=4)


def test_a_level_that_a_slim_resnet_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no levels \(1, 2\); choose among \(2, 3, 4, 5\)"):
        build_backbone("resnet50_slim", levels=(1, 2))


def test_dilation_samples_the_same_function_more_densely() -> None:
    torch.manual_seed(0)
    shape = SLIM_RESNETS["resnet_slim_nano"]
    plain = SlimResNet(shape, levels=LEVELS).double().eval()
    dilated = SlimResNet(shape, levels=LEVELS, output_stride=8).double().eval()
    dilated.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 65, 97, dtype=torch.float64)  # 9 x 13 pixels at stride 8: corners meet
    with torch.no_grad():
        coarse, fine = plain(images), dilated(images)
    torch.testing.assert_close(fine[3], coarse[3])
    torch.testing.assert_close(fine[4][..., ::2, ::2], coarse[4])
    torch.testing.assert_close(fine[5][..., ::4, ::4], coarse[5])


def test_a_slim_stage_is_strided_in_its_last_block_after_the_tap() -> None:
    model = SlimResNet(SLIM_RESNETS["resnet50_slim"], levels=LEVELS)
    assert [len(stage) for stage in model.stages] == [2, 3, 5, 3]  # (3, 4, 6, 3) less the strided blocks
    strides = [
        [m.stride for m in block.modules() if isinstance(m, torch.nn.Conv2d)] for block in model.strided
    ]
    assert strides == [[(1, 1), (2, 2), (1, 1)]] * 3


@pytest.mark.parametrize("levels", [(2, 3, 4), (2, 5), (3,)])
def test_every_parameter_of_a_slim_resnet_is_used(levels: tuple[int, ...]) -> None:
    model = build_backbone("resnet_slim_nano", levels=levels)
    pyramid = model(torch.randn(2, 3, 65, 97))
    assert tuple(pyramid) == levels
    torch.stack([features.square().mean() for features in pyramid.values()]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_convnext_sees_the_whole_of_an_image_of_any_size() -> None:
    torch.manual_seed(0)
    model = build_backbone("convnext_atto", levels=LEVELS).eval()
    images = torch.randn(1, 3, 65, 97)
    padded = torch.nn.functional.pad(images, (0, 31, 0, 31))
    with torch.no_grad():
        ours, whole = model(images), model(padded)
    for level, features in ours.items():
        height, width = features.shape[-2:]
        assert (height, width) == size((65, 97), 2**level)
        torch.testing.assert_close(features, whole[level][..., :height, :width])
