"""What several runs of the same search reached: empirical attainment (Grunert da Fonseca et al. 2001)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.pareto.front import as_losses


def attainment_surface(
    fronts: Sequence[ArrayLike], maximize: Sequence[bool], *, runs: int
) -> NDArray[np.float64]:
    """The best trade-offs that at least ``runs`` of the runs reach, for two objectives.

    With ``runs = 1`` it is the front of all runs together, with ``runs = len(fronts)`` what every run
    reached, and with half of them the median surface.

    Args:
        fronts: One ``(n, 2)`` set per run; dominated points in it do not matter.
        maximize: Two flags, true where more is better.
        runs: In ``1..len(fronts)``.
    Returns:
        ``(m, 2)`` corners of the staircase, the best first objective first; empty if too few runs have
        points.
    Raises:
        ValueError: If ``runs`` is outside, there are not two objectives, or a value is not finite.
    """
    if not 1 <= runs <= len(fronts):
        raise ValueError(f"runs is {runs}; there are {len(fronts)} fronts")
    if len(maximize) != 2:
        raise ValueError(f"attainment surfaces are drawn for 2 objectives, not {len(maximize)}")
    losses = [as_losses(front, maximize) for front in fronts]
    firsts = np.unique(np.concatenate([front[:, 0] for front in losses]))
    reached = np.sort([lowest_second(front, firsts) for front in losses], axis=0)[runs - 1]
    is_corner = reached < np.concatenate(([np.inf], reached[:-1]))
    corners = np.stack([firsts[is_corner], reached[is_corner]], axis=1)
    return np.where(np.asarray(maximize, dtype=bool), -corners, corners) + 0.0


def median_runs(runs: int) -> int:
    """How many of the runs reach the median surface: half of them, rounded up."""
    return (runs + 1) // 2


def lowest_second(losses: NDArray[np.float64], firsts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest second loss that a set offers at each budget of the first.

    Args:
        losses: ``(n, 2)``.
        firsts: ``(m,)`` budgets.
    Returns:
        ``(m,)``, infinite where the budget is below every point.
    """
    ordered = losses[np.argsort(losses[:, 0], kind="stable")]
    lowest = np.minimum.accumulate(np.append(np.inf, ordered[:, 1]))
    found: NDArray[np.float64] = lowest[np.searchsorted(ordered[:, 0], firsts, side="right")]
    return found
