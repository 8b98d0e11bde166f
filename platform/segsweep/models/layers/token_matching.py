"""Merging of tokens that are alike: matching, averaging, and giving every token its value back.

Written from Bolya et al. 2022, "Token Merging: Your ViT But Faster" (ToMe), and Norouzi et al. 2024,
"Adaptive Local-then-Global Token Merging" (ALGM). A merging says for every token in which slot of the shorter
list it ends; so the token of each patch is one look-up, however often tokens were merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segsweep.models.layers.superpatches import Grid, take_tokens


@dataclass(frozen=True)
class Merging:
    """Where tokens go.

    Attributes:
        slots: ``(B, N)`` int64, the place of every token in the shorter list; tokens of one place are merged.
        length: Number of tokens afterwards, M.
    """

    slots: Tensor
    length: int

    def after(self, earlier: Merging) -> Merging:
        """This merging of what ``earlier`` left, as one merging of the tokens before both."""
        return Merging(self.slots.gather(1, earlier.slots), self.length)


def merge(tokens: Tensor, merging: Merging, sizes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Average the tokens that share a slot, each weighted by its size (ToMe, Sec. 3).

    Args:
        tokens: ``(B, N, C)``.
        merging: Where they go.
        sizes: ``(B, N)`` patches that each token stands for; ``None``: one each.

    Returns:
        Tokens ``(B, M, C)`` of the type that came in, and their sizes ``(B, M)`` float32.
    """
    batch, _, channels = tokens.shape
    weights = torch.ones_like(merging.slots, dtype=torch.float32) if sizes is None else sizes
    new_sizes = weights.new_zeros(batch, merging.length).scatter_add(1, merging.slots, weights)
    share = weights / new_sizes.gather(1, merging.slots)  # 1 for a token on its own, which stays as it is
    rows = merging.slots + torch.arange(batch, device=tokens.device)[:, None] * merging.length
    weighted = (tokens * share[..., None]).flatten(0, 1)  # float32: low precision would lose small shares
    sums = weighted.new_zeros(batch * merging.length, channels).index_add(0, rows.flatten(), weighted)
    return sums.view(batch, merging.length, channels).to(tokens.dtype), new_sizes


def unmerge(tokens: Tensor, merging: Merging) -> Tensor:
    """Give every token of the longer list the value of its slot: ``(B, M, C) -> (B, N, C)``."""
    return take_tokens(tokens, merging.slots)


def bipartite_soft_matching(metric: Tensor, *, count: int, protected: int = 0) -> Merging:
    """Merge the ``count`` most similar pairs of alternate tokens (ToMe, Sec. 3).

    Tokens at even places each draw an edge to the most similar token at an odd place; the ``count`` most
    similar edges are merged. The order of the tokens that stay is kept.

    Args:
        metric: ``(B, N, C)`` that similarity, the cosine, is measured on; ToMe takes the heads' mean key.
        count: Tokens to lose, at most half of those that are not protected: more are not merged.
        protected: Tokens at the front that stay alone (class, distillation).

    Returns:
        The merging to ``N - count`` tokens; no shape depends on values.
    """
    similarity, partner = _best_edges(metric, protected=protected)
    count = min(count, (metric.shape[1] - protected) // 2)
    return _merge_best(similarity, partner, count=count, length=metric.shape[1])


def global_merge(
    metric: Tensor, *, layer: int, threshold: float | None = None, protected: int = 0, assumed: float = 0.0
) -> Merging:
    """Merge all pairs of alternate tokens that are similar enough (ALGM's global bipartite merging).

    Args:
        metric: ``(B, N, C)`` that similarity, the cosine, is measured on; ALGM takes the tokens.
        layer: Layer of the merging, from 1.
        threshold: Smallest cosine that is merged; ``None``: for each image the mean plus standard deviation /
            ``layer`` of the best cosines of the tokens at even places (code: tue-mps/algm-segmenter).
        protected: Tokens at the front that stay alone.
        assumed: Share of the pairs that are merged on the meta device, where nothing can be compared.

    Returns:
        The merging; its length depends on the image, in a batch on the image with the fewest such pairs.
    """
    similarity, partner = _best_edges(metric, protected=protected)
    smallest: float | Tensor | None = threshold
    if smallest is None:
        free = similarity[:, (protected + 1) // 2 :]
        smallest = free.mean(1, keepdim=True) + free.std(1, keepdim=True) / layer
    count = min(_fewest(similarity >= smallest, assumed=assumed), (metric.shape[1] - protected) // 2)
    return _merge_best(similarity, partner, count=count, length=metric.shape[1])


def local_merge(
    tokens: Tensor,
    grid: Grid,
    *,
    threshold: float,
    window: Grid = (2, 2),
    protected: int = 0,
    assumed: float = 0.0,
) -> Merging:
    """Merge windows of patches that look alike (ALGM's conditional local average pooling).

    Args:
        tokens: ``(B, protected + N, C)`` with one token for every patch of the grid, row by row.
        grid: Patches down and across.
        threshold: Smallest mean cosine between the patches of a window that is merged.
        window: Patches down and across of a window.
        protected: Tokens in front of the patches, which stay alone.
        assumed: Share of the windows that are merged on the meta device, where nothing can be compared.

    Returns:
        The merging; its length depends on the image, in a batch on the image with the fewest such windows.

    Raises:
        ValueError: If windows do not divide the grid.
    """
    members = (
        _window_members(grid, window, device=tokens.device) + protected
    )  # (windows, patches of a window)
    similarity = _mean_cosine(tokens[:, members])
    count = _fewest(similarity >= threshold, assumed=assumed)
    best = similarity.argsort(dim=1, descending=True, stable=True)[:, :count]
    joined = members[best]  # (B, merged windows, patches of a window)
    heads = joined[..., :1].expand_as(joined)
    destination = _themselves(tokens).scatter(1, joined.flatten(1), heads.flatten(1))
    return _to_destination(destination, length=tokens.shape[1] - best.shape[1] * (members.shape[1] - 1))


def proportional_bias(sizes: Tensor) -> Tensor:
    """What to add to attention logits so that a key of size s counts s times: ``(B, N) -> (B, 1, 1, N)``.

    ToMe, Eq. 1: ``softmax(q k / sqrt(d) + log s)``.
    """
    return sizes.log()[:, None, None, :]


def _fewest(similar: Tensor, *, assumed: float) -> int:
    """Smallest number of marks in a row; the assumed share of a row where there are no values."""
    if similar.is_meta:
        return round(assumed * similar.shape[1])
    return int(similar.sum(1).min())


def _unit(metric: Tensor) -> Tensor:
    return F.normalize(metric.detach().float(), dim=-1)  # which tokens merge is a choice without a gradient


def _themselves(tokens: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1], device=tokens.device).repeat(tokens.shape[0], 1)


def _best_edges(metric: Tensor, *, protected: int) -> tuple[Tensor, Tensor]:
    """Cosine and place of the most similar odd token for every even one, both ``(B, ceil(N / 2))``."""
    unit = _unit(metric)
    device = "cpu" if metric.is_meta else metric.device.type  # there is no autocast on the meta device
    with torch.autocast(device, enabled=False):  # bfloat16 would tie many neighbouring ranks
        cosine = unit[:, 0::2] @ unit[:, 1::2].transpose(1, 2)
    even, odd = (torch.arange(first, metric.shape[1], 2, device=metric.device) for first in (0, 1))
    shut = (even < protected)[:, None] | (odd < protected)[None]
    similarity, column = cosine.masked_fill(shut, -torch.inf).max(dim=2)
    return similarity, odd[column]


def _merge_best(similarity: Tensor, partner: Tensor, *, count: int, length: int) -> Merging:
    best = similarity.argsort(dim=1, descending=True, stable=True)[:, :count]
    destination = torch.arange(length, device=similarity.device).repeat(similarity.shape[0], 1)
    destination = destination.scatter(1, 2 * best, partner.gather(1, best))
    return _to_destination(destination, length=length - count)


def _to_destination(destination: Tensor, *, length: int) -> Merging:
    """From the token that each one joins (itself if it stays) to slots in the order of those that stay."""
    stays = destination == torch.arange(destination.shape[1], device=destination.device)
    return Merging((stays.cumsum(1) - 1).gather(1, destination), length)


def _window_members(grid: Grid, window: Grid, *, device: torch.device) -> Tensor:
    """Patches of every window, ``(windows, patches of a window)``, row by row."""
    if grid[0] % window[0] or grid[1] % window[1]:
        raise ValueError(
            f"a grid of {grid[0]}x{grid[1]} patches is not divided by windows of {window[0]}x{window[1]}; "
            "use another window or pad the image"
        )
    patches = torch.arange(grid[0] * grid[1], device=device)
    blocks = patches.view(grid[0] // window[0], window[0], grid[1] // window[1], window[1])
    return blocks.transpose(1, 2).reshape(-1, window[0] * window[1])


def _mean_cosine(patches: Tensor) -> Tensor:
    """Mean cosine over the pairs of different patches: ``(B, windows, P, C) -> (B, windows)``."""
    unit = _unit(patches)
    itself = unit.square().sum((2, 3))  # P, less for patches that are zero
    number = patches.shape[2]
    return (unit.sum(2).square().sum(2) - itself) / (number * (number - 1))
