"""What a policy network of CTS learns (Lu et al. 2023, Sec. 3.2): which superpatches show one class only."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from segsweep.labels import IGNORE_INDEX

SUPERPATCH_PIXELS = 32  # a side
SEVERAL_CLASSES, ONE_CLASS = 0, 1


def superpatch_targets(
    labels: Tensor,
    *,
    ignore_index: int = IGNORE_INDEX,
    void_labels: Collection[int] = (),
    skip_void_borders: bool = False,
) -> Tensor:
    """Whether each superpatch may share a token, as the official code decides it.

    Void is a class like any other: a superpatch of void alone may share, one of a class and void may not.
    Labels whose size is no multiple of 32 are continued with void at the bottom and on the right.

    Args:
        labels: ``(B, H, W)`` int64.
        ignore_index: Label of void pixels, and target of superpatches that do not count.
        void_labels: Classes to be treated as void here, such as the background of Pascal Context, which the
            segmentation network does learn.
        skip_void_borders: Leave superpatches of one class and void out where they lie in the first or last
            row or column, as the official code does for ADE20K, whose masks have thin void at the border.

    Returns:
        ``(B, ceil(H / 32), ceil(W / 32))`` int64: 1 for one class, 0 for several, ``ignore_index``.
    """
    bottom, right = (-pixels % SUPERPATCH_PIXELS for pixels in labels.shape[-2:])
    labels = F.pad(labels, (0, right, 0, bottom), value=ignore_index)
    for label in void_labels:
        labels = labels.masked_fill(labels == label, ignore_index)
    rows = torch.unflatten(labels, 1, (-1, SUPERPATCH_PIXELS))
    blocks = torch.unflatten(rows, 3, (-1, SUPERPATCH_PIXELS))
    targets = (blocks.amin((2, 4)) == blocks.amax((2, 4))).long()  # True is ONE_CLASS
    if not skip_void_borders:
        return targets
    return torch.where(_on_border(targets) & _class_beside_void(blocks, ignore_index), ignore_index, targets)


def _on_border(targets: Tensor) -> Tensor:
    border = torch.ones(targets.shape[-2:], dtype=torch.bool, device=targets.device)
    border[1:-1, 1:-1] = False
    return border


def _class_beside_void(blocks: Tensor, ignore_index: int) -> Tensor:
    """Where void and exactly one class meet; ``(B, h, 32, w, 32)`` to ``(B, h, w)`` bool."""
    void = blocks == ignore_index
    limits = torch.iinfo(blocks.dtype)
    lowest = blocks.masked_fill(void, limits.max).amin((2, 4))
    highest = blocks.masked_fill(void, limits.min).amax((2, 4))
    return void.any(4).any(2) & (lowest == highest)
