"""Vision Transformers (Dosovitskiy et al. 2021; DeiT: Touvron et al. 2021) as token backbones.

Parameters have timm's names. Segmenter and CTS run them with a layer norm epsilon of 1e-5, though the weights
were made with 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segsweep.models.backbones.token_backbone import INIT_STD, TokenBackbone, drop_path_rates
from segsweep.models.layers.resize import resize_bilinear
from segsweep.models.layers.superpatches import Grid
from segsweep.models.layers.vit_block import LAYER_NORM_EPS, TransformerBlock


@dataclass(frozen=True, kw_only=True)
class ViTShape:
    """Which member of the family.

    Attributes:
        dim: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        distilled: A distillation token beside the class token (DeiT).
        half_range: Trained on ``(x - 0.5) / 0.5``; else on images normalised by ImageNet's statistics.
        drop_path: Stochastic depth rate of the last block.
    """

    dim: int
    depth: int
    heads: int
    distilled: bool = False
    half_range: bool = True
    drop_path: float = 0.1


VITS: dict[str, ViTShape] = {
    # Dosovitskiy et al. 2021, Table 1; Touvron et al. 2021, Table 1
    "vit_tiny": ViTShape(dim=192, depth=12, heads=3),
    "vit_small": ViTShape(dim=384, depth=12, heads=6),
    "vit_base": ViTShape(dim=768, depth=12, heads=12),
    "vit_large": ViTShape(dim=1024, depth=24, heads=16),
    "deit_base_distilled": ViTShape(dim=768, depth=12, heads=12, distilled=True, half_range=False),
    # not from a paper: small enough to train on a CPU within minutes
    "vit_nano": ViTShape(dim=96, depth=4, heads=3, drop_path=0.0),
}


class ViT(TokenBackbone):
    """Class token, learned position embeddings, pre-norm blocks.

    Args:
        shape: Member of the family.
        grid: Patches down and across for which positions are stored.
        taps: Blocks whose output is wanted; the last alone by default.
        final_norm: Whether the last block's output is normalised.
        eps: Epsilon of all layer norms.
    """

    def __init__(
        self,
        shape: ViTShape,
        *,
        grid: Grid,
        taps: Sequence[int] | None = None,
        final_norm: bool = True,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        blocks = [
            TransformerBlock(shape.dim, shape.heads, drop_path=rate, eps=eps)
            for rate in drop_path_rates(shape.drop_path, shape.depth)
        ]
        super().__init__(blocks, dim=shape.dim, grid=grid, taps=taps, norm_eps=eps if final_norm else None)
        self.shape = shape
        self.num_extra = 1 + shape.distilled
        self.half_range = shape.half_range
        self.dist_token = nn.Parameter(torch.zeros(1, 1, shape.dim)) if shape.distilled else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.num_extra + grid[0] * grid[1], shape.dim))
        if not self.pos_embed.is_meta:
            nn.init.normal_(self.pos_embed, std=INIT_STD)
            if self.dist_token is not None:
                nn.init.normal_(self.dist_token, std=INIT_STD)

    def positions(self, grid: Grid) -> Tensor:
        """Position embeddings of the patches, ``(1, N, C)``; resized bilinearly to another grid."""
        return resize_positions(self.pos_embed[:, self.num_extra :], self.grid, grid)

    def _extra(self) -> Tensor:
        extra: Tensor = self.cls_token
        if self.dist_token is not None:
            extra = torch.cat([extra, self.dist_token], dim=1)
        return extra + self.pos_embed[:, : self.num_extra]


def resize_positions(embeddings: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Position embeddings of another grid: ``(1, h * w, C) -> (1, h' * w', C)``, bilinear.

    Args:
        embeddings: Without those of extra tokens.
        grid: Patches down and across that they are for.
        wanted: The grid to resize them to.
    """
    if grid == wanted:
        return embeddings
    maps = torch.unflatten(embeddings.transpose(1, 2), 2, grid)
    return resize_bilinear(maps, wanted).flatten(2).transpose(1, 2)
