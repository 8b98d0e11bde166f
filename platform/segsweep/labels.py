"""The numbers that labels may hold, defined once."""

from __future__ import annotations

IGNORE_INDEX = 255  # uint8 labels: pixels that count neither in the loss nor in the metric
IGNORE_INDEX_16 = 65535  # uint16 labels: data sets with more than 255 classes
