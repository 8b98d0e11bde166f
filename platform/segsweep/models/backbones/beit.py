"""BEiT (Bao et al. 2022) as a token backbone: relative positions in every block, also of shared tokens.

Parameters have timm's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.backbones.token_backbone import TokenBackbone, drop_path_rates
from segsweep.models.layers.resize import resize_bilinear
from segsweep.models.layers.superpatches import (
    Grid,
    Selection,
    representatives,
    share,
    superpatch_means,
)
from segsweep.models.layers.vit_block import SelfAttention, TransformerBlock

_OWN_ROWS = 3  # class token to patch, patch to class token, class token to itself
_EPS = 1e-6  # BEiT; mmsegmentation

Representative = Literal["top_left", "mean"]


@dataclass(frozen=True, kw_only=True)
class BeitShape:
    """Which member of the family.

    Attributes:
        dim: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        layer_scale: Initial factors of the branches.
        drop_path: Stochastic depth rate of the last block.
    """

    dim: int
    depth: int
    heads: int
    layer_scale: float = 0.1
    drop_path: float = 0.1


BEITS: dict[str, BeitShape] = {
    # Bao et al. 2022, Sec. 2; layer scale and stochastic depth of mmsegmentation's UPerNet configs
    "beit_base": BeitShape(dim=768, depth=12, heads=12),
    "beit_large": BeitShape(dim=1024, depth=24, heads=16, layer_scale=1e-6, drop_path=0.2),
    # not from a paper: small enough to train on a CPU within minutes
    "beit_nano": BeitShape(dim=96, depth=4, heads=3, drop_path=0.0),
}


class RelativeAttention(SelfAttention):
    """Self-attention with a learned bias for each offset between two patches; no bias of the keys.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; divides ``dim``.
        grid: Patches down and across for which offsets are stored.

    Attributes:
        relative_position_bias_table: ``((2 h - 1) * (2 w - 1) + 3, heads)``.
    """

    def __init__(self, dim: int, num_heads: int, *, grid: Grid) -> None:
        super().__init__(dim, num_heads, qkv_bias=False)
        self.grid = grid
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        rows = _num_offsets(grid) + _OWN_ROWS
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``(B, heads, n, C / heads)`` each."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return self._heads(self.qkv(tokens) + bias)

    def table(self, grid: Grid) -> Tensor:
        """The biases for another grid; resized bilinearly."""
        return resize_bias_table(self.relative_position_bias_table, self.grid, grid)


class BeitBlock(TransformerBlock):
    """Pre-norm block whose branches have learned factors (layer scale).

    Args:
        shape: Widths and heads.
        grid: Patches down and across for which offsets are stored.
        drop_path: Stochastic depth rate of both branches.
        eps: Epsilon of the layer norms.
    """

    def __init__(self, shape: BeitShape, *, grid: Grid, drop_path: float, eps: float) -> None:
        attention = RelativeAttention(shape.dim, shape.heads, grid=grid)
        super().__init__(shape.dim, shape.heads, drop_path=drop_path, eps=eps, attention=attention)
        self.gamma_1 = nn.Parameter(torch.full((shape.dim,), shape.layer_scale))
        self.gamma_2 = nn.Parameter(torch.full((shape.dim,), shape.layer_scale))

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(B, n, C) -> (B, n, C)``; ``bias`` is added to the attention logits."""
        tokens = tokens + self.drop_path(self.gamma_1 * self.attn(self.norm1(tokens), bias))
        return tokens + self.drop_path(self.gamma_2 * self.mlp(self.norm2(tokens)))  # type: ignore[no-any-return]


class _Offsets(NamedTuple):
    """Rows of the tables for all pairs of tokens, ``(B or 1, 1 + n, 1 + n)``, and what they are for."""

    rows: Tensor
    grid: Grid
    averaged: Selection | None


class Beit(TokenBackbone):
    """Class token without position, pre-norm blocks with relative positions.

    A shared token has the place of the top-left of its patches, or (``mean``) the mean over its patches of
    their biases, which is made from the whole matrix and slow; the CTS paper's supplement finds them equal.

    Args:
        shape: Member of the family.
        grid: Patches down and across for which offsets are stored.
        taps: Blocks whose output is wanted; the last alone by default.
        final_norm: Whether the last block's output is normalised.
        eps: Epsilon of all layer norms.
        representative: Where a shared token is.
    """

    def __init__(
        self,
        shape: BeitShape,
        *,
        grid: Grid,
        taps: Sequence[int] | None = None,
        final_norm: bool = False,
        eps: float = _EPS,
        representative: Representative = "top_left",
    ) -> None:
        blocks = [
            BeitBlock(shape, grid=grid, drop_path=rate, eps=eps)
            for rate in drop_path_rates(shape.drop_path, shape.depth)
        ]
        super().__init__(blocks, dim=shape.dim, grid=grid, taps=taps, norm_eps=eps if final_norm else None)
        self.shape = shape
        self.representative = representative

    def positions(self, grid: Grid) -> None:
        """Positions are relative: nothing is added to the patches."""
        return

    def _context(self, grid: Grid, selection: Selection | None) -> _Offsets:
        if selection is None or self.representative == "mean":
            everywhere = torch.arange(grid[0] * grid[1], device=self.cls_token.device)[None]
            return _Offsets(offset_rows(everywhere, grid), grid, selection)
        return _Offsets(offset_rows(representatives(selection, grid), grid), grid, None)

    def _bias(self, block: nn.Module, context: object, key_bias: Tensor | None) -> Tensor:
        offsets = cast(_Offsets, context)
        attention = cast(RelativeAttention, block.attn)
        pairs = F.embedding(offsets.rows, attention.table(offsets.grid))  # (B, 1 + n, 1 + n, heads)
        if offsets.averaged is not None:
            pairs = _average_pairs(pairs, offsets.averaged, offsets.grid)
        bias = pairs.permute(0, 3, 1, 2)
        return bias if key_bias is None else bias + key_bias


def offset_rows(places: Tensor, grid: Grid) -> Tensor:
    """Row of the bias table for every pair of tokens, the class token first.

    Args:
        places: ``(B, n)`` int64, the patch where each token is.
        grid: Patches down and across, h and w.

    Returns:
        ``(B, 1 + n, 1 + n)`` int64: ``(dy + h - 1) * (2 w - 1) + dx + w - 1`` for query minus key.
    """
    height, width = grid
    y, x = places // width, places % width
    down = y[:, :, None] - y[:, None, :] + height - 1
    right = x[:, :, None] - x[:, None, :] + width - 1
    to_patch, to_class, to_itself = (_num_offsets(grid) + row for row in range(_OWN_ROWS))
    rows = F.pad(down * (2 * width - 1) + right, (1, 0), value=to_class)
    first = torch.full_like(rows[:, :1], to_patch)
    corner = torch.full_like(first[..., :1], to_itself)
    return torch.cat([torch.cat([corner, first[..., 1:]], dim=2), rows], dim=1)


def resize_bias_table(table: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Biases for another grid, bilinear: ``((2 h - 1) * (2 w - 1) + 3, heads)``.

    Args:
        table: For ``grid``.
        grid: Patches down and across, h and w.
        wanted: The grid to resize to.
    """
    if grid == wanted:
        return table
    offsets = torch.unflatten(table[:-_OWN_ROWS].T, 1, _offset_grid(grid)).unsqueeze(0)
    resized = resize_bilinear(offsets, _offset_grid(wanted)).flatten(2)[0].T
    return torch.cat([resized, table[-_OWN_ROWS:]])


def _average_pairs(pairs: Tensor, selection: Selection, grid: Grid) -> Tensor:
    """Biases of patches to those of tokens: ``(1, 1 + N, 1 + N, heads) -> (B, 1 + n, 1 + n, heads)``."""
    for axis in (1, 2):
        lines = pairs.transpose(1, axis)  # tokens to merge second
        batch, rest = len(selection.kept), lines.shape[2:]
        flat = lines.flatten(2).expand(batch, -1, -1)
        merged = share(flat[:, 1:], superpatch_means(flat[:, 1:], grid), selection)
        pairs = torch.unflatten(torch.cat([flat[:, :1], merged], dim=1), 2, rest).transpose(1, axis)
    return pairs


def _offset_grid(grid: Grid) -> Grid:
    return 2 * grid[0] - 1, 2 * grid[1] - 1


def _num_offsets(grid: Grid) -> int:
    rows, columns = _offset_grid(grid)
    return rows * columns
