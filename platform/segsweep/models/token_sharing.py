"""Content-aware token sharing (Lu et al. 2023, CTS): a transformer on fewer tokens than patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.errors import ImageSizeError
from segsweep.models.backbones.token_backbone import TokenBackbone
from segsweep.models.layers.input_range import HalfRange
from segsweep.models.layers.superpatches import (
    PATCHES,
    SIDE,
    Grid,
    Selection,
    select_superpatches,
    share,
    superpatch_means,
)
from segsweep.models.policy_network import PolicyNetwork

_ROUNDING = 1e-9  # 0.3 * 900 / 3 must not come out above 90


@dataclass(frozen=True, kw_only=True)
class SharingAmount:
    """How many superpatches share a token.

    Attributes:
        reduction: Share of the tokens to save, 0 to 0.75; the number is ``ceil(reduction * N / 3)``.
        shared_superpatches: The number itself, whatever the size of the image; ``None`` to use the former.
    """

    reduction: float = 0.0
    shared_superpatches: int | None = None

    def count(self, grid: Grid) -> int:
        """Superpatches that share a token, on a grid of patches.

        Raises:
            ImageSizeError: If the image has fewer superpatches than the number asked for.
        """
        patches = grid[0] * grid[1]
        available = patches // PATCHES
        if self.shared_superpatches is None:
            return min(math.ceil(self.reduction * patches / (PATCHES - 1) - _ROUNDING), available)
        if self.shared_superpatches > available:
            raise ImageSizeError(
                f"shared_superpatches={self.shared_superpatches} are more than the {available} of an image "
                f"of {grid[0]}x{grid[1]} patches; use larger images, fewer superpatches, or reduction"
            )
        return self.shared_superpatches

    def real_reduction(self, grid: Grid) -> float:
        """Share of the tokens that is saved, 0 to 0.75."""
        return (PATCHES - 1) * self.count(grid) / (grid[0] * grid[1])


class EncodedTokens(NamedTuple):
    """What a transformer made of a batch of images.

    Attributes:
        features: ``{block: (B, n, C)}``, the last block last.
        inverse: ``(B, N)`` int64, the token of each patch; ``None`` where each has its own.
        grid: Patches down and across.
        sizes: ``(B or 1, n)``, patches that each token weighs as much as in attention; ``None`` for one each.
    """

    features: dict[int, Tensor]
    inverse: Tensor | None
    grid: Grid
    sizes: Tensor | None = None


class SharedEncoder(nn.Module):
    """Policy, token construction and transformer.

    A shared token is the patch embedding of its superpatch at half the resolution, with the mean of the four
    position embeddings. Nothing tells the transformer that it is shared. The policy is frozen: no gradients,
    and evaluation mode always, so that its batch norms do not drift (in the official code they do).

    Args:
        backbone: Transformer on patches.
        amount: How many superpatches share a token.
        policy: Says which; ``None`` if none is ever shared or the scores are given to ``forward``.
        proportional_attention: Let a shared token weigh as much as its four patches in every attention (not
            in CTS).
    """

    def __init__(
        self,
        backbone: TokenBackbone,
        *,
        amount: SharingAmount,
        policy: PolicyNetwork | None = None,
        proportional_attention: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_range = HalfRange() if backbone.half_range else nn.Identity()
        self.amount = amount
        self.proportional_attention = proportional_attention
        self.policy: PolicyNetwork | None = None
        if policy is not None:
            self.set_policy(policy)

    def set_policy(self, policy: PolicyNetwork) -> None:
        """Let this network say which superpatches share a token; it is frozen."""
        self.policy = policy.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SharedEncoder:
        """As ``nn.Module.train``; the policy stays in evaluation mode."""
        super().train(mode)
        if self.policy is not None:
            self.policy.eval()
        return self

    def forward(self, images: Tensor, margins: Tensor | None = None) -> EncodedTokens:
        """Encode a batch of images.

        Args:
            images: Normalised by ImageNet's statistics, ``(B, 3, H, W)``; H and W divisible by 32.
            margins: ``(B, G)`` float32, what the policy would say; ``None`` to ask it.
        """
        grid = (images.shape[-2] // self.backbone.patch, images.shape[-1] // self.backbone.patch)
        selection = self._select(images, margins, grid)
        tokens = self._tokens(self.input_range(images), grid, selection)
        sizes = self._sizes(selection)
        features = self.backbone.encode(tokens, grid=grid, selection=selection, sizes=sizes)
        return EncodedTokens(features, None if selection is None else selection.inverse, grid, sizes)

    def _select(self, images: Tensor, margins: Tensor | None, grid: Grid) -> Selection | None:
        count = self.amount.count(grid)
        if count == 0:
            return None
        if margins is None:
            if self.policy is None:
                raise ValueError(
                    f"{count} superpatches share a token, but there is neither a policy network nor margins; "
                    "give one of them"
                )
            margins = self.policy.margins(images)
        return select_superpatches(margins, count, grid)

    def _tokens(self, images: Tensor, grid: Grid, selection: Selection | None) -> Tensor:
        # All patches are embedded, then some taken: at most 1 % more MACs, and without sharing the same bits.
        tokens, positions = self.backbone.patch_tokens(images), self.backbone.positions(grid)
        if positions is not None:
            tokens = tokens + positions
        if selection is None:
            return tokens
        halves = self.backbone.patch_tokens(F.avg_pool2d(images, SIDE))
        if positions is not None:
            halves = halves + superpatch_means(positions, grid)
        return share(tokens, halves, selection)

    def _sizes(self, selection: Selection | None) -> Tensor | None:
        if selection is None or not self.proportional_attention:
            return None
        device = selection.kept.device
        own = torch.ones(1, selection.kept.shape[1], device=device)
        return torch.cat([own, torch.full((1, selection.shared.shape[1]), float(PATCHES), device=device)], 1)
