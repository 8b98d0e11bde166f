"""SenFormer's learners (Bousselham et al. 2021, Sec. 3): class queries that read one level of the pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.layers.transformer import MLP, TruncatedNormalLinear

Sharing = Literal["repeated", "none", "decoder", "cls", "decoder_cls"]
NormPlace = Literal["pre", "post"]

_MLP_RATIO = 4


@dataclass(frozen=True, kw_only=True)
class LearnerShape:
    """Size of a learner.

    Attributes:
        channels: Width of the level that it reads, and of its queries.
        num_heads: Attention heads; divides ``channels``.
        num_blocks: Blocks that are applied, L in the paper.
        sharing: What learners have in common (SenFormer, Table 2). ``repeated``: nothing, but each applies
            one block L times. ``none``: nothing. ``decoder``: the L blocks. ``cls``: the class queries.
            ``decoder_cls``: both.
        norm: Layer norm before each branch, or after each sum.
        reuse_keys: Project keys and values once for all applications of a repeated block. They do not change
            from one application to the next: the same function, for less than the published cost.
    """

    channels: int = 512
    num_heads: int = 8
    num_blocks: int = 6
    sharing: Sharing = "repeated"
    norm: NormPlace = "pre"
    reuse_keys: bool = False


class CrossAttention(nn.Module):
    """Multi-head attention from queries to the tokens of a level.

    Args:
        channels: Width of queries and tokens.
        num_heads: Attention heads; each has the scale ``(channels / num_heads) ** -0.5``.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = TruncatedNormalLinear(channels, channels)
        self.kv = TruncatedNormalLinear(channels, 2 * channels)
        self.proj = TruncatedNormalLinear(channels, channels)

    def memory(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each ``(B, heads, n, C / heads)``, of tokens ``(B, n, C)``."""
        keys, values = _split_heads(self.kv(tokens), 2, self.num_heads)
        return keys, values

    def forward(self, queries: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """``(B, K, C) -> (B, K, C)``, reading what ``memory`` made of the tokens."""
        (heads,) = _split_heads(self.to_q(queries), 1, self.num_heads)
        return self.proj(_join_heads(F.scaled_dot_product_attention(heads, *memory)))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Multi-head attention among the queries; arguments as ``CrossAttention``."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = TruncatedNormalLinear(channels, 3 * channels)
        self.proj = TruncatedNormalLinear(channels, channels)

    def forward(self, queries: Tensor) -> Tensor:
        """``(B, K, C) -> (B, K, C)``."""
        heads, keys, values = _split_heads(self.qkv(queries), 3, self.num_heads)
        return self.proj(_join_heads(F.scaled_dot_product_attention(heads, keys, values)))  # type: ignore[no-any-return]


class LearnerBlock(nn.Module):
    """Cross-attention to the level, self-attention among the classes, MLP (SenFormer, Sec. 3.2).

    Args:
        channels: Width.
        num_heads: Attention heads.
        norm: Layer norm before each branch, or after each sum.
    """

    def __init__(self, channels: int, num_heads: int, *, norm: NormPlace = "pre") -> None:
        super().__init__()
        self.norm = norm
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn = CrossAttention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn = SelfAttention(channels, num_heads)
        self.norm3 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, _MLP_RATIO * channels)

    def memory(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of tokens ``(B, n, C)`` for ``forward``."""
        return self.cross_attn.memory(tokens)

    def forward(self, queries: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """``(B, K, C) -> (B, K, C)``."""
        if self.norm == "post":
            queries = self.norm1(queries + self.cross_attn(queries, memory))
            queries = self.norm2(queries + self.attn(queries))
            return self.norm3(queries + self.mlp(queries))  # type: ignore[no-any-return]
        queries = queries + self.cross_attn(self.norm1(queries), memory)
        queries = queries + self.attn(self.norm2(queries))
        return queries + self.mlp(self.norm3(queries))  # type: ignore[no-any-return]


class ClassQueries(nn.Module):
    """One learnt vector a class; a module, so that learners can share it. Zero at first, as published."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, num_classes, channels))

    def forward(self, batch_size: int) -> Tensor:
        """``(B, K, C)``."""
        return self.weight.expand(batch_size, -1, -1)


class Learner(nn.Module):
    """Class queries that attend to a level and then classify each of its pixels by a dot product.

    There is no positional embedding, and neither temperature nor bias in the dot product. The bias of
    ``norm_embs`` adds the same to the logits of all classes.

    Args:
        queries: Class queries; may belong to other learners too.
        layers: Distinct blocks; may belong to other learners too.
        shape: Size.
    """

    def __init__(self, queries: ClassQueries, layers: nn.ModuleList, *, shape: LearnerShape) -> None:
        super().__init__()
        self.queries = queries
        self.layers = layers
        self.repeats = shape.num_blocks if shape.sharing == "repeated" else 1
        self.reuse_keys = shape.reuse_keys
        self.norm_features = nn.LayerNorm(shape.channels)
        self.norm_embs = nn.LayerNorm(shape.channels)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, K, h, w)``, logits in channels-last layout."""
        batch_size, _, height, width = features.shape
        tokens = self.norm_features(features.flatten(2).transpose(1, 2))  # (B, n, C)
        embeddings = self._attend(self.queries(batch_size), tokens)
        scores = tokens @ self.norm_embs(embeddings).transpose(1, 2)  # (B, n, K)
        return scores.view(batch_size, height, width, -1).permute(0, 3, 1, 2)  # type: ignore[no-any-return]

    def _attend(self, queries: Tensor, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            memory = layer.memory(tokens)  # type: ignore[operator]
            for repetition in range(self.repeats):
                if repetition > 0 and not self.reuse_keys:
                    memory = layer.memory(tokens)  # type: ignore[operator]
                queries = layer(queries, memory)
        return queries


def make_learners(count: int, *, num_classes: int, shape: LearnerShape) -> list[Learner]:
    """Learners of one shape that have in common what ``shape.sharing`` says.

    Args:
        count: Number of learners.
        num_classes: Number of classes.
        shape: Size and sharing.

    Raises:
        ValueError: If the heads do not divide the width.
    """
    if shape.channels % shape.num_heads:
        raise ValueError(
            f"num_heads={shape.num_heads} does not divide channels={shape.channels}; "
            "choose a width that is a multiple of the heads"
        )
    layers = [_make_layers(shape) for _ in range(1 if shape.sharing in {"decoder", "decoder_cls"} else count)]
    queries = [
        ClassQueries(num_classes, shape.channels)
        for _ in range(1 if shape.sharing in {"cls", "decoder_cls"} else count)
    ]
    return [Learner(queries[i % len(queries)], layers[i % len(layers)], shape=shape) for i in range(count)]


def _make_layers(shape: LearnerShape) -> nn.ModuleList:
    distinct = 1 if shape.sharing == "repeated" else shape.num_blocks
    return nn.ModuleList(
        LearnerBlock(shape.channels, shape.num_heads, norm=shape.norm) for _ in range(distinct)
    )


def _split_heads(projected: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """``(B, n, parts * C) -> parts x (B, heads, n, C / heads)``, views."""
    batch_size, tokens, width = projected.shape
    heads = projected.view(batch_size, tokens, parts, num_heads, width // (parts * num_heads))
    return heads.permute(2, 0, 3, 1, 4).unbind(0)


def _join_heads(heads: Tensor) -> Tensor:
    """``(B, heads, n, c) -> (B, n, heads * c)``."""
    return heads.transpose(1, 2).flatten(2)
