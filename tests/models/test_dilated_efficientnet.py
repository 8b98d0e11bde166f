"""EfficientNet with atrous convolutions against timm's."""

from __future__ import annotations

import pytest
import torch

from segsweep.models.backbones import EFFICIENTNETS, build_backbone
from segsweep.models.backbones.efficientnet import EfficientNet
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402

LEVELS = (2, 3, 4, 5)


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("size", [(64, 96), (65, 79)])
def test_computes_what_timm_computes_at_the_same_output_stride(
    output_stride: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    oracle = timm.create_model(
        "tf_efficientnet_b0", features_only=True, out_indices=(1, 2, 3, 4), output_stride=output_stride
    ).eval()
    ours = build_backbone("tf_efficientnet_b0", levels=LEVELS, output_stride=output_stride).eval()
    ours.load_state_dict(oracle.state_dict())
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected, pyramid = oracle(images), ours(images)
    for level, features in zip(LEVELS, expected, strict=True):
        torch.testing.assert_close(pyramid[level], features)


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "eseg_lite_s", "efficientnet_tiny"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_levels_have_the_pixels_of_their_stride_and_the_parameters_do_not_change(
    name: str, output_stride: int
) -> None:
    with torch.device("meta"):
        plain = build_backbone(name, levels=LEVELS)
        dilated = build_backbone(name, levels=LEVELS, output_stride=output_stride)
        pyramid = dilated(torch.empty(1, 3, 65, 97))
    assert dilated.strides == {2: 4, 3: 8, 4: min(16, output_stride), 5: output_stride}
    for level, stride in dilated.strides.items():
        assert pyramid[level].shape == (1, dilated.channels[level], -(-65 // stride), -(-97 // stride))
    shapes = {key: tensor.shape for key, tensor in dilated.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in plain.state_dict().items()}


def test_an_impossible_output_stride_is_refused() -> None:
    with pytest.raises(ValueError, match=r"output_stride=4 .*8, 16, 32"):
        EfficientNet(EFFICIENTNETS["efficientnet_tiny"], levels=LEVELS, output_stride=4)
