"""Axial attention against loops over rows and columns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segsweep.cost.counting import count_macs
from segsweep.models.layers.axial_attention import AxialAttention


def by_hand(module: AxialAttention, features: Tensor) -> Tensor:
    """Column by column, then row by row, head by head; both maps from the same queries and keys."""
    heads = module.num_heads
    query, key, value = (layer(features) for layer in (module.query, module.key, module.value))
    batch, _, height, width = features.shape

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys and values ``(d, n)`` of one line."""
        shares = (q.T @ k / q.shape[0] ** 0.5).softmax(-1)  # pixel i looks at pixel j
        return v @ shares.T

    def part(tensor: Tensor, image: int, head: int) -> Tensor:
        return tensor[image].chunk(heads)[head]

    out = torch.empty_like(value)
    for image in range(batch):
        for head in range(heads):
            q, k, v = (part(tensor, image, head) for tensor in (query, key, value))
            columns = torch.stack([attend(q[:, :, x], k[:, :, x], v[:, :, x]) for x in range(width)], dim=2)
            rows = [attend(q[:, y], k[:, y], columns[:, y]) for y in range(height)]
            part(out, image, head).copy_(torch.stack(rows, dim=1))
    return out


@pytest.mark.parametrize("num_heads", [1, 4])
def test_attends_along_columns_and_then_along_rows(num_heads: int) -> None:
    torch.manual_seed(0)
    module = AxialAttention(8, qk_channels=12, num_heads=num_heads).double()
    features = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(features), by_hand(module, features), rtol=1e-12, atol=1e-12)


def test_parameters_are_those_of_hfgd() -> None:
    # HFGD: q, k 256 -> 512 and v 256 -> 256 with biases, nothing else
    with torch.device("meta"):
        module = AxialAttention(256)
    assert sum(parameter.numel() for parameter in module.parameters()) == 328_960


def test_a_line_costs_its_length_for_every_pixel() -> None:
    class FromImage(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = AxialAttention(3, qk_channels=6, num_heads=3)

        def forward(self, images: Tensor) -> Tensor:
            return self.attention(images)  # type: ignore[no-any-return]

    with torch.device("meta"):
        model = FromImage()
    projections = 8 * 9 * 3 * (6 + 6 + 3)
    assert count_macs(model, (8, 9)) == projections + 8 * 9 * (8 + 9) * (6 + 3)


def test_heads_must_divide_the_widths() -> None:
    with pytest.raises(ValueError, match=r"num_heads=3 .*channels=8.*qk_channels=12"):
        AxialAttention(8, qk_channels=12, num_heads=3)


def test_compiles_whole_and_runs_in_bfloat16() -> None:
    module = AxialAttention(8, qk_channels=16)
    features = torch.randn(1, 8, 9, 6).to(memory_format=torch.channels_last)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features), module(features))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = module(features)
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved.float(), module(features), rtol=0.1, atol=0.05)
