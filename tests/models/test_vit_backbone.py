"""ViT, DeiT and BEiT against timm, and what sharing does to BEiT's relative positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segsweep.models.backbones.beit import Beit, BeitShape, offset_rows
from segsweep.models.backbones.vit import ViT, ViTShape, resize_positions
from segsweep.models.layers.superpatches import (
    representatives,
    select_superpatches,
    superpatch_members,
)
from segsweep.models.token_weights import load_timm_weights
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from timm.models.beit import Beit as TimmBeit  # noqa: E402
from timm.models.beit import gen_relative_position_index  # noqa: E402
from timm.models.deit import VisionTransformerDistilled  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

SIZE, GRID = (64, 96), (4, 6)
VIT = ViTShape(dim=48, depth=3, heads=3)
BEIT = BeitShape(dim=48, depth=3, heads=3)
EPS = 1e-6  # timm's


def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def shaken(model: nn.Module) -> nn.Module:
    """Initial zeros and tiny weights would hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def timm_vit(*, distilled: bool = False) -> nn.Module:
    kind = VisionTransformerDistilled if distilled else VisionTransformer
    return shaken(kind(img_size=SIZE, embed_dim=48, depth=3, num_heads=3, num_classes=7))


def timm_beit() -> nn.Module:
    kinds = {"use_abs_pos_emb": False, "use_rel_pos_bias": True, "init_values": 0.1}
    return shaken(TimmBeit(img_size=SIZE, embed_dim=48, depth=3, num_heads=3, **kinds))


@pytest.mark.parametrize("distilled", [False, True])
def test_vit_is_timms(distilled: bool) -> None:
    theirs = timm_vit(distilled=distilled)
    shape = ViTShape(dim=48, depth=3, heads=3, distilled=distilled)
    ours = ViT(shape, grid=GRID, eps=EPS).eval()
    unused = load_timm_weights(ours, theirs.state_dict(), grid=GRID)
    assert {name.split(".")[0] for name in unused} == ({"head", "head_dist"} if distilled else {"head"})
    with torch.no_grad():
        expected = theirs.forward_features(images())[:, 1 + distilled :]
        torch.testing.assert_close(ours(images())[2], expected, rtol=1e-5, atol=1e-5)


def test_taps_give_the_blocks_and_the_norm_sees_the_last_alone() -> None:
    ours = shaken(ViT(VIT, grid=GRID, taps=(0, 2)))
    bare = ViT(VIT, grid=GRID, taps=(0, 2), final_norm=False).eval()
    bare.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith("norm.")})
    with torch.no_grad():
        given, raw = ours(images()), bare(images())
        assert list(given) == [0, 2]
        assert torch.equal(given[0], raw[0])
        torch.testing.assert_close(given[2], ours.norm(raw[2]))


@pytest.mark.parametrize("taps", [(0,), (2, 0), (0, 0, 2), (-1, 2), (0, 3)])
def test_taps_that_do_not_end_with_the_last_block_are_refused(taps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending blocks from 0 that end with 2"):
        ViT(VIT, grid=GRID, taps=taps)


def test_positions_of_another_grid_are_resized_bilinearly() -> None:
    ours = shaken(ViT(VIT, grid=GRID))
    maps = ours.pos_embed[:, 1:].transpose(1, 2).unflatten(2, GRID)
    expected = nn.functional.interpolate(maps, size=(8, 10), mode="bilinear", align_corners=False)
    assert torch.equal(ours.positions((8, 10)), expected.flatten(2).transpose(1, 2))
    assert torch.equal(ours.positions(GRID), ours.pos_embed[:, 1:])
    assert resize_positions(ours.pos_embed[:, 1:], GRID, (2, 2)).shape == (1, 4, 48)


def test_weights_of_another_size_keep_class_token_and_resize_the_rest() -> None:
    theirs = timm_vit()
    ours = ViT(VIT, grid=(2, 4))
    load_timm_weights(ours, theirs.state_dict(), grid=GRID)
    theirs_positions = theirs.state_dict()["pos_embed"]
    assert torch.equal(ours.pos_embed[:, :1], theirs_positions[:, :1])
    torch.testing.assert_close(ours.pos_embed[:, 1:], resize_positions(theirs_positions[:, 1:], GRID, (2, 4)))


def test_weights_of_another_network_are_refused() -> None:
    state = timm_vit().state_dict()
    with pytest.raises(ValueError, match="another network"):
        load_timm_weights(ViT(ViTShape(dim=24, depth=3, heads=3), grid=GRID), state, grid=GRID)
    with pytest.raises(ValueError, match=r"lack 12 of \d+ tensors, blocks\.3"):
        load_timm_weights(ViT(ViTShape(dim=48, depth=4, heads=3), grid=GRID), state, grid=GRID)
    with pytest.raises(ValueError, match="make no square"):
        load_timm_weights(ViT(VIT, grid=GRID), state)


def test_beit_is_timms() -> None:
    theirs = timm_beit()
    ours = Beit(BEIT, grid=GRID, eps=EPS).eval()
    load_timm_weights(ours, theirs.state_dict(), grid=GRID)
    with torch.no_grad():
        expected = theirs.forward_features(images())[:, 1:]
        torch.testing.assert_close(ours(images())[2], expected, rtol=1e-5, atol=1e-5)


def test_rows_of_the_bias_table_are_timms() -> None:
    places = torch.arange(24)[None]
    assert torch.equal(offset_rows(places, GRID)[0], gen_relative_position_index(GRID))


def test_rows_of_shared_tokens_are_those_of_their_representatives() -> None:
    selection = select_superpatches(torch.randn(2, 6), 2, GRID)
    places = representatives(selection, GRID)
    everything = gen_relative_position_index(GRID)
    for image in range(2):
        chosen = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + places[image]])  # class token first
        assert torch.equal(offset_rows(places, GRID)[image], everything[chosen][:, chosen])


def test_mean_representative_averages_the_biases_of_the_patches() -> None:
    ours = shaken(Beit(BEIT, grid=GRID, representative="mean"))
    selection = select_superpatches(torch.randn(1, 6), 2, GRID)
    block = ours.blocks[0]
    bias = ours._bias(block, ours._context(GRID, selection), None)[0]
    full = block.attn.relative_position_bias_table[gen_relative_position_index(GRID)].permute(2, 0, 1)
    members = superpatch_members(GRID)
    groups = [[0], *([1 + p] for p in selection.kept[0].tolist())]
    groups += [(1 + members[block]).tolist() for block in selection.shared[0].tolist()]
    for row, first in enumerate(groups):
        for column, second in enumerate(groups):
            expected = full[:, first][:, :, second].mean((1, 2))
            torch.testing.assert_close(bias[:, row, column], expected)


def test_beit_biases_of_another_grid_keep_their_direction() -> None:
    ours = Beit(BEIT, grid=GRID)
    attention = ours.blocks[0].attn
    with torch.no_grad():
        down = torch.linspace(-1, 1, 7)[:, None].expand(7, 11).reshape(77, 1)
        attention.relative_position_bias_table[:-3] = down
        table = attention.table((8, 10))[:-3].view(15, 19, 3)
    torch.testing.assert_close(table, table[:, :1].expand_as(table))
    assert (table[1:, 0] >= table[:-1, 0]).all()
    assert table[7, 0, 0] == pytest.approx(0, abs=1e-6)
