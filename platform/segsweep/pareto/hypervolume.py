"""Hypervolume: the volume that a set of points dominates, up to a reference point.

Exact for one to four objectives. It is the one figure that grows whenever a front gets better and never
when it does not (Zitzler and Thiele 1998).
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.pareto.front import as_losses, front_mask, objective_values
from segsweep.records import Evaluation, Objective

REFERENCE_MARGIN = 0.1  # of the largest cost seen, where no reference is given

Losses = NDArray[np.float64]


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
    if log is not None:
        points, corner = _log10(points, log), _log10(corner, log)
    losses = as_losses(points, maximize)
    limit = as_losses(corner, maximize)[0]
    losses = losses[(losses < limit).all(axis=1)]
    losses = np.unique(losses[front_mask(losses, [False] * len(maximize))], axis=0)
    return _volume(losses, limit)


def _log10(values: Losses, log: Sequence[bool]) -> Losses:
    columns = np.asarray(log, dtype=bool)
    if (values[:, columns] <= 0).any():
        raise ValueError(
            "log10 needs positive objective values and a positive reference; set log to false there"
        )
    out = values.copy()
    out[:, columns] = np.log10(values[:, columns])
    return out


def _volume(losses: Losses, limit: Losses) -> float:
    if len(losses) == 0:
        return 0.0
    dimensions = losses.shape[1]
    if dimensions == 1:
        return float(limit[0] - losses[:, 0].min())
    if dimensions == 2:
        return _area(losses, limit)
    if dimensions == 3:
        return _volume_by_sweep(losses, limit)
    return _volume_by_slices(losses, limit)


def _area(losses: Losses, limit: Losses) -> float:
    ordered = losses[np.lexsort((losses[:, 1], losses[:, 0]))]
    ceiling = np.minimum.accumulate(np.concatenate(([limit[1]], ordered[:, 1])))
    return float(((limit[0] - ordered[:, 0]) * (ceiling[:-1] - ceiling[1:])).sum())


def _volume_by_sweep(losses: Losses, limit: Losses) -> float:
    # Sweep along the third objective and keep the staircase of the first two (Beume et al. 2009, 3-D case).
    order = np.argsort(losses[:, 2], kind="stable")
    xs: list[float] = [-np.inf, float(limit[0])]  # staircase: x rising, y falling, with sentinels
    ys: list[float] = [float(limit[1]), -np.inf]
    area = volume = 0.0
    height = float(losses[order[0], 2])
    for x, y, z in losses[order].tolist():
        volume += area * (z - height)
        height = z
        area += _insert_step(xs, ys, x, y)
    return volume + area * (float(limit[2]) - height)


def _insert_step(xs: list[float], ys: list[float], x: float, y: float) -> float:
    """Put (x, y) in the staircase; return the area that it adds."""
    left = bisect.bisect_right(xs, x)
    if ys[left - 1] <= y:
        return 0.0
    right = left
    added = 0.0
    start = x
    while ys[right] >= y:  # the new step covers the old steps that it dominates
        added += (xs[right] - start) * (ys[right - 1] - y)
        start = xs[right]
        right += 1
    added += (xs[right] - start) * (ys[right - 1] - y)
    if xs[left - 1] == x:
        left -= 1
    xs[left:right] = [x]
    ys[left:right] = [y]
    return added


def _volume_by_slices(losses: Losses, limit: Losses) -> float:
    # Hypervolume by slicing objectives (While et al. 2006): between two values of the last objective the
    # cross-section is the volume of the points seen so far.
    ordered = losses[np.argsort(losses[:, -1], kind="stable")]
    edges = np.append(ordered[:, -1], limit[-1])
    volume = 0.0
    for count, depth in enumerate(np.diff(edges).tolist(), start=1):
        if depth > 0:
            volume += depth * _volume(ordered[:count, :-1], limit[:-1])
    return volume


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


def hypervolume_trace(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    reference: ArrayLike,
    *,
    log: Collection[str] = (),
) -> list[float]:
    """Hypervolume after each evaluation, in the order given; never falls.

    Trials that are not complete repeat the value before them.

    Args:
        evaluations: In the order in which they ended.
        objectives: The k objectives.
        reference: ``(k,)`` as from ``reference_point``.
        log: Metrics that are measured in decades (log10).
    Returns:
        One volume per evaluation.
    Raises:
        ValueError: As ``hypervolume``.
    """
    maximize = [objective.maximize for objective in objectives]
    scales = [objective.metric in log for objective in objectives]
    front = np.empty((0, len(objectives)))
    trace: list[float] = []
    for evaluation in evaluations:
        _, row = objective_values([evaluation], objectives)
        if len(row):
            front = np.concatenate([front, row])
            mask = front_mask(front, maximize)
            front = front[mask]
        if not trace or (len(row) and mask[-1]):
            trace.append(hypervolume(front, reference, maximize, log=scales))
        else:
            trace.append(trace[-1])
    return trace
