"""What ViT and BEiT have in common: tokens that may be shared before any block sees them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from segsweep.models.layers.superpatches import Grid, Selection
from segsweep.models.layers.vit_block import PATCH, PatchEmbedding, TransformerBlock, size_bias

INIT_STD = 0.02  # of class tokens and position embeddings


class TokenBackbone(nn.Module):
    """A plain transformer on patches, taken apart: patches, positions, blocks.

    ``forward`` is the network without sharing. Whoever shares tokens calls ``patch_tokens`` and
    ``positions``, makes fewer tokens of them and gives these to ``encode``; whoever merges tokens between the
    blocks calls ``add_extra`` and walks over ``blocks`` alone.

    Args:
        blocks: Transformer blocks.
        dim: Width of the tokens.
        grid: Patches down and across for which positions are stored; others are resized bilinearly.
        taps: Blocks (from 0) whose output is wanted, ascending; the last block must be among them.
        norm_eps: Epsilon of the final layer norm, which only the last block's output sees; ``None`` for none.

    Attributes:
        num_extra: Tokens that are no patches: class token, distillation token.
        half_range: Whether images come as ``(x - 0.5) / 0.5``, not normalised by ImageNet's statistics.
    """

    num_extra = 1
    half_range = True

    def __init__(
        self,
        blocks: Iterable[TransformerBlock],
        *,
        dim: int,
        grid: Grid,
        taps: Sequence[int] | None,
        norm_eps: float | None,
    ) -> None:
        super().__init__()
        self.patch = PATCH
        self.dim, self.grid = dim, grid
        self.patch_embed = PatchEmbedding(dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(dim, eps=norm_eps)
        last = len(self.blocks) - 1
        self.taps = (last,) if taps is None else tuple(taps)
        if sorted(set(self.taps)) != list(self.taps) or self.taps[0] < 0 or self.taps[-1] != last:
            raise ValueError(f"taps={self.taps} are not ascending blocks from 0 that end with {last}")
        if not self.cls_token.is_meta:
            nn.init.normal_(self.cls_token, std=INIT_STD)

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Patches without their positions: ``(B, 3, H, W) -> (B, N, C)``; H and W divisible by ``patch``."""
        return self.patch_embed(images)  # type: ignore[no-any-return]

    @abstractmethod
    def positions(self, grid: Grid) -> Tensor | None:
        """Embeddings to add to the patches of a grid, ``(1, N, C)``; ``None`` if positions are relative."""

    def add_extra(self, tokens: Tensor) -> Tensor:
        """Put the extra tokens in front: ``(B, n, C) -> (B, num_extra + n, C)``."""
        return torch.cat([self._extra().expand(tokens.shape[0], -1, -1), tokens], dim=1)

    def _extra(self) -> Tensor:
        """The extra tokens with their positions, ``(1, num_extra, C)``."""
        return self.cls_token

    def encode(
        self,
        tokens: Tensor,
        *,
        grid: Grid,
        selection: Selection | None = None,
        sizes: Tensor | None = None,
    ) -> dict[int, Tensor]:
        """Run all blocks.

        Args:
            tokens: ``(B, n, C)`` of patches and superpatches, with absolute positions if there are any.
            grid: Patches down and across of the images.
            selection: How the tokens were shared; ``None`` if they are the patches.
            sizes: ``(B or 1, n)``, patches that each token weighs as much as; ``None`` for one each.

        Returns:
            ``{tap: (B, n, C)}`` without extra tokens.
        """
        context, key_bias = self._context(grid, selection), size_bias(sizes, before=self.num_extra)
        outputs: dict[int, Tensor] = {}
        tokens = self.add_extra(tokens)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, self._bias(block, context, key_bias))
            if index in self.taps:
                outputs[index] = tokens[:, self.num_extra :]
        outputs[self.taps[-1]] = self.norm(outputs[self.taps[-1]])
        return outputs

    def _context(self, grid: Grid, selection: Selection | None) -> object:
        """What the biases of all blocks have in common."""
        return None

    def _bias(self, block: nn.Module, context: object, key_bias: Tensor | None) -> Tensor | None:
        """What a block adds to its attention logits."""
        return key_bias

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """``(B, 3, H, W) -> {tap: (B, N, C)}``, every patch with a token of its own."""
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        tokens, positions = self.patch_tokens(images), self.positions(grid)
        return self.encode(tokens if positions is None else tokens + positions, grid=grid)


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Stochastic depth of each block: linear from 0 to ``last``."""
    return [last * index / max(depth - 1, 1) for index in range(depth)]
