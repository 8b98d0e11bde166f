"""The window block against attention computed pair by pair, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segsweep.models.layers.transformer import DropPath
from segsweep.models.layers.window_attention import WindowAttention, WindowBlock

WINDOW_BLOCK_PARAMS = 3_153_736  # SenFormer's FPNT block: 512 wide, 8 heads, windows of 7


def block(*, shift: int, window: int = 3) -> WindowBlock:
    torch.manual_seed(0)
    made = WindowBlock(8, 2, window=window, shift=shift).double()
    for parameter in made.parameters():  # biases and norms, too: zeros would hide mistakes in the padding
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def attend_pair_by_pair(attention: WindowAttention, tokens: Tensor, *, shift: int) -> Tensor:
    """Attention of (h, w, C) tokens, h and w multiples of the window, one query at a time.

    Two tokens see each other if they share a window of the rolled map and neither or both came around its
    border, in each direction.
    """
    height, width, dim = tokens.shape
    window, heads = attention.window, attention.num_heads
    query, key, value = attention.qkv(tokens).view(height, width, 3, heads, dim // heads).unbind(2)
    table = attention.relative_position_bias_table.view(2 * window - 1, 2 * window - 1, heads)
    places = [(y, x) for y in range(height) for x in range(width)]

    def rolled(y: int, x: int) -> tuple[int, int]:
        return (y - shift) % height, (x - shift) % width

    def group(y: int, x: int) -> tuple[int, int, bool, bool]:
        row, column = rolled(y, x)
        return row // window, column // window, y < shift, x < shift

    out = torch.zeros_like(tokens)
    for place in places:
        seen = [other for other in places if group(*other) == group(*place)]
        here = rolled(*place)
        logits = torch.stack(
            [
                (query[place] * key[other]).sum(-1) * (dim // heads) ** -0.5
                + table[here[0] - rolled(*other)[0] + window - 1, here[1] - rolled(*other)[1] + window - 1]
                for other in seen
            ]
        )
        weights = logits.softmax(0)  # (seen, heads)
        values = torch.stack([value[other] for other in seen])
        out[place] = attention.proj((weights[..., None] * values).sum(0).flatten())
    return out


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7), (3, 2), (1, 4)])
@pytest.mark.parametrize("shift", [0, 1])
def test_tokens_attend_to_their_window_only(height: int, width: int, shift: int) -> None:
    model = block(shift=shift)
    tokens = torch.randn(2, height, width, 8, dtype=torch.float64)
    padded = F.pad(model.norm1(tokens), (0, 0, 0, -width % 3, 0, -height % 3))
    attended = torch.stack([attend_pair_by_pair(model.attn, one, shift=shift) for one in padded])
    expected = tokens + attended[:, :height, :width]
    expected = expected + model.mlp(model.norm2(expected))
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_both_ways_to_compute_attention_agree(training: bool) -> None:
    model = block(shift=1)
    tokens = torch.randn(2, 5, 7, 8, dtype=torch.float64)
    expected = model(tokens)  # with autograd
    model.train(training)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-10)


def test_gradients_are_those_of_the_function() -> None:
    model = block(shift=1, window=2)
    tokens = torch.randn(1, 3, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (tokens,), fast_mode=True)
    table = model.attn.relative_position_bias_table

    def of_table(values: Tensor) -> Tensor:
        return torch.func.functional_call(model, {"attn.relative_position_bias_table": values}, (tokens,))

    assert torch.autograd.gradcheck(of_table, (table.detach().clone().requires_grad_(),), fast_mode=True)


def test_parameters_of_the_block_of_senformers_neck() -> None:
    with torch.device("meta"):
        made = WindowBlock(512, 8, window=7)
    assert sum(parameter.numel() for parameter in made.parameters()) == WINDOW_BLOCK_PARAMS


def test_a_measurement_does_not_spoil_the_training_after_it() -> None:
    model = WindowBlock(8, 2, window=5, shift=2)
    tokens = torch.randn(1, 11, 13, 8)
    with torch.inference_mode():
        model(tokens)
    model(tokens).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("shift", [-1, 7])
def test_a_shift_of_a_window_or_more_is_refused(shift: int) -> None:
    with pytest.raises(ValueError, match=r"shift=-?\d is outside 0\.\.6"):
        WindowBlock(8, 2, window=7, shift=shift)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads=3 does not divide dim=8"):
        WindowBlock(8, 3, window=7)


def test_drop_path_leaves_whole_images_out_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    kept = dropped[:, 0, 0] > 0
    assert (dropped == torch.where(kept, 1 / 0.75, 0.0)[:, None, None]).all()
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.03)  # 4 standard deviations


def test_drop_path_passes_everything_in_evaluation() -> None:
    branch = torch.randn(3, 2)
    assert DropPath(0.9).eval()(branch) is branch
