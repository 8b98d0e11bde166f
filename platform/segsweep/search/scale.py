"""On what scale the values of an objective are compared where differences matter, not only order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from segsweep.records import RATIO_METRICS, Objective


def comparable_values(objectives: Sequence[Objective], values: Mapping[str, float]) -> list[float]:
    """The objectives' values in order, costs as log10.

    Args:
        objectives: What is optimised.
        values: Value by metric; more may be there.
    Raises:
        ValueError: If an objective is missing, not finite, or a cost that is not positive.
    """
    scaled: list[float] = []
    for objective in objectives:
        value = values.get(objective.metric)
        is_ratio = objective.metric in RATIO_METRICS
        if value is None or not math.isfinite(value) or (is_ratio and value <= 0):
            allowed = "a positive number" if is_ratio else "a finite number"
            raise ValueError(
                f"objective {objective.metric} is {value}, it must be {allowed}; "
                "tell the trial as failed instead"
            )
        scaled.append(math.log10(value) if is_ratio else float(value))
    return scaled
