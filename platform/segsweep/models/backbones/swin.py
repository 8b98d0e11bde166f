"""Swin Transformer (Liu et al. 2021) as a backbone for segmentation: a layer norm on every level it gives.

The attention is mmsegmentation's (pad, then roll; windows are never made smaller), for which the published
segmentation results hold; timm's has the same parameters and computes something else on most image sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.layers.transformer import TruncatedNormalLinear
from segsweep.models.layers.window_attention import WindowBlock

_PATCH = 4  # pixels a side
_FIRST_LEVEL = 2  # stride of the patches


@dataclass(frozen=True, kw_only=True)
class SwinShape:
    """Which member of the family.

    Attributes:
        dim: Width of the first stage; doubled in each later one.
        depths: Blocks of the four stages.
        heads: Attention heads of the four stages.
        window: Side of a window in tokens.
        drop_path: Stochastic depth rate of the last block; it grows linearly from 0 at the first.
    """

    dim: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int = 7
    drop_path: float = 0.3


class Swin(nn.Module):
    """Features of the stages, each with a layer norm of its own.

    Args:
        shape: Member of the family.
        levels: Levels to give, among 2 to 5; stages above the coarsest are not built.

    Attributes:
        channels: Width of each level of the output.
        strides: Stride of each level: ``2**level``.

    Raises:
        ValueError: If a level is none of 2 to 5.
    """

    def __init__(self, shape: SwinShape, *, levels: tuple[int, ...]) -> None:
        super().__init__()
        dims = {_FIRST_LEVEL + stage: shape.dim * 2**stage for stage in range(len(shape.depths))}
        if not levels or not set(levels) <= set(dims):
            raise ValueError(f"a Swin Transformer has no levels {levels}; choose among {tuple(dims)}")
        self.channels = {level: dims[level] for level in levels}
        self.strides = {level: 2**level for level in levels}
        self.patch_embed = _PatchEmbedding(shape.dim)
        self.stages = nn.ModuleList()
        ends = list(itertools.accumulate(shape.depths))
        for stage, level in enumerate(range(_FIRST_LEVEL, max(levels) + 1)):
            rates = [
                shape.drop_path * block / max(ends[-1] - 1, 1)
                for block in range(ends[stage] - shape.depths[stage], ends[stage])
            ]
            merged = dims[level] if level < max(levels) else None
            self.stages.append(_Stage(shape, stage, rates=rates, merged=merged))
        # the name holds "norm", by which the published recipes leave weight decay out
        self.norms = nn.ModuleDict({str(level): nn.LayerNorm(dims[level]) for level in levels})

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """``(B, 3, H, W) -> {l: (B, C_l, ceil(H / 2**l), ceil(W / 2**l))}``."""
        tokens = self.patch_embed(images)
        pyramid = {}
        for level, stage in enumerate(self.stages, start=_FIRST_LEVEL):
            features, tokens = stage(tokens)
            if level in self.channels:
                pyramid[level] = self.norms[str(level)](features).permute(0, 3, 1, 2)
        return pyramid


class _Stage(nn.Module):
    """Blocks of one level, every other one shifted, and the way to the next level."""

    def __init__(self, shape: SwinShape, stage: int, *, rates: Sequence[float], merged: int | None) -> None:
        super().__init__()
        dim = shape.dim * 2**stage
        self.blocks = nn.Sequential(
            *(
                WindowBlock(
                    dim,
                    shape.heads[stage],
                    window=shape.window,
                    shift=shape.window // 2 if index % 2 else 0,
                    drop_path=rate,
                )
                for index, rate in enumerate(rates)
            )
        )
        self.downsample = nn.Identity() if merged is None else PatchMerging(merged)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of this level and of the next."""
        tokens = self.blocks(tokens)
        return tokens, self.downsample(tokens)


class _PatchConv2d(nn.Conv2d):
    """Convolution that draws no weights on the meta device, where that would import torch._dynamo (1.3 s)."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class _PatchEmbedding(nn.Module):
    """``(B, 3, H, W) -> (B, ceil(H / 4), ceil(W / 4), C)``; images are padded with zeros to whole patches."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = _PatchConv2d(3, dim, _PATCH, _PATCH)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        bottom, right = -images.shape[-2] % _PATCH, -images.shape[-1] % _PATCH
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


class PatchMerging(nn.Module):
    """Halve the map: ``(B, h, w, C) -> (B, ceil(h / 2), ceil(w / 2), 2 C)``, odd sizes padded with zeros.

    The four tokens are put together as (channel, row, column), as ``nn.Unfold`` and mmsegmentation do; the
    weights of Microsoft and timm hold them as (column, row, channel): see ``swin_weights``.

    Args:
        dim: Width C of the input.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = TruncatedNormalLinear(4 * dim, 2 * dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Merge 2x2 tokens and halve their joint width."""
        bottom, right = tokens.shape[1] % 2, tokens.shape[2] % 2
        if bottom or right:
            tokens = F.pad(tokens, (0, 0, 0, right, 0, bottom))
        batch, height, width, dim = tokens.shape
        halved = (batch, height // 2, width // 2)
        # two copies, of whole tokens and then inside each four: a quarter of the time of one permutation
        tokens = (
            tokens.view(batch, height // 2, 2, width // 2, 2, dim).transpose(2, 3).reshape(*halved, 4, dim)
        )
        tokens = tokens.transpose(3, 4).reshape(*halved, 4 * dim)
        return self.reduction(self.norm(tokens))  # type: ignore[no-any-return]
