"""Validation: one confusion matrix over a split, summed over ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn

from segsweep.labels import IGNORE_INDEX
from segsweep.metrics.confusion import confusion_matrix
from segsweep.models.interface import Targets, segmentation_targets


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    device: torch.device,
    ignore_index: int = IGNORE_INDEX,
    targets: Targets = segmentation_targets,
    computing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """Confusion matrix ``(K, K)``, int64, rows = truth, of single-scale whole-image inference.

    Args:
        model: Gives a ``SegmentationOutput`` for ``(B, 3, H, W)``; left in the mode it came in.
        batches: Pairs of images (B, 3, H, W) and labels (B, H, W); each rank gives its own share.
        num_classes: K of the model.
        device: Where the model lives.
        ignore_index: Label of pixels that do not count.
        targets: What predictions are compared with; by default the labels.
        computing: Held around each batch; see ``Session.computing``.
    """
    was_training = model.training
    model.eval()
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    waiting = iter(batches)
    while True:
        with computing():
            if (batch := next(waiting, None)) is None:
                break
            images, labels = batch
            output = model(images.to(device, memory_format=torch.channels_last))
            predictions = output.semantic_logits(tuple(labels.shape[-2:])).argmax(1)
            truth = targets(labels.to(device), ignore_index=ignore_index)
            matrix += confusion_matrix(predictions, truth, num_classes=num_classes, ignore_index=ignore_index)
    model.train(was_training)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(matrix)
    return matrix.cpu()
