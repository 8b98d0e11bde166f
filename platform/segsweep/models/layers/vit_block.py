"""Parts of Vision Transformers (Dosovitskiy et al. 2021): patches, self-attention, pre-norm blocks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.layers.transformer import MLP, DropPath, TruncatedNormalLinear

PATCH = 16  # pixels a side of every published design here
LAYER_NORM_EPS = 1e-5
_MLP_RATIO = 4


class PatchConv2d(nn.Conv2d):
    """Convolution that draws no weights on the meta device, where that would import torch._dynamo (1.3 s)."""

    def reset_parameters(self) -> None:
        """Draw new weights as ``nn.Conv2d`` does; nothing on the meta device."""
        if not self.weight.is_meta:
            super().reset_parameters()


class PatchEmbedding(nn.Module):
    """Linear map of whole patches: ``(B, 3, H, W) -> (B, H * W / patch**2, C)``, row by row.

    Args:
        dim: Width of the tokens.
        patch: Pixels a side; divides H and W.
    """

    def __init__(self, dim: int, *, patch: int = PATCH) -> None:
        super().__init__()
        self.proj = PatchConv2d(3, dim, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W) -> (B, N, C)``."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Multi-head self-attention in two steps, so that others can look at the keys between them.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; divides ``dim``.
        dropout: Of the attention weights and of the output.
        qkv_bias: Whether queries, keys and values have a bias.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0, qkv_bias: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}; choose a divisor")
        self.num_heads = num_heads
        self.qkv = TruncatedNormalLinear(dim, 3 * dim, bias=qkv_bias)
        self.proj = TruncatedNormalLinear(dim, dim)
        self.drop = nn.Dropout(dropout)

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``(B, heads, n, C / heads)`` each."""
        return self._heads(self.qkv(tokens))

    def _heads(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = projected.shape
        shape = (batch, tokens, 3, self.num_heads, width // (3 * self.num_heads))
        query, key, value = projected.view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """What ``project`` gave to ``(B, n, C)``; ``bias`` broadcasts to ``(B, heads, n, n)``."""
        dropout = self.drop.p if self.training else 0.0
        if bias is not None:
            bias = bias.to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        return self.drop(self.proj(attended.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(B, n, C) -> (B, n, C)``; ``bias`` is added to the attention logits."""
        return self.attend(*self.project(tokens), bias)


def size_bias(sizes: Tensor | None, *, before: int = 0, after: int = 0) -> Tensor | None:
    """Bias of attention logits by which a token weighs as much as so many equal ones: their logarithm.

    Args:
        sizes: ``(B or 1, n)``; ``None`` for tokens that all stand for themselves.
        before: Tokens of size 1 in front.
        after: Tokens of size 1 at the end.

    Returns:
        ``(B or 1, 1, 1, before + n + after)``, or ``None``.
    """
    if sizes is None:
        return None
    return F.pad(sizes.log(), (before, after))[:, None, None]


class FeedForward(MLP):
    """Two-layer perceptron with dropout after each layer: ``(..., C) -> (..., C)``.

    Args:
        dim: Width of input and output.
        hidden: Width between the layers.
        dropout: Probability that a value is dropped in training.
    """

    def __init__(self, dim: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__(dim, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(..., C) -> (..., C)``."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(tokens)))))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """``x + attention(norm1(x))``, then ``x + mlp(norm2(x))``.

    Args:
        dim: Width of the tokens.
        num_heads: Heads; divides ``dim``.
        dropout: In attention and perceptron.
        drop_path: Stochastic depth rate of both branches.
        eps: Of the layer norms.
        attention: Another attention than ``SelfAttention``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        eps: float = LAYER_NORM_EPS,
        attention: SelfAttention | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = attention or SelfAttention(dim, num_heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = FeedForward(dim, _MLP_RATIO * dim, dropout=dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(B, n, C) -> (B, n, C)``; ``bias`` is added to the attention logits."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), bias))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))  # type: ignore[no-any-return]
