"""Swin against timm's (where timm computes the same), ``nn.Unfold`` and published counts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from segsweep.models.backbones import SWINS, build_backbone
from segsweep.models.backbones.swin import PatchMerging, Swin, SwinShape
from segsweep.models.backbones.swin_weights import load_swin_weights
from segsweep.models.layers.transformer import DropPath
from segsweep.models.layers.window_attention import WindowBlock
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from timm.models.swin_transformer import SwinTransformer  # noqa: E402

LEVELS = (2, 3, 4, 5)
SMALL = SwinShape(dim=16, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=2)


def small_timm(size: tuple[int, int], window: int = 2) -> SwinTransformer:
    return SwinTransformer(
        img_size=size, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), window_size=window
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    # SenFormer's backbones, each with a layer norm on its four outputs
    [
        ("swin_tiny", 27_520_698),
        ("swin_small", 48_838_602),
        ("swin_base", 86_880_376),
        ("swin_large", 195_201_204),
    ],
)
def test_parameters_with_output_norms(name: str, expected: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, levels=LEVELS)
    assert sum(p.numel() for p in backbone.parameters()) == expected
    dim = SWINS[name].dim
    assert backbone.channels == {2: dim, 3: 2 * dim, 4: 4 * dim, 5: 8 * dim}


def test_computes_what_timm_computes_where_timm_neither_pads_nor_shrinks() -> None:
    size = (128, 192)  # maps from 32x48 to 4x6: multiples of the window and larger than it
    torch.manual_seed(0)
    oracle = small_timm(size).double().eval()
    ours = Swin(SMALL, levels=LEVELS).double().eval()
    unused = load_swin_weights(ours, oracle.state_dict(), origin="timm")
    assert unused == ["head.fc.bias", "head.fc.weight", "norm.bias", "norm.weight"]
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = oracle.forward_intermediates(images, intermediates_only=True)
        pyramid = ours(images)
    for level, features in zip(LEVELS, expected, strict=True):
        normed = F.layer_norm(features.permute(0, 2, 3, 1), (features.shape[1],)).permute(0, 3, 1, 2)
        torch.testing.assert_close(pyramid[level], normed, rtol=0, atol=1e-10)


def test_merging_orders_its_input_as_unfold_does() -> None:
    torch.manual_seed(0)
    merging = PatchMerging(3).double()
    tokens = torch.randn(2, 5, 7, 3, dtype=torch.float64)
    maps = F.pad(tokens.permute(0, 3, 1, 2), (0, 1, 0, 1))
    unfolded = F.unfold(maps, kernel_size=2, stride=2).transpose(1, 2).view(2, 3, 4, 12)
    torch.testing.assert_close(merging(tokens), merging.reduction(merging.norm(unfolded)))


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (130, 71)])
def test_every_level_has_the_ceiling_of_its_share_of_pixels(size: tuple[int, int]) -> None:
    model = build_backbone("swin_nano", levels=LEVELS)
    pyramid = model(torch.randn(2, 3, *size))
    assert model.strides == {2: 4, 3: 8, 4: 16, 5: 32}
    for level, features in pyramid.items():
        assert features.shape == (2, model.channels[level], *(math.ceil(n / 2**level) for n in size))


def test_stochastic_depth_grows_linearly_over_all_blocks() -> None:
    with torch.device("meta"):
        model = build_backbone("swin_tiny", levels=LEVELS)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx(torch.linspace(0, 0.3, 12).tolist())


def test_every_other_block_is_shifted_by_half_a_window_even_on_small_maps() -> None:
    with torch.device("meta"):
        model = build_backbone("swin_base", levels=LEVELS)
    blocks = [module for module in model.modules() if isinstance(module, WindowBlock)]
    assert [block.shift for block in blocks] == [0, 6] * 12
    assert {block.window for block in blocks} == {12}


@pytest.mark.parametrize("levels", [(2, 3, 4, 5), (2, 4), (3,)])
def test_every_parameter_is_used_whatever_the_levels(levels: tuple[int, ...]) -> None:
    model = build_backbone("swin_nano", levels=levels).train()
    pyramid = model(torch.randn(2, 3, 65, 97))
    assert tuple(pyramid) == levels
    torch.stack([features.pow(3).mean() for features in pyramid.values()]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_level_that_swin_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no levels \(1, 2\); choose among \(2, 3, 4, 5\)"):
        build_backbone("swin_nano", levels=(1, 2))


@pytest.mark.parametrize("training", [False, True])
def test_compiles_without_a_break(training: bool) -> None:
    torch.manual_seed(0)
    model = build_backbone("swin_nano", levels=LEVELS).train(training)
    images = torch.randn(1, 3, 65, 97)
    expected = model(images)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(images)
    for level in LEVELS:
        torch.testing.assert_close(compiled[level], expected[level], rtol=1e-4, atol=1e-4)


def test_runs_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = build_backbone("swin_nano", levels=LEVELS)
    images = torch.randn(1, 3, 65, 97)
    expected = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(images)
        torch.stack([features.float().mean() for features in rough.values()]).sum().backward()
    for level in LEVELS:
        torch.testing.assert_close(rough[level].float(), expected[level], rtol=0.1, atol=0.1)
