"""Which points are not dominated, and how crowded they stand.

A point dominates another when it is at least as good in every objective and better in one. Equal points
do not dominate each other, so both stand on the front.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.records import Evaluation, Objective, TrialStatus


def as_losses(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.float64]:
    """Objective values with every direction turned to "less is better".

    Args:
        values: ``(n, k)``, finite.
        maximize: ``k`` flags, true where more is better.
    Returns:
        ``(n, k)`` float64.
    Raises:
        ValueError: If the shape is not ``(n, k)`` or a value is NaN or infinite.
    """
    losses = np.array(values, dtype=np.float64)
    if losses.size == 0:
        losses = losses.reshape(0, len(maximize))
    if losses.ndim != 2 or losses.shape[1] != len(maximize):
        raise ValueError(
            f"values have shape {losses.shape}; {len(maximize)} objectives need (n, {len(maximize)})"
        )
    if not np.isfinite(losses).all():
        row = int(np.flatnonzero(~np.isfinite(losses).all(axis=1))[0])
        raise ValueError(
            f"row {row} of the values is not finite: {losses[row].tolist()}; leave such trials out"
        )
    # Adding 0 makes -0.0 the same row as 0.0.
    return np.where(np.asarray(maximize, dtype=bool), -losses, losses) + 0.0


def non_dominated_rank(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.int64]:
    """Front number of every point: 0 for the front, 1 for the front of what is left, and so on.

    Non-dominated sorting of NSGA-II (Deb et al. 2002, Sec. III-A), O(n^2 k).

    Args:
        values: ``(n, k)`` objective values.
        maximize: ``k`` flags, true where more is better.
    Returns:
        ``(n,)`` ranks.
    Raises:
        ValueError: If the shapes disagree or a value is not finite.
    """
    losses = as_losses(values, maximize)
    ranks = np.full(len(losses), -1, dtype=np.int64)
    left = np.arange(len(losses))
    rank = 0
    while left.size:
        on_front = _front_of_losses(losses[left])
        ranks[left[on_front]] = rank
        left = left[~on_front]
        rank += 1
    return ranks


def front_mask(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.bool_]:
    """True where a point is dominated by none; shapes and errors as ``non_dominated_rank``."""
    return _front_of_losses(as_losses(values, maximize))


def _front_of_losses(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    # Different rows in lexicographic order: a point can only be dominated by one that comes before it.
    points, place = np.unique(losses, axis=0, return_inverse=True)
    mask = _staircase(points) if points.shape[1] == 2 else _front_in_order(points)
    return mask[place.reshape(-1)]


def _staircase(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    lowest_before = np.minimum.accumulate(np.concatenate(([np.inf], points[:-1, 1])))
    mask: NDArray[np.bool_] = points[:, 1] < lowest_before[: len(points)]
    return mask


def _front_in_order(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    mask = np.zeros(len(points), dtype=bool)
    front = np.empty_like(points)
    size = 0
    for index, point in enumerate(points):
        if not (front[:size] <= point).all(axis=1).any():
            front[size] = point
            mask[index] = True
            size += 1
    return mask


def crowding_distance(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.float64]:
    """Crowding distance of NSGA-II (Deb et al. 2002, Sec. III-B): how much room a point has in its front.

    Every objective is divided by its range in ``values``; the best and the worst point of an objective get
    infinity. Call it with the points of one front.

    Args:
        values: ``(n, k)`` objective values.
        maximize: ``k`` flags; the distance itself does not depend on the directions.
    Returns:
        ``(n,)`` distances, larger is lonelier.
    Raises:
        ValueError: If the shapes disagree or a value is not finite.
    """
    losses = as_losses(values, maximize)
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if len(ordered) == 0 or ordered[0] == ordered[-1]:
            continue
        distance[order[0]] = distance[order[-1]] = np.inf
        distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    return distance


def objective_values(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective]
) -> tuple[list[Evaluation], NDArray[np.float64]]:
    """The complete evaluations that have every objective, and their values ``(n, k)``."""
    usable: list[Evaluation] = []
    rows: list[list[float]] = []
    for evaluation in evaluations:
        metrics = evaluation.metrics() if evaluation.status is TrialStatus.COMPLETE else {}
        row = [float(metrics.get(objective.metric, np.nan)) for objective in objectives]
        if np.isfinite(row).all():
            usable.append(evaluation)
            rows.append(row)
    return usable, np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))


def front_of(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> list[Evaluation]:
    """The non-dominated complete evaluations, in the order given.

    Stopped, failed and infeasible trials never stand on a front, nor does a complete one that lacks an
    objective (speed not measured).
    """
    usable, values = objective_values(evaluations, objectives)
    mask = front_mask(values, [objective.maximize for objective in objectives])
    return [evaluation for evaluation, on_front in zip(usable, mask, strict=True) if on_front]
