"""How two sets of points compare: coverage, epsilon, hypervolume ratio.

None of them needs to know which set is the truth; all but the ratio are worth reading in both directions
(Zitzler et al. 2003, "Performance assessment of multiobjective optimizers").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.pareto.front import as_losses
from segsweep.pareto.hypervolume import hypervolume

_PAIRS_AT_ONCE = 2_000_000  # comparisons held in memory: 16 MB


def coverage(first: ArrayLike, second: ArrayLike, maximize: Sequence[bool]) -> float:
    """Share of the second set that a point of the first equals or dominates (Zitzler and Thiele 1998).

    ``coverage(a, b)`` and ``coverage(b, a)`` do not add up to one: points that no point of the other set
    reaches count in neither.

    Args:
        first: ``(n, k)`` objective values.
        second: ``(m, k)`` objective values.
        maximize: ``k`` flags, true where more is better.
    Returns:
        A share in [0, 1].
    Raises:
        ValueError: If a set is empty, shapes disagree or a value is not finite.
    """
    ours, theirs = _two_sets(first, second, maximize)
    covered = 0
    for block in _blocks(theirs, len(ours)):
        covered += int(np.any(np.all(ours[None] <= block[:, None], axis=2), axis=1).sum())
    return covered / len(theirs)


def epsilon_indicator(
    first: ArrayLike,
    second: ArrayLike,
    maximize: Sequence[bool],
    *,
    kind: Literal["additive", "multiplicative"] = "additive",
    scale: ArrayLike | None = None,
) -> float:
    """By how much the first set must improve everywhere to reach every point of the second.

    Additive: the smallest number that, taken off every loss of ``first``, makes each point of ``second``
    weakly dominated. Multiplicative: the smallest factor by which every cost may be divided, and every
    benefit multiplied, to the same end. At most 0 (or 1): ``first`` reaches all of ``second`` as it is.

    Args:
        first: ``(n, k)`` objective values.
        second: ``(m, k)`` objective values.
        maximize: ``k`` flags, true where more is better.
        kind: Multiplicative needs positive values.
        scale: ``(k,)`` what counts as one unit of each objective; additive only, and needed wherever
            objectives have different units (the range of the united fronts, for example).
    Returns:
        The epsilon, in units of ``scale`` or as a factor.
    Raises:
        ValueError: If a set is empty, shapes disagree, a value is not finite, or a number that must be
            positive is not.
    """
    ours, theirs = _two_sets(first, second, maximize)
    if kind == "multiplicative":
        ours, theirs = _log_losses(first, maximize), _log_losses(second, maximize)
    elif scale is not None:
        units = np.asarray(scale, dtype=np.float64)
        if units.shape != (len(maximize),) or not (units > 0).all():
            raise ValueError(f"scale is {units.tolist()}; it needs {len(maximize)} positive numbers")
        ours, theirs = ours / units, theirs / units
    worst = max(
        float((ours[None] - block[:, None]).max(axis=2).min(axis=1).max())
        for block in _blocks(theirs, len(ours))
    )
    return float(np.exp(worst)) if kind == "multiplicative" else worst


def hypervolume_ratio(
    first: ArrayLike, second: ArrayLike, reference: ArrayLike, maximize: Sequence[bool]
) -> float:
    """Hypervolume of the first set over that of the second, at one reference point.

    Args:
        first: ``(n, k)`` objective values.
        second: ``(m, k)`` objective values.
        reference: ``(k,)`` as for ``hypervolume``.
        maximize: ``k`` flags, true where more is better.
    Raises:
        ValueError: As ``hypervolume``; and if the second set has no volume, because none of its points is
            better than the reference in every objective.
    """
    volume = hypervolume(second, reference, maximize)
    if volume == 0:
        raise ValueError("the second set has no volume at this reference; move the reference away from it")
    return hypervolume(first, reference, maximize) / volume


def _two_sets(
    first: ArrayLike, second: ArrayLike, maximize: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ours, theirs = as_losses(first, maximize), as_losses(second, maximize)
    for name, points in (("first", ours), ("second", theirs)):
        if len(points) == 0:
            raise ValueError(f"the {name} set is empty; an indicator compares points with points")
    return ours, theirs


def _log_losses(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64)
    if (points <= 0).any():
        raise ValueError("the multiplicative epsilon needs positive objective values; use the additive one")
    return as_losses(np.log(points), maximize)


def _blocks(points: NDArray[np.float64], others: int) -> list[NDArray[np.float64]]:
    count = max(1, _PAIRS_AT_ONCE // max(others * points.shape[1], 1))
    return [points[start : start + count] for start in range(0, len(points), count)]
