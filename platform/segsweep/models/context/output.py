"""What every context encoder gives."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ContextOutput(NamedTuple):
    """Encoded features and what the losses of the encoder need.

    Attributes:
        features: ``(B, channels, h, w)``, the size of the input.
        class_features: ``(B, C, h, w)`` before the last convolution, on which the class-aware losses act
            (CAR); ``None`` in encoders without them.
        auxiliary_logits: ``(B, K, h, w)`` soft object regions (OCR), which want a cross-entropy of their own.
    """

    features: Tensor
    class_features: Tensor | None = None
    auxiliary_logits: Tensor | None = None
