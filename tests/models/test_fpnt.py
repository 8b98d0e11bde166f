"""FPNT, SenFormer's neck (Bousselham et al. 2021, Sec. 3.2 and Table 3)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segsweep.models.layers.window_attention import WindowBlock
from segsweep.models.necks.fpnt import FPNT, FPNTKind

WIDTHS = {2: 8, 3: 12, 4: 16, 5: 20}
RESNET50 = {2: 256, 3: 512, 4: 1024, 5: 2048}


def pyramid(height: int = 65, width: int = 97) -> dict[int, torch.Tensor]:
    torch.manual_seed(0)
    return {
        level: torch.randn(1, channels, -(-height // 2**level), -(-width // 2**level))
        for level, channels in WIDTHS.items()
    }


@pytest.mark.parametrize("kind", ["fpnt", "fpn", "none"])
def test_every_level_keeps_its_size_and_gets_the_width(kind: FPNTKind) -> None:
    neck = FPNT(WIDTHS, channels=16, num_heads=2, kind=kind)
    maps = pyramid()
    outputs = neck(maps)
    assert neck.channels == dict.fromkeys(WIDTHS, 16)
    for level, features in maps.items():
        assert outputs[level].shape == (1, 16, *features.shape[-2:])


def test_parameters_are_laterals_and_four_window_blocks() -> None:
    with torch.device("meta"):
        neck = FPNT(RESNET50)
    laterals = sum(width * 512 + 512 for width in RESNET50.values())
    assert sum(p.numel() for p in neck.parameters()) == laterals + 4 * 3_153_736


@pytest.mark.parametrize(
    ("kind", "below_fpnt"),
    # SenFormer R50: 55.24 M with FPNT, 52.07 M with FPN, 42.63 M without (counted from the paper's text)
    [("fpn", 55.24e6 - 52.07e6), ("none", 55.24e6 - 42.63e6)],
)
def test_parameters_of_the_ablation(kind: FPNTKind, below_fpnt: float) -> None:
    with torch.device("meta"):
        sizes = {k: sum(p.numel() for p in FPNT(RESNET50, kind=k).parameters()) for k in ("fpnt", kind)}
    assert sizes["fpnt"] - sizes[kind] == pytest.approx(below_fpnt, abs=1e4)


def test_a_level_holds_the_sum_of_all_coarser_ones() -> None:
    neck = FPNT(WIDTHS, channels=16, num_heads=2, kind="fpn")
    for level in WIDTHS:
        neck.outputs[str(level)] = nn.Identity()
    maps = pyramid()
    with torch.no_grad():
        outputs = neck(maps)
        moved = neck({**maps, 5: maps[5] + 1.0})
    shift = neck.laterals["5"].weight.sum((1, 2, 3))
    for level in WIDTHS:
        expected = shift[None, :, None, None].expand_as(outputs[level])
        torch.testing.assert_close(moved[level] - outputs[level], expected, rtol=1e-4, atol=1e-4)


def test_without_top_down_levels_do_not_mix() -> None:
    neck = FPNT(WIDTHS, channels=16, kind="none")
    maps = pyramid()
    with torch.no_grad():
        outputs, moved = neck(maps), neck({**maps, 5: maps[5] + 1.0})
    assert all(torch.equal(moved[level], outputs[level]) for level in (2, 3, 4))


def test_every_level_has_a_block_of_its_own_without_shift() -> None:
    neck = FPNT(WIDTHS, channels=16, num_heads=2, window=5)
    blocks = [module for module in neck.modules() if isinstance(module, WindowBlock)]
    assert [(b.window, b.shift) for b in blocks] == [(5, 0)] * 4
    assert all(not b.attn.relative_position_bias_table.any() for b in blocks)  # starts at zero


@pytest.mark.parametrize("kind", ["fpnt", "fpn", "none"])
def test_every_parameter_learns(kind: FPNTKind) -> None:
    neck = FPNT(WIDTHS, channels=16, num_heads=2, kind=kind)
    torch.stack([m.square().mean() for m in neck(pyramid()).values()]).sum().backward()
    assert [name for name, p in neck.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_compiles_without_a_break_and_runs_in_bfloat16() -> None:
    neck = FPNT(WIDTHS, channels=16, num_heads=2)
    maps = pyramid()
    expected = neck(maps)
    compiled = torch.compile(neck, fullgraph=True, backend="aot_eager")(maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = neck(maps)
    for level in WIDTHS:
        torch.testing.assert_close(compiled[level], expected[level])
        torch.testing.assert_close(rough[level].float(), expected[level], rtol=0.1, atol=0.1)
