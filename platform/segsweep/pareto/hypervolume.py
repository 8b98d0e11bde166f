"""Hypervolume: the volume that a set of points dominates, up to a reference point.

Exact for one to four objectives. It is the one figure that grows whenever a front gets better and never
when it does not (Zitzler and Thiele 1998).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.pareto.archive import hypervolume_trace
from segsweep.pareto.front import as_losses, front_mask
from segsweep.pareto.volume import volume
from segsweep.records import Evaluation, Objective

__all__ = ["REFERENCE_MARGIN", "hypervolume", "hypervolume_trace", "reference_point"]

REFERENCE_MARGIN = 0.1  # of the largest cost seen, where no reference is given


def hypervolume(
    values: ArrayLike, reference: ArrayLike, maximize: Sequence[bool], *, log: Sequence[bool] | None = None
) -> float:
    """Exact dominated volume.

    Args:
        values: ``(n, k)`` objective values, k in 1..4; order and duplicates do not matter.
        reference: ``(k,)`` the point against which is measured. A point that is not better than the
            reference in every objective adds nothing.
        maximize: ``k`` flags, true where more is better.
        log: ``k`` flags; where true, values and reference are replaced by their log10, so that halving
            a cost counts the same at every scale. They must be positive there.
    Returns:
        The volume in the product of the units (decades where ``log``).
    Raises:
        ValueError: If shapes disagree, k is not in 1..4, a value is not finite, or ``log`` meets a
            number that is not positive.
    """
    if not 1 <= len(maximize) <= 4:
        raise ValueError(f"hypervolume of {len(maximize)} objectives; it is exact for 1 to 4")
    corner = np.asarray(reference, dtype=np.float64).reshape(1, -1)
    points = np.asarray(values, dtype=np.float64).reshape(-1, corner.shape[1])
    losses = as_losses(points, maximize, log=log)
    limit = as_losses(corner, maximize, log=log)[0]
    losses = losses[(losses < limit).all(axis=1)]
    return volume(losses[front_mask(losses, [False] * len(maximize))], limit)


def reference_point(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    *,
    given: Mapping[str, float] | None = None,
    margin: float = REFERENCE_MARGIN,
) -> NDArray[np.float64]:
    """The reference against which a sweep's hypervolume is measured.

    Per objective: the value in ``given`` (a job may fix it, and must where two sweeps are compared); else 0
    where more is better (mIoU, images per second); else the largest value seen times ``1 + margin``.

    Args:
        evaluations: Where the largest cost is looked up; trials of any status count, if they have the cost.
        objectives: Order of the result.
        given: Fixed references by metric.
        margin: Share added to the largest cost, so that the dearest design still adds volume.
    Returns:
        ``(k,)`` float64.
    Raises:
        ValueError: If a minimised objective is neither given nor seen.
    """
    fixed = dict(given or {})
    corner: list[float] = []
    for objective in objectives:
        seen = [row[objective.metric] for e in evaluations if objective.metric in (row := e.metrics())]
        if objective.metric in fixed:
            corner.append(float(fixed[objective.metric]))
        elif objective.maximize:
            corner.append(0.0)
        elif seen:
            corner.append(max(seen) * (1 + margin))
        else:
            raise ValueError(
                f"no trial has {objective.metric} yet, so it has no reference; give one or wait for a trial"
            )
    return np.array(corner, dtype=np.float64)
