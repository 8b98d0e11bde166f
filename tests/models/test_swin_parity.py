"""Swin against transformers' at sizes that nothing divides, in float64.

``SwinBackbone`` pads before it rolls and keeps window and shift on small maps, as ours. Named deviations of
transformers, worked around: its eager attention takes the softmax in float32, so ``sdpa`` is asked for;
query, key and value are three layers; merged tokens are in the official order (column, row, channel); and it
leaves out only the attention branch in stochastic depth, so evaluation mode is compared.
"""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from segsweep.models.backbones.swin import Swin, SwinShape
from segsweep.models.backbones.swin_weights import load_swin_weights
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from transformers import SwinBackbone, SwinConfig  # noqa: E402

LEVELS = (2, 3, 4, 5)
SHAPE = SwinShape(dim=16, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=7)
RENAMES = (
    (r"^swin\.", ""),
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^embeddings\.norm", "patch_embed.norm"),
    (r"^encoder\.", ""),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.relative_position_bias\.", ".attn."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
    (r"^hidden_states_norms\.stage(\d)", lambda stage: f"norm{int(stage[1]) - 1}"),
)


def transformers_swin() -> SwinBackbone:
    config = SwinConfig(
        embed_dim=SHAPE.dim,
        depths=list(SHAPE.depths),
        num_heads=list(SHAPE.heads),
        window_size=SHAPE.window,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        attn_implementation="sdpa",
    )
    model = SwinBackbone(config).double().eval()
    torch.manual_seed(0)
    for parameter in model.parameters():  # biases, norms and tables, too
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def official_state(model: SwinBackbone) -> dict[str, Tensor]:
    """Names and layout of the official checkpoints."""
    state = {}
    for name, value in model.state_dict().items():
        theirs = name
        if match := re.fullmatch(r"(.*)\.attention\.q_proj\.(weight|bias)", name):
            parts = (f"{match[1]}.attention.{part}_proj.{match[2]}" for part in "qkv")
            value = torch.cat([model.state_dict()[part] for part in parts])  # noqa: PLW2901
            theirs = f"{match[1]}.attn.qkv.{match[2]}"
        elif re.search(r"\.[kv]_proj\.", name):
            continue
        for pattern, replacement in RENAMES:
            theirs = re.sub(pattern, replacement, theirs)
        state[theirs] = value
    return state


# maps of 17x25, 9x13, 5x7, 3x4: padded by odd numbers, and smaller than the window; then a size below 64
@pytest.mark.parametrize("size", [(65, 97), (130, 71), (64, 96), (57, 33)])
def test_computes_what_transformers_computes(size: tuple[int, int]) -> None:
    oracle = transformers_swin()
    ours = Swin(SHAPE, levels=LEVELS).double().eval()
    unused = load_swin_weights(ours, official_state(oracle), origin="microsoft")
    assert unused == ["norm.bias", "norm.weight"]
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected, pyramid = oracle(images).feature_maps, ours(images)
    for level, features in zip(LEVELS, expected, strict=True):
        torch.testing.assert_close(pyramid[level], features, rtol=0, atol=1e-10)


def test_gradients_are_those_of_transformers() -> None:
    oracle = transformers_swin()
    ours = Swin(SHAPE, levels=LEVELS).double().eval()
    load_swin_weights(ours, official_state(oracle), origin="microsoft")
    images = torch.randn(1, 3, 65, 97, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([m.pow(3).mean() for m in oracle(images).feature_maps]).sum()
    (gradient,) = torch.autograd.grad(expected, images)
    found = torch.stack([m.pow(3).mean() for m in ours(images).values()]).sum()
    torch.testing.assert_close(torch.autograd.grad(found, images)[0], gradient, rtol=1e-8, atol=1e-12)
