"""Which of several fronts is ahead at which budget, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.pareto.attainment import lowest_second
from segsweep.pareto.front import as_losses


@dataclass(frozen=True, kw_only=True)
class Lead:
    """A range of budgets in which the same front is ahead, or all are level.

    A budget is a bound on the first objective (at most so many MACs; at least so many images per second).

    Attributes:
        start: The tightest budget of the range, included.
        stop: The budget at which the next range begins; ``None`` for the last range, which has no end.
        leader: Position of the front that is ahead; ``None`` where the best are level.
        smallest: Least lead over the second best in the range, in units of the second objective; 0 where
            level; ``None`` where no other front has any point within the budget.
        largest: Greatest lead likewise.
    """

    start: float
    stop: float | None
    leader: int | None
    smallest: float | None
    largest: float | None


def leads(fronts: Sequence[ArrayLike], maximize: Sequence[bool], *, tolerance: float = 0.0) -> list[Lead]:
    """Compare what every front offers at each budget, from the tightest budget to the widest.

    Args:
        fronts: One ``(n, 2)`` set each; the first objective is the budget, the second is what it buys.
        maximize: Two flags, true where more is better.
        tolerance: Leads up to this are called level.
    Returns:
        Adjoining ranges; neighbours differ in their leader, or in whether anyone else is within the budget.
    Raises:
        ValueError: If there are not two objectives or a value is not finite.
    """
    if len(maximize) != 2:
        raise ValueError(f"leads are found for 2 objectives, not {len(maximize)}")
    losses = [as_losses(front, maximize) for front in fronts]
    firsts = np.unique(np.concatenate([front[:, 0] for front in losses] or [np.empty(0)]))
    if firsts.size == 0:
        return []
    table = np.stack([lowest_second(front, firsts) for front in losses])
    steps = [_step(column, tolerance) for column in table.T]
    starts = [0, *(i for i in range(1, len(steps)) if _kind(steps[i]) != _kind(steps[i - 1]))]
    budgets = np.where(maximize[0], -firsts, firsts) + 0.0
    found = []
    for start, stop in zip(starts, [*starts[1:], len(steps)], strict=True):
        margins = [margin for _, margin in steps[start:stop] if margin is not None]
        found.append(
            Lead(
                start=float(budgets[start]),
                stop=float(budgets[stop]) if stop < len(steps) else None,
                leader=steps[start][0],
                smallest=min(margins, default=None),
                largest=max(margins, default=None),
            )
        )
    return found


_Step = tuple[int | None, float | None]  # leader and margin


def _step(seconds: NDArray[np.float64], tolerance: float) -> _Step:
    """Leader and lead at one budget; a margin of ``None`` where nobody else is within it."""
    order = np.argsort(seconds, kind="stable")
    if len(seconds) < 2 or not np.isfinite(seconds[order[1]]):
        return int(order[0]), None
    margin = float(seconds[order[1]] - seconds[order[0]])
    return (None, 0.0) if margin <= tolerance else (int(order[0]), margin)


def _kind(step: _Step) -> tuple[int | None, bool]:
    return step[0], step[1] is None
