"""Batch norms whose statistics and weights are constants."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch norm in evaluation mode for ever, without parameters; loads the state of an ``nn.BatchNorm2d``.

    Args:
        channels: Width.
        eps: Added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        return F.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)  # of a batch norm that was not frozen
        super()._load_from_state_dict(state_dict, prefix, *rest)


def freeze_batch_norms(module: nn.Module) -> int:
    """Put a ``FrozenBatchNorm2d`` with the same state in place of every batch norm.

    Args:
        module: Changed in place; no batch norm itself.

    Returns:
        Number of batch norms that there were.

    Raises:
        ValueError: If one does more than normalise.
    """
    frozen = 0
    for name, child in list(module.named_children()):
        if not isinstance(child, nn.BatchNorm2d):
            frozen += freeze_batch_norms(child)
            continue
        if type(child) is not nn.BatchNorm2d:  # timm's, with an activation of its own
            raise ValueError(f"cannot freeze {name!r}, a {type(child).__name__}; use norm='bn' or a ResNet")
        with torch.device(child.weight.device):
            constant = FrozenBatchNorm2d(child.num_features, eps=child.eps)
        if not child.weight.is_meta:
            constant.load_state_dict(child.state_dict())
        setattr(module, name, constant)
        frozen += 1
    return frozen
