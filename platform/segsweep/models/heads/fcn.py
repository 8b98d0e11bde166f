"""Fully convolutional head (Long et al. 2015), as mmsegmentation uses it for auxiliary losses."""

from __future__ import annotations

from torch import Tensor, nn

from segsweep.models.layers.conv_module import conv_bn_relu

_CLASSIFIER_STD = 0.01  # mmsegmentation's initialisation of every classifier
DROPOUT = 0.1  # of whole channels, before every classifier (mmsegmentation)


class Classifier(nn.Sequential):
    """Dropout of whole channels, then a 1x1 convolution to the classes.

    Args:
        channels: Width of the input.
        num_classes: Number of classes.
        dropout: Probability that a channel is dropped in training.
    """

    def __init__(self, channels: int, num_classes: int, *, dropout: float = DROPOUT) -> None:
        conv = nn.Conv2d(channels, num_classes, 1)
        if not conv.weight.is_meta:
            nn.init.normal_(conv.weight, 0.0, _CLASSIFIER_STD)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        super().__init__(nn.Dropout2d(dropout), conv)


class FCNHead(nn.Module):
    """One 3x3 convolution with batch norm and ReLU, and a classifier.

    Args:
        in_channels: Width of the input.
        channels: Width between convolution and classifier.
        num_classes: Number of classes.
        dropout: Probability that a channel is dropped in training.
    """

    def __init__(
        self, in_channels: int, *, channels: int, num_classes: int, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.conv = conv_bn_relu(in_channels, channels, 3)
        self.classifier = Classifier(channels, num_classes, dropout=dropout)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, K, h, w)``."""
        return self.classifier(self.conv(features))  # type: ignore[no-any-return]
