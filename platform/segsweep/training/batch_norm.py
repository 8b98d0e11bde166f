"""Batch normalisation synchronised over workers, for CPU and gloo.

``torch.nn.SyncBatchNorm`` is CUDA-only; on the CPU each worker would normalise by its own share of the
batch and two workers would train another function than one.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SynchronisedNormalisation(torch.autograd.Function):
    """``(x - mean) / std`` with moments over all ranks, and its closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the normalised input, the mean, the biased variance (C,) and the global count."""
        axes = (0, 2, 3)
        channels = inputs.shape[1]
        kind, inputs = inputs.dtype, inputs.float()  # counts and sums need float32 under autocast
        sums = torch.cat([inputs.sum(axes), inputs.new_tensor([inputs.numel() / channels])])
        dist.all_reduce(sums)
        count = sums[-1]
        mean = sums[:-1] / count
        centred = inputs - mean[:, None, None]
        variance = (centred * centred).sum(axes)  # second pass: sum of squares minus mean**2 cancels
        dist.all_reduce(variance)
        variance = variance / count
        inverse_std = torch.rsqrt(variance + eps)
        normalised = centred * inverse_std[:, None, None]
        ctx.save_for_backward(normalised, inverse_std, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised.to(kind), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Gradient of the batch-normalised output with respect to this rank's input."""
        kind, gradient = gradients[0].dtype, gradients[0].float()
        normalised, inverse_std, count = ctx.saved_tensors
        axes = (0, 2, 3)
        sums = torch.stack([gradient.sum(axes), (gradient * normalised).sum(axes)])
        dist.all_reduce(sums)
        mean_gradient, mean_product = (sums / count)[:, :, None, None]
        grad_input = (gradient - mean_gradient - normalised * mean_product) * inverse_std[:, None, None]
        return grad_input.to(kind), None


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose training moments are taken over all ranks (``(B, C, H, W)`` input).

    Keeps the parameters, buffers, names and, where timm fused them in, the dropout and activation of
    the layer that it replaces.
    """

    def __init__(self, source: nn.BatchNorm2d) -> None:
        super().__init__(
            source.num_features,
            eps=source.eps,
            momentum=source.momentum,
            affine=source.affine,
            track_running_stats=source.track_running_stats,
        )
        self.weight, self.bias = source.weight, source.bias
        self.running_mean, self.running_var = source.running_mean, source.running_var
        self.num_batches_tracked = source.num_batches_tracked
        self.drop = cast(nn.Module, getattr(source, "drop", nn.Identity()))
        self.act = cast(nn.Module, getattr(source, "act", nn.Identity()))
        self.training = source.training

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``; in eval mode exactly as ``nn.BatchNorm2d``."""
        if not self.training:
            return cast(Tensor, self.act(self.drop(super().forward(inputs))))
        normalised, mean, variance, count = _SynchronisedNormalisation.apply(  # type: ignore[no-untyped-call]
            inputs, self.eps
        )
        self._update_running_moments(mean, variance, float(count))
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        return cast(Tensor, self.act(self.drop(normalised)))

    @torch.no_grad()
    def _update_running_moments(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.momentum is None:
            momentum = 1.0 / float(cast(Tensor, self.num_batches_tracked))
        else:
            momentum = self.momentum
        unbiased = variance * (count / max(count - 1.0, 1.0))
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased, momentum)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every ``BatchNorm2d`` in place by one whose moments cover all ranks.

    On CUDA parameters torch's own ``SyncBatchNorm`` is used (timm's converter, which keeps fused
    activations); on the CPU the class above.
    """
    if any(parameter.is_cuda for parameter in model.parameters()):
        from timm.layers import convert_sync_batchnorm

        return cast(nn.Module, convert_sync_batchnorm(model))
    for name, child in list(model.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, SynchronizedBatchNorm2d(child))
        else:
            synchronise_batch_norm(child)
    return model
