"""Knees: the members of a front beyond which one more step in an objective costs most in the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.pareto.front import as_losses, front_mask, objective_values
from segsweep.records import RATIO_METRICS, Evaluation, Objective

_SAME_DISTANCE = 1e-9  # of normalised sums: rounding, far below any measured difference


def knee_of(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> list[Evaluation]:
    """The knee of the front of complete evaluations; costs (``RATIO_METRICS``) count in decades.

    Whatever names a knee takes it from here, so that a sweep has one knee wherever it is shown.

    Args:
        evaluations: Of any status; those that may not stand on a front are left out.
        objectives: The k objectives.
    Returns:
        In the order given: one, or several where they are as near to the ideal point (see ``knee_points``);
        empty only without a complete evaluation that has every objective.
    """
    usable, values = objective_values(evaluations, objectives)
    # a cost of zero has no logarithm: such an objective stays linear
    decades = [
        objective.metric in RATIO_METRICS and bool((column > 0).all())
        for objective, column in zip(objectives, values.T, strict=True)
    ]
    rows = knee_points(values, [objective.maximize for objective in objectives], log=decades)
    return [usable[row] for row in rows]


def knee_points(
    values: ArrayLike, maximize: Sequence[bool], *, log: Sequence[bool] | None = None
) -> NDArray[np.int64]:
    """The front members nearest to the ideal point, by the sum of what they lack in each objective.

    Every objective is scaled to [0, 1] over the front. The smallest sum is the minimum Manhattan distance of
    Chiu et al. 2016; with two objectives it is the member farthest from the line through the two ends of the
    front (Das 1999). Pass ``log`` for costs that span decades: on a linear scale the knee of such a front is
    nearly always its cheapest members.

    Args:
        values: ``(n, k)`` objective values; dominated points may be among them and are never knees.
        maximize: ``k`` flags, true where more is better.
        log: ``k`` flags; where true, an objective counts in decades and must be positive.
    Returns:
        Rows of ``values``, rising: one, or several where the sum is the same (a front of two members has no
        bend, so both are given); empty only without points.
    Raises:
        ValueError: If the shapes disagree, a value is not finite, or ``log`` meets a value <= 0.
    """
    losses = as_losses(values, maximize, log=log)
    members: NDArray[np.int64] = np.flatnonzero(front_mask(losses, [False] * losses.shape[1]))
    if members.size == 0:
        return members
    front = losses[members]
    ideal, nadir = front.min(axis=0), front.max(axis=0)
    lacks = ((front - ideal) / np.where(nadir > ideal, nadir - ideal, 1.0)).sum(axis=1)
    return np.asarray(members[lacks <= lacks.min() + _SAME_DISTANCE], dtype=np.int64)
