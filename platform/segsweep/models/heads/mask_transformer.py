"""Decoders of Segmenter (Strudel et al. 2021): logits of tokens, wherever and however many they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.layers.transformer import TruncatedNormalLinear
from segsweep.models.layers.vit_block import LAYER_NORM_EPS, TransformerBlock, size_bias

DROPOUT = 0.1  # of the mask transformer
_EMBEDDING_STD = 0.02


class LinearTokenHead(nn.Module):
    """A linear map of each token to the classes.

    Args:
        dim: Width of the tokens.
        num_classes: Number of classes.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.head = TruncatedNormalLinear(dim, num_classes)

    def forward(self, tokens: Tensor, sizes: Tensor | None = None) -> Tensor:
        """``(B, n, C) -> (B, n, K)``, each token for itself."""
        return self.head(tokens)  # type: ignore[no-any-return]


class MaskTransformer(nn.Module):
    """Blocks on tokens and class embeddings together; logits are cosines between the two, normalised.

    Args:
        dim: Width of the tokens.
        num_heads: Heads of the blocks; the encoder's in the paper.
        num_classes: Number of classes.
        depth: Number of blocks.
        dropout: In attention and perceptron of the blocks.
        eps: Epsilon of the layer norms.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_classes: int,
        depth: int = 2,
        dropout: float = DROPOUT,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.proj_dec = TruncatedNormalLinear(dim, dim)
        self.cls_emb = nn.Parameter(torch.zeros(1, num_classes, dim))
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, num_heads, dropout=dropout, eps=eps) for _ in range(depth)
        )
        self.decoder_norm = nn.LayerNorm(dim, eps=eps)
        self.proj_patch = nn.Parameter(torch.empty(dim, dim))
        self.proj_classes = nn.Parameter(torch.empty(dim, dim))
        self.mask_norm = nn.LayerNorm(num_classes, eps=eps)
        if not self.cls_emb.is_meta:
            nn.init.normal_(self.cls_emb, std=_EMBEDDING_STD)
            nn.init.normal_(self.proj_patch, std=dim**-0.5)
            nn.init.normal_(self.proj_classes, std=dim**-0.5)

    def forward(self, tokens: Tensor, sizes: Tensor | None = None) -> Tensor:
        """``(B, n, C) -> (B, n, K)``; the order of the tokens does not matter.

        Args:
            tokens: Encoded patches, in whatever order.
            sizes: ``(B or 1, n)``, patches that each token weighs as much as; ``None`` for one each.
        """
        bias = size_bias(sizes, after=self.num_classes)
        embeddings = self.cls_emb.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([self.proj_dec(tokens), embeddings], dim=1)
        for block in self.blocks:
            tokens = block(tokens, bias)
        tokens = self.decoder_norm(tokens)
        patches = F.normalize(tokens[:, : -self.num_classes] @ self.proj_patch, dim=-1)
        classes = F.normalize(tokens[:, -self.num_classes :] @ self.proj_classes, dim=-1)
        return self.mask_norm(patches @ classes.transpose(1, 2))  # type: ignore[no-any-return]
