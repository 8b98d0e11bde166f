"""Necks and head against direct formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.heads.weighted_sum import WeightedSumHead
from segsweep.models.layers.conv import SameConv2d, conv
from segsweep.models.necks.bifpn import BiFPN
from segsweep.models.necks.extra_levels import PooledLevels
from segsweep.models.necks.fpn import FPN

SIZES = {2: (33, 35), 3: (17, 18), 4: (9, 9), 5: (5, 5)}


def pyramid(channels: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {level: torch.randn(2, channels, *size, generator=generator) for level, size in SIZES.items()}


def randomised(module: nn.Module) -> nn.Module:
    """Random norms and weights, so that no two inputs of a node are interchangeable."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.2)
    return module.eval()


def node(module: nn.Module, inputs: list[Tensor]) -> Tensor:
    """EfficientDet, Sec. 3.3, with equal sizes, then SiLU, depthwise, pointwise, norm: written out."""
    weights = module.weights.clamp(min=0)
    fused = sum(w * x for w, x in zip(weights, inputs, strict=True)) / (weights.sum() + 1e-4)
    depthwise, pointwise, norm = module.conv
    out = F.conv2d(fused * fused.sigmoid(), depthwise.weight, padding=1, groups=fused.shape[1])
    out = F.conv2d(out, pointwise.weight, pointwise.bias)
    return norm(out)


def test_bifpn_layer_follows_the_equations_of_efficientdet() -> None:
    bifpn = randomised(BiFPN(dict.fromkeys(SIZES, 8), channels=8, repeats=1))
    inputs = pyramid(8)
    x = {level: bifpn.laterals[str(level)](features) for level, features in inputs.items()}
    layer = bifpn.layers[0]

    def up(features: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(features, size=like.shape[-2:], mode="nearest")

    def down(features: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(features, (1, 1, 1, 1), value=float("-inf")), 3, 2)

    td4 = node(layer.top_down["4"], [x[4], up(x[5], x[4])])
    td3 = node(layer.top_down["3"], [x[3], up(td4, x[3])])
    out2 = node(layer.top_down["2"], [x[2], up(td3, x[2])])
    out3 = node(layer.bottom_up["3"], [x[3], td3, down(out2)])
    out4 = node(layer.bottom_up["4"], [x[4], td4, down(out3)])
    out5 = node(layer.bottom_up["5"], [x[5], down(out4)])
    actual = bifpn(inputs)
    for level, expected in {2: out2, 3: out3, 4: out4, 5: out5}.items():
        torch.testing.assert_close(actual[level], expected)


def test_bifpn_has_two_nodes_a_level_but_the_ends_and_one_lateral_a_level() -> None:
    bifpn = BiFPN({2: 4, 3: 5, 4: 6, 5: 7}, channels=8, repeats=3)
    assert len(bifpn.laterals) == 4
    assert [len(layer.top_down) + len(layer.bottom_up) for layer in bifpn.layers] == [2 * (4 - 1)] * 3


def test_a_negative_fusion_weight_switches_its_input_off() -> None:
    bifpn = randomised(BiFPN({2: 4, 3: 4}, channels=8, repeats=1))
    with torch.no_grad():
        bifpn.layers[0].top_down["2"].weights.copy_(torch.tensor([1.0, -1.0]))
    inputs = {level: features[:, :4] for level, features in pyramid(4).items() if level < 4}
    changed = inputs | {3: inputs[3] + 1}
    assert torch.equal(bifpn(inputs)[2], bifpn(changed)[2])


def test_fpn_adds_coarser_levels_and_smooths() -> None:
    fpn = randomised(FPN({2: 6, 3: 6}, channels=8))
    inputs = {level: features for level, features in pyramid(6).items() if level < 4}
    lateral = {level: fpn.laterals[str(level)](inputs[level]) for level in inputs}
    merged = lateral[2] + F.interpolate(lateral[3], size=lateral[2].shape[-2:], mode="nearest")
    torch.testing.assert_close(fpn(inputs)[2], fpn.outputs["2"](merged))
    torch.testing.assert_close(fpn(inputs)[3], fpn.outputs["3"](lateral[3]))


def test_pooled_levels_average_three_by_three_windows_without_the_padding() -> None:
    top = torch.arange(20.0).reshape(1, 1, 4, 5)
    pooled = PooledLevels({5: 1}, top_level=6)({5: top})[6]
    expected = torch.zeros(1, 1, 2, 3)
    for i in range(2):
        for j in range(3):
            rows, columns = slice(max(2 * i - 1, 0), 2 * i + 2), slice(max(2 * j - 1, 0), 2 * j + 2)
            expected[0, 0, i, j] = top[0, 0, rows, columns].mean()
    torch.testing.assert_close(pooled, expected)


def test_pooled_levels_keep_the_backbone_levels_and_have_no_parameters() -> None:
    levels = PooledLevels({4: 3, 5: 7}, top_level=8)
    assert levels.channels == {4: 3, 5: 7, 6: 7, 7: 7, 8: 7}
    assert list(levels.parameters()) == []


def test_level_weights_are_shares_that_start_equal() -> None:
    head = WeightedSumHead(range(2, 6), channels=8, num_classes=3)
    assert [w.item() for w in head.level_weights().values()] == pytest.approx([0.25] * 4)
    with torch.no_grad():
        head.level_scores.copy_(torch.tensor([0.0, 3.0, -1.0, 0.5]))
    assert sum(w.item() for w in head.level_weights().values()) == pytest.approx(1.0)


def test_head_with_constant_weights_equals_the_learned_one() -> None:
    head = randomised(WeightedSumHead(SIZES, channels=8, num_classes=3))
    inputs = pyramid(8)
    shares = [w.item() for w in head.level_weights().values()]
    size = inputs[2].shape[-2:]
    total = sum(
        share * F.interpolate(inputs[level], size=size, mode="bilinear", align_corners=False)
        for share, level in zip(shares, SIZES, strict=True)
    )
    expected = head.classifier(F.silu(head.conv(total)))
    torch.testing.assert_close(head(inputs), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pixels", [7, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_tensorflow_padding_puts_the_odd_pixel_last(pixels: int, kernel: int) -> None:
    layer = conv(1, 1, kernel, stride=2, tf_same=True)
    assert isinstance(layer, SameConv2d)
    total = (-(-pixels // 2) - 1) * 2 + kernel - pixels
    padded = F.pad(torch.ones(1, 1, pixels, pixels), (total // 2, total - total // 2) * 2)
    expected = F.conv2d(padded, layer.weight, stride=2)
    torch.testing.assert_close(layer(torch.ones(1, 1, pixels, pixels)), expected)


def test_convolutions_start_with_variance_two_over_fan_out() -> None:
    torch.manual_seed(0)
    assert conv(64, 128, 3).weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert conv(512, 512, 5, groups=512).weight.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.05)
