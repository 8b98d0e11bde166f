"""Self-attention inside windows, shifted or not (Liu et al. 2021, Swin Transformer, Sec. 3.2)."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from segsweep.models.layers.transformer import MLP, DropPath, TruncatedNormalLinear

_TABLE_STD = 0.02
_MASKED = (
    -100.0
)  # added to the logits of pairs that the shift brought together; the value of the paper's code


class WindowBlock(nn.Module):
    """Transformer block whose attention stays inside windows of a map.

    ``x + attention(norm1(x))``, then ``x + mlp(norm2(x))``. A map that the window does not divide is padded
    with zeros at its bottom and right after the norm, and only then rolled. The window is never made
    smaller and the shift never left out, however small the map (as in mmsegmentation; timm differs).

    Args:
        dim: Width of the tokens.
        num_heads: Attention heads; divides ``dim``.
        window: Side of a window in tokens.
        shift: Tokens by which the windows are shifted, below ``window``.
        mlp_ratio: Width inside the perceptron over ``dim``.
        drop_path: Stochastic depth rate of both branches.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``, or the shift is not below the window.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window: int,
        shift: int = 0,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= shift < window:
            raise ValueError(
                f"shift={shift} is outside 0..{window - 1}, for windows of {window} tokens a side"
            )
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window=window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, h, w, C) -> (B, h, w, C)`` for any h and w."""
        tokens = tokens + self.drop_path(self._attend(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))  # type: ignore[no-any-return]

    def _attend(self, tokens: Tensor) -> Tensor:
        height, width = tokens.shape[1:3]
        bottom, right = -height % self.window, -width % self.window
        if bottom or right:
            tokens = F.pad(tokens, (0, 0, 0, right, 0, bottom))
        if self.shift:
            tokens = tokens.roll((-self.shift, -self.shift), dims=(1, 2))
        grid = (tokens.shape[1] // self.window, tokens.shape[2] // self.window)
        mask = _shift_mask(grid, self.window, self.shift, tokens.device) if self.shift else None
        tokens = self._merge(self.attn(self._cut(tokens, grid), mask), grid)
        if self.shift:
            tokens = tokens.roll((self.shift, self.shift), dims=(1, 2))
        return tokens[:, :height, :width]

    def _cut(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(B, r * s, c * s, C) -> (B, r * c, s * s, C)`` for r x c windows of side s."""
        batch, dim = tokens.shape[0], tokens.shape[3]
        tokens = tokens.view(batch, grid[0], self.window, grid[1], self.window, dim)
        return tokens.transpose(2, 3).reshape(batch, grid[0] * grid[1], self.window**2, dim)

    def _merge(self, windows: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(B, r * c, s * s, C) -> (B, r * s, c * s, C)``."""
        batch, dim = windows.shape[0], windows.shape[3]
        windows = windows.view(batch, *grid, self.window, self.window, dim).transpose(2, 3)
        return windows.reshape(batch, grid[0] * self.window, grid[1] * self.window, dim)


class WindowAttention(nn.Module):
    """Multi-head self-attention with a learned bias for every relative position.

    Args:
        dim: Width of the tokens.
        num_heads: Attention heads; divides ``dim``.
        window: Side of a window in tokens.

    Attributes:
        relative_position_bias_table: ``((2 * window - 1)**2, num_heads)``; row ``dy * (2 * window - 1) + dx``
            with offsets counted from ``1 - window``.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, num_heads: int, *, window: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}; choose a divisor")
        self.num_heads, self.window = num_heads, window
        self.qkv = TruncatedNormalLinear(dim, 3 * dim)
        self.proj = TruncatedNormalLinear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        if not self.relative_position_bias_table.is_meta:
            nn.init.normal_(self.relative_position_bias_table, std=_TABLE_STD)
        positions = _relative_positions(window).to(self.relative_position_bias_table.device)
        self.register_buffer("relative_position_index", positions, persistent=False)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """``(B, n, N, C) -> (B, n, N, C)``.

        Args:
            windows: B images of n windows of N tokens.
            mask: ``(n, 1, N, N)`` to add to the logits, or ``None``.
        """
        *leading, dim = windows.shape
        qkv = self.qkv(windows).view(*leading, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.movedim(3, 0).transpose(-2, -3).unbind(0)  # (B, n, heads, N, d)
        if torch.is_grad_enabled() and windows.device.type == "cpu":
            attended = _attend_for_training(query, key, value, bias=self._bias(), mask=mask)
        else:
            attended = _attend_fused(query, key, value, bias=self._bias(), mask=mask)
        return self.proj(attended.transpose(2, 3).reshape(windows.shape))  # type: ignore[no-any-return]

    def _bias(self) -> Tensor:
        """Bias of every pair of tokens of a window, ``(heads, N, N)``."""
        bias = F.embedding(self.relative_position_index, self.relative_position_bias_table)
        return bias.permute(2, 0, 1).contiguous()


def _attend_fused(query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor, mask: Tensor | None) -> Tensor:
    """``(B, n, heads, N, d) -> (B, n, heads, N, d)``; bias ``(heads, N, N)``, mask ``(n, 1, N, N)``."""
    bias = bias.unsqueeze(0)  # in three dimensions no fused kernel of a CPU would take it
    if mask is not None:
        # For more than one image this copies the sum; to merge windows and heads would copy all three parts.
        bias = (bias + mask.to(bias.dtype)).expand(query.shape[0], -1, -1, -1, -1).flatten(0, 1)
    windows = (query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return F.scaled_dot_product_attention(*windows, attn_mask=bias).view(query.shape)


def _attend_for_training(
    query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor, mask: Tensor | None
) -> Tensor:
    """As ``_attend_fused``; a CPU has no fused kernel with a gradient for the bias, and this takes 0.8 of the
    time of what PyTorch would do instead."""
    logits: Tensor = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    logits.add_(bias)
    if mask is not None:
        logits.add_(mask)
    return logits.softmax(-1) @ value


def _relative_positions(window: int) -> Tensor:
    """Row of the bias table for query (first axis) and key (second axis), ``(N, N)`` int64."""
    # on the CPU also while a model is built on the meta device, where this would import torch._dynamo (1.3 s)
    place = torch.arange(window**2, device="cpu")
    rows, columns = place // window, place % window
    down = rows[:, None] - rows[None, :] + window - 1
    right = columns[:, None] - columns[None, :] + window - 1
    return down * (2 * window - 1) + right


def _shift_mask(grid: tuple[int, int], window: int, shift: int, device: torch.device) -> Tensor:
    # A tensor made while a graph is traced or operations are counted belongs to that mode: not kept.
    if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
        return _make_shift_mask(grid, window, shift, device)
    return _kept_shift_mask(grid, window, shift, device)


@functools.lru_cache(maxsize=32)  # four stages of eight image sizes
def _kept_shift_mask(grid: tuple[int, int], window: int, shift: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else a training step after a measurement could not save it
        return _make_shift_mask(grid, window, shift, device)


def _make_shift_mask(grid: tuple[int, int], window: int, shift: int, device: torch.device) -> Tensor:
    """Keep apart what only the roll made neighbours: ``(r * c, 1, N, N)`` for r x c windows."""
    if device.type == "meta":  # nothing to compute there, and to arrange it would import torch._dynamo (2 s)
        return torch.empty(grid[0] * grid[1], 1, window**2, window**2, device=device)
    rows, columns = (_regions(count * window, window, shift, device) for count in grid)
    regions = (3 * rows[:, None] + columns[None, :]).view(grid[0], window, grid[1], window)
    regions = regions.transpose(1, 2).reshape(grid[0] * grid[1], window**2)
    apart = regions[:, None, :, None] != regions[:, None, None, :]
    return apart * torch.tensor(_MASKED, device=device)


def _regions(pixels: int, window: int, shift: int, device: torch.device) -> Tensor:
    """0 before the last window; in it, 1 for what was there before the roll and 2 for the rest."""
    position = torch.arange(pixels, device=device)
    return (position >= pixels - window).long() + (position >= pixels - shift).long()
