"""Token reducers without a policy network, to compare CTS with: ToMe and ALGM on a plain ViT.

ToMe: Bolya et al. 2022 (arXiv 2210.09461); ALGM: Norouzi et al. 2024 (arXiv 2406.09936). Both merge between
the attention and the MLP of a block, and every patch has its token back before the head.

ToMe merges a fixed number of tokens: its shapes are static, it takes batches, compiles and can be counted.
ALGM merges as many as are similar enough, so its shapes depend on the image: it adapts to each image at
batch 1 only (in a larger batch the image with the fewest similar tokens sets the number for all), its cost
is counted for an assumed number of merges, and it does not compile into one graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

from torch import Tensor

from segsweep.models.backbones.token_backbone import TokenBackbone
from segsweep.models.layers.superpatches import Grid
from segsweep.models.layers.token_matching import (
    Merging,
    bipartite_soft_matching,
    global_merge,
    local_merge,
    merge,
    proportional_bias,
    unmerge,
)
from segsweep.models.layers.vit_block import TransformerBlock
from segsweep.models.token_sharing import EncodedTokens, SharedEncoder, SharingAmount


class TokenReducer(Protocol):
    """Says after the attention of which layers which tokens are merged."""

    proportional_attention: ClassVar[bool]

    def match(self, tokens: Tensor, keys: Tensor, *, layer: int, grid: Grid, extra: int) -> Merging | None:
        """What to merge between the attention and the MLP of a layer.

        Args:
            tokens: ``(B, n, C)`` after the attention and its residual.
            keys: ``(B, n, D)`` of this layer's attention, averaged over the heads.
            layer: Layer from 1.
            grid: Patches down and across of the images.
            extra: Tokens in front that are no patches.

        Returns:
            ``None``: this layer merges nothing.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ToMe:
    """ToMe: lose ``count`` tokens in every layer; no training needed.

    Attributes:
        count: Tokens to lose per layer, r of the paper; a layer loses half of its tokens at most.
    """

    proportional_attention: ClassVar[bool] = True
    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count={self.count} is negative; use 0 (no merging) or more tokens per layer")

    def match(self, tokens: Tensor, keys: Tensor, *, layer: int, grid: Grid, extra: int) -> Merging | None:
        """The most similar keys, in every layer."""
        if self.count == 0:
            return None
        return bipartite_soft_matching(keys, count=self.count, protected=extra)


@dataclass(frozen=True, kw_only=True)
class ALGM:
    """ALGM: merge windows that look alike in an early layer, tokens anywhere that do so in a middle one.

    Attributes:
        threshold: Smallest mean cosine of a window that is merged (0.88: the authors' ViT-S on ADE20K).
        window: Patches down and across of a window.
        local_layer: Layer of the local merging, from 1.
        global_layer: Layer of the global merging, after ``local_layer``.
        global_threshold: Smallest cosine of a global pair; ``None``: by image, see ``global_merge``.
        counted_windows: Share of the windows that are merged on the meta device, where cost is counted and
            nothing can be compared; 0 gives an upper bound.
        counted_pairs: Share of the global pairs, likewise.
    """

    proportional_attention: ClassVar[bool] = False
    threshold: float = 0.88
    window: Grid = (2, 2)
    local_layer: int = 1
    global_layer: int = 5
    global_threshold: float | None = None
    counted_windows: float = 0.0
    counted_pairs: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.local_layer < self.global_layer:
            raise ValueError(
                f"local_layer={self.local_layer} and global_layer={self.global_layer} must rise from 1: "
                "windows exist only while nothing is merged"
            )

    def match(self, tokens: Tensor, keys: Tensor, *, layer: int, grid: Grid, extra: int) -> Merging | None:
        """Tokens themselves are compared, not keys."""
        if layer == self.local_layer:
            return local_merge(
                tokens,
                grid,
                threshold=self.threshold,
                window=self.window,
                protected=extra,
                assumed=self.counted_windows,
            )
        if layer == self.global_layer:
            return global_merge(
                tokens,
                layer=layer,
                threshold=self.global_threshold,
                protected=extra,
                assumed=self.counted_pairs,
            )
        return None


class MergingEncoder(SharedEncoder):
    """A ViT that merges tokens on its way instead of sharing them before it; the parameters are the same.

    In place of a host's ``SharedEncoder`` it needs no training (ToMe) or the host's recipe (ALGM):
    ``model.encoder = MergingEncoder(model.encoder.backbone, reducer=ToMe(count=16))``.

    Args:
        backbone: With absolute positions: merged tokens have no relative ones (BEiT).
        reducer: Which tokens are merged.

    Raises:
        ValueError: If the backbone has relative positions.
    """

    def __init__(self, backbone: TokenBackbone, *, reducer: TokenReducer) -> None:
        super().__init__(backbone, amount=SharingAmount())
        if backbone.positions(backbone.grid) is None:
            raise ValueError(
                f"{type(backbone).__name__} has relative positions, which merged tokens do not have; "
                "merge the tokens of a ViT or DeiT"
            )
        self.reducer = reducer

    def forward(self, images: Tensor, margins: Tensor | None = None) -> EncodedTokens:
        """Encode a batch of images.

        Args:
            images: Normalised by ImageNet's statistics, ``(B, 3, H, W)``; H and W divisible by the patch.
            margins: Not used: there is no policy.

        Returns:
            ``(B, N, C)`` of each tapped block; every patch has the token that stands for it.
        """
        grid = (images.shape[-2] // self.backbone.patch, images.shape[-1] // self.backbone.patch)
        tokens = self.backbone.add_extra(self._tokens(self.input_range(images), grid, None))
        extra, taps = self.backbone.num_extra, self.backbone.taps
        features: dict[int, Tensor] = {}
        merging: Merging | None = None
        sizes: Tensor | None = None
        for index, module in enumerate(self.backbone.blocks):
            block = cast(TransformerBlock, module)
            query, key, value = block.attn.project(block.norm1(tokens))
            attended = block.attn.attend(query, key, value, self._size_bias(sizes))
            tokens = tokens + block.drop_path(attended)
            found = self.reducer.match(tokens, key.mean(1), layer=index + 1, grid=grid, extra=extra)
            if found is not None:
                tokens, sizes = merge(tokens, found, sizes)
                merging = found if merging is None else found.after(merging)
            tokens = tokens + block.drop_path(block.mlp(block.norm2(tokens)))
            if index in taps:
                seen = self.backbone.norm(tokens) if index == taps[-1] else tokens
                features[index] = (seen if merging is None else unmerge(seen, merging))[:, extra:]
        return EncodedTokens(features, None, grid)

    def _size_bias(self, sizes: Tensor | None) -> Tensor | None:
        if sizes is None or not self.reducer.proportional_attention:
            return None
        return proportional_bias(sizes)
