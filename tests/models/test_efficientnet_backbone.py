"""EfficientNet against timm's, an independent implementation with the same layer names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from segsweep.errors import ImageSizeError
from segsweep.models.backbones import EFFICIENTNETS, build_backbone
from segsweep.models.backbones.efficientnet import EfficientNet, EfficientNetShape, round_channels
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "eseg.json").read_text())
LEVELS = (2, 3, 4, 5)


@pytest.mark.parametrize("size", [(64, 96), (65, 79)])
def test_computes_what_timm_computes_from_timms_weights(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    oracle = timm.create_model("tf_efficientnet_b0", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    ours = build_backbone("tf_efficientnet_b0", levels=LEVELS).eval()
    ours.load_state_dict(oracle.state_dict())  # strict: every name and shape agrees
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected, pyramid = oracle(images), ours(images)
    for level, features in zip(LEVELS, expected, strict=True):
        torch.testing.assert_close(pyramid[level], features)


@pytest.mark.parametrize("name", [f"tf_efficientnet_b{i}" for i in range(8)])
def test_state_has_the_names_and_shapes_of_timm(name: str) -> None:
    with torch.device("meta"):
        oracle = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))
        ours = build_backbone(name, levels=LEVELS)
    shapes = {key: tensor.shape for key, tensor in ours.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in oracle.state_dict().items()}


@pytest.mark.parametrize("name", GOLDEN["backbone_params"])
def test_parameters_are_the_published_ones_without_the_head_convolution(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, levels=LEVELS)
    assert sum(p.numel() for p in backbone.parameters()) == GOLDEN["backbone_params"][name]


@pytest.mark.parametrize("name", GOLDEN["backbone_channels"])
def test_channels_of_the_taps(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, levels=LEVELS)
    assert list(backbone.channels.values()) == GOLDEN["backbone_channels"][name]


@pytest.mark.parametrize("name", [*EFFICIENTNETS, "resnet50", "mobilenetv3_small_050"])
def test_every_level_has_its_channels_and_the_ceiling_of_its_share_of_pixels(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, levels=LEVELS)
        pyramid = backbone(torch.empty(2, 3, 520, 200))
    for level in LEVELS:
        height, width = -(-520 // 2**level), -(-200 // 2**level)
        assert pyramid[level].shape == (2, backbone.channels[level], height, width)


def test_stages_above_the_coarsest_level_are_not_built() -> None:
    with torch.device("meta"):
        backbone = EfficientNet(EfficientNetShape(width=1.0, depth=1.0), levels=(2, 3))
    assert len(backbone.blocks) == 3
    assert backbone.channels == {2: 24, 3: 40}


@pytest.mark.parametrize(("channels", "rounded"), [(9.6, 16), (32, 32), (44.8, 48), (6.4, 8), (27.0, 32)])
def test_widths_round_as_in_efficientnet(channels: float, rounded: int) -> None:
    # Tan and Le's round_filters: nearest multiple of 8, never below 90 %: 9.6 -> 8 < 8.64 -> 16
    assert round_channels(channels) == rounded


def test_fused_blocks_have_no_depthwise_convolution_and_no_silu() -> None:
    with torch.device("meta"):
        backbone = build_backbone("eseg_lite_s", levels=LEVELS)
    modules = list(backbone.modules())
    assert all(m.groups == 1 for m in modules if isinstance(m, torch.nn.Conv2d))
    assert not any(isinstance(m, torch.nn.SiLU) for m in modules)
    assert {m.kernel_size for m in modules if isinstance(m, torch.nn.Conv2d)} == {(1, 1), (3, 3), (5, 5)}


def test_unknown_backbone_names_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=r"efficientnet_b99.*neither.*timm"):
        build_backbone("efficientnet_b99", levels=LEVELS)


def test_network_without_a_level_says_which_strides_it_has() -> None:
    with pytest.raises(ValueError, match=r"no level \[2, 3, 5\].*strides \[16"):
        build_backbone("vit_tiny_patch16_224", levels=LEVELS)


def test_network_that_cuts_patches_refuses_sizes_it_would_crop() -> None:
    with torch.device("meta"):
        backbone = build_backbone("edgenext_xx_small", levels=LEVELS)
        assert backbone(torch.empty(1, 3, 64, 128))[5].shape[-2:] == (2, 4)
        with pytest.raises(ImageSizeError, match=r"100x128.*divisible by 32.*128x128"):
            backbone(torch.empty(1, 3, 100, 128))


def test_features_of_a_network_with_channels_last_are_turned() -> None:
    with torch.device("meta"):
        backbone = build_backbone("swin_tiny_patch4_window7_224", levels=LEVELS)
        pyramid = backbone(torch.empty(1, 3, 224, 224))
    assert pyramid[3].shape == (1, 192, 28, 28)
