"""Parts of HFGD: semantic pyramids, deformable convolution, FaPN."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.heads.fapn import FaPN, FeatureAlignment, FeatureSelection
from segsweep.models.heads.semantic_fpn import SemanticFPN
from segsweep.models.heads.upsamplers import build_upsampler
from segsweep.models.layers.deform_conv import DeformConv2d


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pyramid_of(size: tuple[int, int], channels: dict[int, int]) -> dict[int, Tensor]:
    torch.manual_seed(0)
    return {
        level: torch.randn(2, width, *(math.ceil(pixels / 2**level) for pixels in size))
        for level, width in channels.items()
    }


# Exact sizes: HFGD specification, U-SFPN on ResNet-50 taps 256/512/1024, 256 wide.
@pytest.mark.parametrize(("output_stride", "expected"), [(4, 8_328_704), (2, 10_690_048)])
def test_usfpn_has_exactly_the_expected_parameters(output_stride: int, expected: int) -> None:
    with torch.device("meta"):
        head = SemanticFPN({2: 256, 3: 512, 4: 1024}, top_channels=256, output_stride=output_stride)  # type: ignore[arg-type]
    assert num_params(head) == expected


def test_sfpn_differs_from_usfpn_by_the_kernels_of_its_laterals_alone() -> None:
    with torch.device("meta"):
        usfpn = SemanticFPN({2: 256, 3: 512, 4: 1024}, top_channels=256, lateral_kernel=3)
        sfpn = SemanticFPN({2: 256, 3: 512, 4: 1024}, top_channels=256, lateral_kernel=1)
    assert num_params(usfpn) - num_params(sfpn) == (9 - 1) * (256 + 512 + 1024) * 256


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (520, 72)])
def test_stride_2_output_has_half_of_the_image_rounded_up(size: tuple[int, int]) -> None:
    pyramid = pyramid_of(size, {2: 4, 3: 8, 4: 12, 5: 16})
    head = SemanticFPN({2: 4, 3: 8, 4: 12}, top_channels=16, channels=16, output_stride=2)
    half = tuple(math.ceil(pixels / 2) for pixels in size)
    assert head(pyramid, pyramid[5], size=half).shape == (2, 16, *half)


def test_stride_4_output_stands_at_the_finest_level() -> None:
    pyramid = pyramid_of((65, 97), {2: 4, 3: 8, 4: 12, 5: 16})
    head = SemanticFPN({2: 4, 3: 8, 4: 12}, top_channels=16, channels=16)
    assert head(pyramid, pyramid[5]).shape == (2, 16, 17, 25)


def test_semantic_fpn_is_the_written_out_formula() -> None:
    pyramid = pyramid_of((64, 96), {2: 4, 3: 8, 4: 12, 5: 16})
    head = SemanticFPN({2: 4, 3: 8, 4: 12}, top_channels=16, channels=16).eval()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    up = lambda x, y: F.interpolate(x, size=y.shape[2:], mode="bilinear")  # noqa: E731
    p2, p3, p4, top = pyramid[2], pyramid[3], pyramid[4], pyramid[5]
    m4 = head.laterals["4"](p4) + up(top, p4)
    m3 = head.laterals["3"](p3) + up(m4, p3)
    m2 = head.laterals["2"](p2) + up(m3, p2)
    b2, b3, b4, b5 = (head.merge.branches[str(level)] for level in (2, 3, 4, 5))
    total = (
        b2[0](m2)
        + up(b3[0](m3), p2)
        + up(b4[1](up(b4[0](m4), p3)), p2)
        + up(b5[2](up(b5[1](up(b5[0](top), p4)), p3)), p2)
    )
    torch.testing.assert_close(head(pyramid, top), head.merge.fuse(total))


def test_an_output_stride_beside_the_pyramid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"output_stride=8 .* \(4\) nor half of it \(2\)"):
        SemanticFPN({2: 4, 3: 4, 4: 4}, top_channels=4, channels=4, output_stride=8)  # type: ignore[arg-type]


def bilinear_at(image: Tensor, y: float, x: float) -> float:
    """Value of ``(h, w)`` between its pixels; zero outside."""
    height, width = image.shape
    top, left = math.floor(y), math.floor(x)
    value = 0.0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            value += float(image[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def brute_force(layer: DeformConv2d, features: Tensor, offsets: Tensor, modulation: Tensor | None) -> Tensor:
    batch, channels, height, width = features.shape
    kernel, groups = layer.kernel, layer.offset_groups
    output = torch.zeros(batch, layer.weight.shape[0], height, width, dtype=features.dtype)
    for b in range(batch):
        for c in range(channels):
            group = c // (channels // groups)
            for tap in range(kernel**2):
                index = group * kernel**2 + tap
                for i in range(height):
                    for j in range(width):
                        y = i + tap // kernel - kernel // 2 + float(offsets[b, 2 * index, i, j])
                        x = j + tap % kernel - kernel // 2 + float(offsets[b, 2 * index + 1, i, j])
                        value = bilinear_at(features[b, c], y, x)
                        if modulation is not None:
                            value *= float(modulation[b, index, i, j])
                        output[b, :, i, j] += layer.weight[:, c, tap // kernel, tap % kernel] * value
    return output


@pytest.mark.parametrize(
    ("groups", "modulated", "size"), [(1, False, (5, 4)), (2, True, (4, 5)), (4, True, (1, 3))]
)
def test_deformable_convolution_is_the_sum_over_displaced_taps(
    groups: int, modulated: bool, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = DeformConv2d(4, 3, offset_groups=groups).double()
    features = torch.randn(2, 4, *size, dtype=torch.float64)
    offsets = 2 * torch.randn(2, layer.num_offsets, *size, dtype=torch.float64)  # some leave the image
    modulation = torch.rand(2, layer.num_modulations, *size, dtype=torch.float64) if modulated else None
    with torch.no_grad():
        actual = layer(features, offsets, modulation)
        expected = brute_force(layer, features, offsets, modulation)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_deformable_convolution_without_offsets_is_a_convolution() -> None:
    torch.manual_seed(0)
    layer = DeformConv2d(6, 5, offset_groups=3).double()
    features = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    offsets = torch.zeros(2, layer.num_offsets, 7, 9, dtype=torch.float64)
    expected = F.conv2d(features, layer.weight, padding=1)
    torch.testing.assert_close(layer(features, offsets), expected, rtol=0, atol=1e-12)


def test_gradients_of_the_deformable_convolution_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = DeformConv2d(2, 2).double()
    inputs = [torch.randn(1, 2, 3, 3), 0.3 + 0.2 * torch.rand(1, 18, 3, 3), torch.rand(1, 9, 3, 3)]
    inputs = [
        value.double().requires_grad_() for value in inputs
    ]  # offsets far from the kinks at whole pixels
    assert torch.autograd.gradcheck(layer, inputs)


def test_positions_stay_exact_when_the_features_are_bfloat16() -> None:
    # A shift of 0.5 pixel at column 300: bfloat16 would round the place to a multiple of 2.
    layer = DeformConv2d(1, 1, kernel=1)
    nn.init.ones_(layer.weight)
    ramp = torch.arange(512.0).expand(1, 1, 2, 512)
    offsets = torch.zeros(1, 2, 2, 512)
    offsets[:, 1] = 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shifted = layer((ramp % 2).bfloat16(), offsets.bfloat16())
    torch.testing.assert_close(shifted[..., :-1].float(), torch.full((1, 1, 2, 511), 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": 2}, "kernel=2 is even"),
        ({"offset_groups": 3}, "offset_groups=3 does not divide in_channels=4"),
    ],
)
def test_impossible_deformable_convolutions_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeformConv2d(4, 4, **arguments)


def test_selection_gate_of_zero_weights_keeps_one_and_a_half_of_the_input() -> None:
    # FaPN: x + sigmoid(0) x, then the reduction
    selection = FeatureSelection(6, 4).eval()
    nn.init.zeros_(selection.gate.weight)
    nn.init.zeros_(selection.gate.bias)
    features = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(selection(features), selection.reduce(1.5 * features))


def test_alignment_with_zero_offsets_halves_an_ordinary_convolution() -> None:
    alignment = FeatureAlignment(8).eval()
    for layer in (alignment.offsets, alignment.modulation):
        nn.init.zeros_(layer.weight)
    selected, upper = torch.randn(2, 8, 5, 7), torch.randn(2, 8, 5, 7)
    expected = F.relu(F.conv2d(upper, alignment.sample.weight, padding=1) / 2)  # sigmoid(0) modulates
    torch.testing.assert_close(alignment(selected, upper), expected)


@pytest.mark.parametrize("kind", ["sfpn", "usfpn", "fapn", "uper", "deeplab"])
def test_every_upsampler_gives_a_fine_feature_of_the_top_width(kind: str) -> None:
    pyramid = pyramid_of((65, 97), {2: 4, 3: 8, 4: 12, 5: 16})
    upsampler = build_upsampler(kind, {2: 4, 3: 8, 4: 12}, channels=16)  # type: ignore[arg-type]
    assert upsampler is not None
    assert upsampler(pyramid, pyramid[5], size=(17, 25)).shape == (2, 16, 17, 25)


def test_fapn_gradient_reaches_every_parameter() -> None:
    pyramid = pyramid_of((64, 96), {2: 4, 3: 8, 4: 12, 5: 16})
    head = FaPN({2: 4, 3: 8, 4: 12}, top_channels=8, channels=16)
    head(pyramid, pyramid[5][:, :8]).square().sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []
