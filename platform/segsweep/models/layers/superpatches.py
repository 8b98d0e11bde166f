"""Sharing of tokens between the four patches of a superpatch (Lu et al. 2023, CTS, Sec. 3), batched.

A grid of ``h x w`` patches (both even) has ``N = h * w`` patches, numbered row by row, and ``G = N / 4``
superpatches of 2x2 patches, numbered likewise. Every shape follows from the number S of shared superpatches,
none from the data: one graph serves all images.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SIDE = 2  # patches a side of a superpatch
PATCHES = SIDE * SIDE  # that share one token

Grid = tuple[int, int]


class Selection(NamedTuple):
    """Which superpatches of each image share a token.

    Attributes:
        kept: ``(B, N - 4 S)`` int64, patches with a token of their own, ascending.
        shared: ``(B, S)`` int64, superpatches with one token, ascending.
        inverse: ``(B, N)`` int64, the token that each patch has: kept ones first, shared ones after them.
    """

    kept: Tensor
    shared: Tensor
    inverse: Tensor


def superpatch_members(grid: Grid, device: torch.device | None = None) -> Tensor:
    """Patches of each superpatch, ``(G, 4)`` int64: top left, top right, bottom left, bottom right.

    Args:
        grid: Patches down and across, both even.
        device: Where to make them.

    Raises:
        ValueError: If a side is odd.
    """
    height, width = grid
    if height % SIDE or width % SIDE:
        raise ValueError(
            f"a grid of {height}x{width} patches has no whole superpatches of 2x2; pad the images to a "
            "multiple of 32 pixels"
        )
    patches = torch.arange(height * width, device=device).view(height // SIDE, SIDE, width // SIDE, SIDE)
    return patches.transpose(1, 2).reshape(-1, PATCHES)


def select_superpatches(scores: Tensor, count: int, grid: Grid) -> Selection:
    """Share the superpatches of the highest scores; of equal ones, those that come first.

    Args:
        scores: ``(B, G)`` float32.
        count: Superpatches to share, S, in 0..G.
        grid: Patches down and across.
    """
    members = superpatch_members(grid, scores.device)
    batch, num_patches = scores.shape[0], grid[0] * grid[1]
    order = scores.argsort(dim=1, descending=True, stable=True)
    shared = order[:, :count].sort(dim=1).values
    kept = members[order[:, count:]].flatten(1).sort(dim=1).values
    num_kept = num_patches - PATCHES * count
    own = torch.arange(num_kept, device=scores.device).expand(batch, -1)
    common = torch.arange(num_kept, num_kept + count, device=scores.device).repeat_interleave(PATCHES)
    inverse = torch.zeros(batch, num_patches, dtype=torch.int64, device=scores.device)
    inverse = inverse.scatter(1, kept, own)
    inverse = inverse.scatter(1, members[shared].flatten(1), common.expand(batch, -1))
    return Selection(kept, shared, inverse)


def take_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """Rows of each image: ``(B, n, C)`` and ``(B, m)`` int64 to ``(B, m, C)``.

    Whole rows of one matrix are copied: faster than ``torch.gather``, which looks at every channel.
    """
    batch, length, channels = tokens.shape
    first = torch.arange(batch, device=indices.device)[:, None] * length
    rows = tokens.reshape(batch * length, channels).index_select(0, (indices + first).flatten())
    return rows.view(batch, indices.shape[1], channels)


def share(patches: Tensor, superpatches: Tensor, selection: Selection) -> Tensor:
    """Tokens of the kept patches, then of the shared superpatches.

    Args:
        patches: ``(B, N, C)``.
        superpatches: ``(B, G, C)``.
        selection: Of the same images.

    Returns:
        ``(B, N - 3 S, C)``.
    """
    kept = take_tokens(patches, selection.kept)
    return torch.cat([kept, take_tokens(superpatches, selection.shared)], dim=1)


def unshare(tokens: Tensor, inverse: Tensor) -> Tensor:
    """Give every patch its token: ``(B, N - 3 S, C)`` and ``(B, N)`` to ``(B, N, C)``."""
    return take_tokens(tokens, inverse)


def superpatch_means(patches: Tensor, grid: Grid) -> Tensor:
    """Mean over the patches of each superpatch: ``(B, N, C) -> (B, G, C)``."""
    height, width = grid
    blocks = patches.reshape(patches.shape[0], height // SIDE, SIDE, width // SIDE, SIDE, patches.shape[-1])
    return blocks.mean((2, 4)).flatten(1, 2)


def representatives(selection: Selection, grid: Grid) -> Tensor:
    """The patch whose place each token has, ``(B, N - 3 S)`` int64: the top left one of a superpatch."""
    members = superpatch_members(grid, selection.shared.device)
    return torch.cat([selection.kept, members[selection.shared][..., 0]], dim=1)


def tokens_to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """``(B, h * w, C) -> (B, C, h, w)``."""
    return torch.unflatten(tokens.transpose(1, 2), 2, grid)
