"""Which points are not dominated.

A point dominates another when it is at least as good in every objective and better in one. Equal points
do not dominate each other, so both stand on the front.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.records import Evaluation, Objective, TrialStatus


def as_losses(
    values: ArrayLike, maximize: Sequence[bool], *, log: Sequence[bool] | None = None
) -> NDArray[np.float64]:
    """Objective values with every direction turned to "less is better".

    Args:
        values: ``(n, k)``, finite.
        maximize: ``k`` flags, true where more is better.
        log: ``k`` flags; where true, the value is replaced by its log10, so that halving a cost counts the
            same at every scale. It must be positive there.
    Returns:
        ``(n, k)`` float64.
    Raises:
        ValueError: If the shape is not ``(n, k)``, a value is NaN or infinite, or ``log`` meets a number that
            is not positive.
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
    if log is not None:
        decades = np.asarray(log, dtype=bool)
        if (losses[:, decades] <= 0).any():
            raise ValueError("log10 needs positive objective values; set log to false there")
        losses[:, decades] = np.log10(losses[:, decades])
    # Adding 0 makes -0.0 the same row as 0.0.
    return np.where(np.asarray(maximize, dtype=bool), -losses, losses) + 0.0


def non_dominated_rank(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.int64]:
    """Front number of every point: 0 for the front, 1 for the front of what is left, and so on.

    Non-dominated sorting of NSGA-II (Deb et al. 2002, Sec. III-A): O(n log n) for two objectives, else
    O(n^2 k).

    Args:
        values: ``(n, k)`` objective values.
        maximize: ``k`` flags, true where more is better.
    Returns:
        ``(n,)`` ranks.
    Raises:
        ValueError: If the shapes disagree or a value is not finite.
    """
    points, place = _distinct(as_losses(values, maximize))
    ranks = _ranks_of_pairs(points) if points.shape[1] == 2 else _ranks_in_order(points)
    return ranks[place]


def _ranks_of_pairs(points: NDArray[np.float64]) -> NDArray[np.int64]:
    # In lexicographic order the lowest second loss of a front tells whether the front dominates a new point,
    # and these lowest losses rise with the rank.
    lowest: list[float] = []
    ranks = np.empty(len(points), dtype=np.int64)
    for index, second in enumerate(points[:, 1].tolist()):
        rank = bisect.bisect_right(lowest, second)
        lowest[rank : rank + 1] = [second]
        ranks[index] = rank
    return ranks


def _ranks_in_order(points: NDArray[np.float64]) -> NDArray[np.int64]:
    # In lexicographic order all that dominate a point come before it; its rank is one more than the highest
    # of theirs.
    columns = np.ascontiguousarray(points.T)
    ranks = np.zeros(len(points), dtype=np.int64)
    for index in range(1, len(points)):
        dominating = columns[0, :index] <= columns[0, index]
        for column in columns[1:]:
            dominating &= column[:index] <= column[index]
        above = ranks[:index][dominating]
        if above.size:
            ranks[index] = above.max() + 1
    return ranks


def front_mask(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.bool_]:
    """True where a point is dominated by none; shapes and errors as ``non_dominated_rank``."""
    return _front_of_losses(as_losses(values, maximize))


def _front_of_losses(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    # In lexicographic order a point can only be dominated by one that comes before it.
    points, place = _distinct(losses)
    dimensions = points.shape[1]
    if dimensions == 2:
        return _front_of_pairs(points)[place]
    return (_front_of_triples(points) if dimensions == 3 else _front_in_order(points))[place]


def _distinct(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The different rows in lexicographic order, and the place of each given row among them."""
    order = np.lexsort(losses.T[::-1])  # np.unique(axis=0) takes five times as long
    ordered = losses[order]
    is_new = np.ones(len(losses), dtype=bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    place = np.empty(len(losses), dtype=np.int64)
    place[order] = np.cumsum(is_new) - 1
    return ordered[is_new], place


def _front_of_pairs(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    lowest_before = np.minimum.accumulate(np.concatenate(([np.inf], points[:-1, 1])))
    mask: NDArray[np.bool_] = points[:, 1] < lowest_before[: len(points)]
    return mask


def _front_of_triples(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    # The staircase of the last two losses of all points so far (Kung et al. 1975): O(n log n).
    ys: list[float] = [-np.inf]
    zs: list[float] = [np.inf]
    mask = np.zeros(len(points), dtype=bool)
    for index, (y, z) in enumerate(points[:, 1:].tolist()):
        right = bisect.bisect_right(ys, y)
        if zs[right - 1] <= z:
            continue
        mask[index] = True
        left = right - 1 if ys[right - 1] == y else right
        while right < len(zs) and zs[right] >= z:
            right += 1
        ys[left:right] = [y]
        zs[left:right] = [z]
    return mask


def _front_in_order(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    mask = np.zeros(len(points), dtype=bool)
    front = np.empty_like(points.T)
    size = 0
    for index, point in enumerate(points):
        dominating = np.ones(size, dtype=bool)
        for column, value in zip(front[:, :size], point, strict=True):
            dominating &= column <= value
        if not dominating.any():
            front[:, size] = point
            mask[index] = True
            size += 1
    return mask


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
