"""The ResNets that MaskFormer is published with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segsweep.models.backbones.multi_grid_resnet import MultiGridResNet
from segsweep.models.backbones.timm_features import TimmFeatures
from segsweep.models.layers.frozen_norm import FrozenBatchNorm2d, freeze_batch_norms

LEVELS = (2, 3, 4, 5)


def test_resnet_101c_has_a_wide_stem_and_a_multi_grid_at_stride_32() -> None:
    with torch.device("meta"):
        model = MultiGridResNet("resnet101c_multigrid", levels=LEVELS)
        plain = TimmFeatures("resnet101s", levels=LEVELS)
    stem = [m.out_channels for m in model.features["conv1"] if isinstance(m, nn.Conv2d)]
    assert stem == [64, 64, 128]
    dilations = [block.conv2.dilation for block in model.features["layer4"]]
    assert dilations == [(1, 1), (2, 2), (4, 4)]
    assert model.strides == {2: 4, 3: 8, 4: 16, 5: 32}
    pyramid, plainer = (net(torch.empty(1, 3, 65, 97, device="meta")) for net in (model, plain))
    assert {level: f.shape for level, f in pyramid.items()} == {
        level: f.shape for level, f in plainer.items()
    }
    assert pyramid[5].shape == (1, 2048, 3, 4)


def test_levels_below_the_multi_grid_need_none() -> None:
    with torch.device("meta"):
        assert MultiGridResNet("resnet101c_multigrid", levels=(2, 3)).channels == {2: 256, 3: 512}


def test_unknown_multi_grid_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="resnet101c_multigrid"):
        MultiGridResNet("resnet50", levels=LEVELS)


def test_frozen_norms_compute_what_the_norms_compute_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    model(torch.randn(2, 3, 8, 8))  # statistics
    nn.init.normal_(model[1][0].weight)
    images = torch.randn(2, 3, 8, 8)
    expected = model.eval()(images)
    state = model.state_dict()
    assert freeze_batch_norms(model) == 1
    torch.testing.assert_close(model.train()(images), expected)
    assert isinstance(model[1][0], FrozenBatchNorm2d)
    assert not list(model[1].parameters())
    model.load_state_dict(state, strict=True)  # of a network whose norms are not frozen
    model.load_state_dict(model.state_dict(), strict=True)


def test_norms_with_an_activation_of_their_own_are_not_frozen() -> None:
    class Activated(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="cannot freeze '0', a Activated"):
        freeze_batch_norms(nn.Sequential(Activated(3)))
