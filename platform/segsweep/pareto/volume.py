"""The dominated volume of losses (less is better), and what one more point adds to it.

The public calls are ``hypervolume`` and ``ParetoArchive``; here are the algorithms behind both.
"""

from __future__ import annotations

import bisect

import numpy as np
from numpy.typing import NDArray

from segsweep.pareto.front import front_mask

Losses = NDArray[np.float64]


def volume(losses: Losses, limit: Losses) -> float:
    """Volume between the points and the corner ``limit``.

    Args:
        losses: ``(n, k)``, k in 1..4, every value below its limit; order, duplicates and dominated points do
            not matter, but every point costs time.
        limit: ``(k,)``.
    """
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


def added_volume(losses: Losses, point: Losses, limit: Losses) -> float:
    """What a point adds to the volume of the others.

    The box of the point less what the others cover of it, as in WFG (While et al. 2012): every other point
    is moved to the nearest corner of the box.

    Args:
        losses: ``(n, k)`` of the others, each below the limit.
        point: ``(k,)``, below the limit.
        limit: ``(k,)``.
    Returns:
        Zero if another point is at least as good everywhere.
    """
    inside = np.maximum(losses, point)
    covered = volume(_front_of_corners(inside, point), limit)
    return max(float(np.prod(limit - point)) - covered, 0.0)


def insert_step(xs: list[float], ys: list[float], x: float, y: float) -> float:
    """Put a point in a staircase of losses and return the area that it adds.

    Args:
        xs: Rising, from ``-inf`` to the limit of the first loss.
        ys: Falling, from the limit of the second loss to ``-inf``.
        x: First loss, below its limit.
        y: Second loss, below its limit.
    """
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


def _front_of_corners(corners: Losses, point: Losses) -> Losses:
    """Fewer corners with the same volume: on each face of the box only its own front counts."""
    if len(corners) < 2:
        return corners
    kept = [corners[(corners > point).all(axis=1)]]
    for axis in range(corners.shape[1]):
        face = corners[corners[:, axis] == point[axis]]
        rest = np.delete(face, axis, axis=1)
        kept.append(face[front_mask(rest, [False] * rest.shape[1])] if rest.shape[1] else face[:1])
    return np.concatenate(kept)


def _area(losses: Losses, limit: Losses) -> float:
    ordered = losses[np.lexsort((losses[:, 1], losses[:, 0]))]
    ceiling = np.minimum.accumulate(np.concatenate(([limit[1]], ordered[:, 1])))
    return float(((limit[0] - ordered[:, 0]) * (ceiling[:-1] - ceiling[1:])).sum())


def _volume_by_sweep(losses: Losses, limit: Losses) -> float:
    # Sweep along the third objective and keep the staircase of the first two (Beume et al. 2009, 3-D case).
    order = np.argsort(losses[:, 2], kind="stable")
    xs: list[float] = [-np.inf, float(limit[0])]
    ys: list[float] = [float(limit[1]), -np.inf]
    area = total = 0.0
    height = float(losses[order[0], 2])
    for x, y, z in losses[order].tolist():
        total += area * (z - height)
        height = z
        area += insert_step(xs, ys, x, y)
    return total + area * (float(limit[2]) - height)


def _volume_by_slices(losses: Losses, limit: Losses) -> float:
    # Hypervolume by slicing objectives (While et al. 2006): between two values of the last objective the
    # cross-section is the volume of the points seen so far.
    ordered = losses[np.argsort(losses[:, -1], kind="stable")]
    edges = np.append(ordered[:, -1], limit[-1])
    total = 0.0
    for count, depth in enumerate(np.diff(edges).tolist(), start=1):
        if depth > 0:
            total += depth * volume(ordered[:count, :-1], limit[:-1])
    return total
