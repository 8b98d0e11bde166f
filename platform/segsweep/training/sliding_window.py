"""Inference in windows of the size that a network was trained on, over images of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def window_anchors(pixels: int, window: int, stride: int) -> list[int]:
    """First pixel of every window along one axis: multiples of the stride, the last moved back to the edge.

    Args:
        pixels: Length of the axis.
        window: Pixels of a window; one window covers a shorter axis.
        stride: Pixels between windows, at most ``window``.

    Raises:
        ValueError: If the stride would leave pixels out.
    """
    if not 0 < stride <= window:
        raise ValueError(
            f"stride={stride} is outside 1..{window}: windows of {window} pixels would leave gaps"
        )
    last = max(pixels - window, 0)
    return [min(first, last) for first in range(0, last + stride, stride)]


def sliding_window_logits(
    model: nn.Module, images: Tensor, *, window: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """Logits of images, averaged over the windows that cover each pixel (mmsegmentation's "slide" mode).

    Sums of logits at pixel resolution, divided by the number of windows; a network that decides by image
    (a policy, batch-wise routing) decides by window. Windows are no larger than the images.

    Args:
        model: Gives a ``SegmentationOutput`` for ``(B, 3, h, w)``.
        images: Normalised RGB, ``(B, 3, H, W)``.
        window: Height and width of a window in pixels.
        stride: Pixels between windows down and across.

    Returns:
        ``(B, K, H, W)``.

    Raises:
        ValueError: If a stride exceeds its window.
    """
    height, width = images.shape[-2:]
    rows, columns = (
        [slice(first, first + min(side, pixels)) for first in window_anchors(pixels, side, step)]
        for pixels, side, step in zip((height, width), window, stride, strict=True)
    )
    total: Tensor | None = None
    count = torch.zeros(height, width, device=images.device)
    for down in rows:
        for across in columns:
            part = images[..., down, across]
            logits = model(part).semantic_logits((part.shape[-2], part.shape[-1])).float()
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[..., down, across] += logits
            count[down, across] += 1
    if total is None:
        raise ValueError(f"an image of {height}x{width} pixels has no window; give images with pixels")
    return total / count
