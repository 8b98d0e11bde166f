"""Object-contextual representations (Yuan et al. 2020, OCRNet, Sec. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.context.output import ContextOutput
from segsweep.models.layers.conv_module import Classifier, conv_bn_relu


class ObjectContext(nn.Module):
    """Every pixel beside a mean of the classes' regions, weighted by how like the pixel they are.

    Args:
        in_channels: Width of the input.
        channels: Width of the output.
        num_classes: Number of soft object regions.
        width: Width of pixel and region representations.
        key_channels: Width of queries, keys and values.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int,
        num_classes: int,
        width: int = 512,
        key_channels: int = 256,
    ) -> None:
        super().__init__()
        self.regions = nn.Sequential(conv_bn_relu(in_channels, width, 3), Classifier(width, num_classes))
        self.pixels = conv_bn_relu(in_channels, width, 3)
        self.query = nn.Sequential(
            conv_bn_relu(width, key_channels), conv_bn_relu(key_channels, key_channels)
        )
        self.key = nn.Sequential(conv_bn_relu(width, key_channels), conv_bn_relu(key_channels, key_channels))
        self.value = conv_bn_relu(width, key_channels)
        self.expand = conv_bn_relu(key_channels, width)
        self.merge = conv_bn_relu(2 * width, channels)

    def forward(self, features: Tensor) -> ContextOutput:
        """``(B, C_in, h, w)`` to ``(B, channels, h, w)`` and region logits ``(B, K, h, w)``."""
        logits = self.regions(features)
        pixels = self.pixels(features)
        context = self.expand(self._attend(pixels, _gather(pixels, logits)))
        merged = self.merge(torch.cat([context, pixels], dim=1))
        return ContextOutput(merged, auxiliary_logits=logits)

    def _attend(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Pixels ``(B, C, h, w)`` ask regions ``(B, C, K, 1)``; gives ``(B, key_channels, h, w)``."""
        query, key, value = (
            projected.flatten(2).transpose(1, 2)[:, None]
            for projected in (self.query(pixels), self.key(regions), self.value(regions))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return torch.unflatten(attended[:, 0].transpose(1, 2), 2, pixels.shape[-2:])


def _twice(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(in_channels, channels), conv_bn_relu(channels, channels))


def _gather(pixels: Tensor, logits: Tensor) -> Tensor:
    """Mean of the pixels ``(B, C, h, w)`` in each soft region: ``(B, C, K, 1)`` (OCRNet, eq. 2)."""
    shares = logits.flatten(2).softmax(-1)  # of each pixel in a region
    return (pixels.flatten(2) @ shares.transpose(1, 2).to(pixels.dtype))[..., None]
