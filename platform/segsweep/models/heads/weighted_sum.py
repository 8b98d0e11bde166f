"""ESeg's head: one weighted sum over all levels, then a separable convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segsweep.models.layers.conv import Activation, activation_layer, conv, separable_conv
from segsweep.models.layers.resize import resize_bilinear

_CLASSIFIER_STD = 0.01  # logits start near zero, so the loss starts at ln(num_classes)


class WeightedSumHead(nn.Module):
    """Softmax-weighted sum of the up-sampled levels, one separable convolution, one linear classifier.

    Args:
        levels: Levels of the pyramid; logits have the finest of them.
        channels: Width of every level.
        num_classes: Number of classes.
        activation: Activation after the separable convolution.
    """

    def __init__(
        self, levels: Sequence[int], *, channels: int, num_classes: int, activation: Activation = "silu"
    ) -> None:
        super().__init__()
        self.levels = tuple(sorted(levels))
        self.level_scores = nn.Parameter(torch.ones(len(self.levels)))
        self.conv = separable_conv(channels, channels, bias=False)
        self.activation = activation_layer(activation)
        self.classifier = conv(channels, num_classes, bias=True)
        if not self.classifier.weight.is_meta:
            nn.init.normal_(self.classifier.weight, 0.0, _CLASSIFIER_STD)

    def level_weights(self) -> dict[int, Tensor]:
        """Share of each level in the sum; the shares add up to 1."""
        return dict(zip(self.levels, self.level_scores.softmax(0).unbind(), strict=True))

    def forward(self, pyramid: dict[int, Tensor]) -> Tensor:
        """``{l: (B, C, h_l, w_l)} -> (B, K, h, w)``, logits at the finest level."""
        weights = self.level_weights()
        # Resizing is linear: adding from coarse to fine at each level's own size would be cheaper, but it is
        # another function, since two bilinear steps are not one.
        finest, *coarser = self.levels
        size = (pyramid[finest].shape[-2], pyramid[finest].shape[-1])
        total = weights[finest] * pyramid[finest]
        for level in coarser:
            total = total + resize_bilinear(weights[level] * pyramid[level], size)
        return self.classifier(self.activation(self.conv(total)))  # type: ignore[no-any-return]
