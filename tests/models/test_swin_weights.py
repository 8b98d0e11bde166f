"""Loading of other code bases' Swin weights."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from segsweep.models.backbones.swin import Swin, SwinShape
from segsweep.models.backbones.swin_weights import load_swin_weights
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from timm.models.swin_transformer import SwinTransformer  # noqa: E402

LEVELS = (2, 3, 4, 5)
SHAPE = SwinShape(dim=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=2)


def timm_state(window: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model = SwinTransformer(
        img_size=(128, 192), embed_dim=8, depths=SHAPE.depths, num_heads=SHAPE.heads, window_size=window
    )
    return dict(model.state_dict())


def microsoft_state() -> dict[str, Tensor]:
    """As the official checkpoints: merging ends a stage; indices and masks are saved."""
    renamed = {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name): value
        for name, value in timm_state().items()
    }
    renamed["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
    renamed["layers.2.blocks.1.attn_mask"] = torch.zeros(6, 4, 4)
    return renamed


def mmseg_state(model: Swin) -> dict[str, Tensor]:
    """The names of an mmsegmentation segmentor; its layout is ours."""
    renames = (
        (r"patch_embed\.proj\.", "patch_embed.projection."),
        (r"\.attn\.", ".attn.w_msa."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    )
    state = {}
    for name, value in model.state_dict().items():
        theirs = re.sub(r"^norms\.(\d)", lambda m: f"norm{int(m[1]) - 2}", name)
        for pattern, replacement in renames:
            theirs = re.sub(pattern, replacement, theirs)
        state[f"backbone.{theirs}"] = value
    return state


def test_official_and_timm_names_give_the_same_model() -> None:
    first, second = Swin(SHAPE, levels=LEVELS), Swin(SHAPE, levels=LEVELS)
    classifier = ["head.fc.bias", "head.fc.weight", "norm.bias", "norm.weight"]
    assert load_swin_weights(first, timm_state(), origin="timm") == classifier
    assert load_swin_weights(second, microsoft_state(), origin="microsoft") == classifier
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_segmentors_weights_load_with_their_output_norms() -> None:
    torch.manual_seed(2)
    model = Swin(SHAPE, levels=LEVELS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    loaded = Swin(SHAPE, levels=LEVELS)
    state = mmseg_state(model) | {"decode_head.conv_seg.weight": torch.zeros(1)}
    assert load_swin_weights(loaded, state, origin="mmseg") == ["decode_head.conv_seg.weight"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_a_missing_weight_is_named() -> None:
    state = timm_state()
    del state["layers.2.blocks.1.mlp.fc1.weight"]
    with pytest.raises(ValueError, match=r"lack 1 of \d+ tensors, stages\.2\.blocks\.1\.mlp\.fc1\.weight"):
        load_swin_weights(Swin(SHAPE, levels=LEVELS), state, origin="timm")


def test_missing_output_norms_are_named_if_others_are_there() -> None:
    model = Swin(SHAPE, levels=LEVELS)
    state = mmseg_state(model)
    del state["backbone.norm2.bias"]
    with pytest.raises(ValueError, match=r"lack 1 of \d+ tensors, norms\.4\.bias"):
        load_swin_weights(model, state, origin="mmseg")


def test_weights_of_another_origin_are_refused() -> None:
    with pytest.raises(ValueError, match="check the origin"):
        load_swin_weights(Swin(SHAPE, levels=LEVELS), mmseg_state(Swin(SHAPE, levels=LEVELS)), origin="timm")


def test_another_window_is_refused_unless_resizing_is_asked_for() -> None:
    model = Swin(SHAPE, levels=LEVELS)
    with pytest.raises(ValueError, match=r"\(25, 1\).*\(9, 1\).*resize_bias=True"):
        load_swin_weights(model, timm_state(window=3), origin="timm")
    load_swin_weights(model, timm_state(window=3), origin="timm", resize_bias=True)


def test_resizing_keeps_the_direction_of_a_bias() -> None:
    model = Swin(SHAPE, levels=LEVELS)
    state = timm_state(window=3)
    down = torch.linspace(-1, 1, 5)[:, None].expand(5, 5).reshape(25, 1)
    state["layers.0.blocks.0.attn.relative_position_bias_table"] = down
    load_swin_weights(model, state, origin="timm", resize_bias=True)
    table = model.stages[0].blocks[0].attn.relative_position_bias_table.detach().view(3, 3)
    torch.testing.assert_close(table, table[:, :1].expand(3, 3))  # still the same in each row
    assert (table[1:, 0] > table[:-1, 0]).all()


def test_fewer_levels_leave_the_stages_above_unused() -> None:
    unused = load_swin_weights(Swin(SHAPE, levels=(2, 3)), timm_state(), origin="timm")
    assert {name.split(".blocks")[0] for name in unused if ".blocks" in name} == {"layers.2", "layers.3"}
