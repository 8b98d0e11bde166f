"""How much each design axis matters: shares of explained variance that add up.

The measure is that of Lindeman, Merenda and Gold (1980; "LMG", Groemping 2007): an additive regression on
the axes is fitted for every order in which axes may enter, and an axis gets the mean growth of R^2 when it
enters. That is the Shapley value of R^2, so axes that a sampler moved together share what they explain, and
the shares add up to the R^2 of all axes. They are scaled down to the adjusted R^2, which does not grow with
the number of columns alone; what is missing to 1 is interactions and noise. Costs are explained on a
logarithmic scale, because widths and repeats multiply them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segsweep.records import AxisValue, Evaluation

MIN_TRIALS = 20
TRIALS_PER_COLUMN = 2  # fewer and R^2 says more about the regression than about the axes
EXACT_AXES = 8  # 2**8 regressions; with more axes a fixed sample of orders is taken
SAMPLED_ORDERS = 48
DECADE = 10.0  # a numeric axis that spans one is taken on a logarithmic scale
RIDGE = 1e-8  # keeps columns that say the same from dividing by zero

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What the axes explain of one metric.

    Attributes:
        metric: Key of ``Evaluation.metrics()``.
        trials: Trials behind the figures.
        needed: Trials that are needed; with fewer there are no shares.
        explained: Adjusted R^2 of all axes together, in 0..1.
        shares: Axis -> share of the variance; they add up to ``explained``.
        constant: Axes that never changed, so nothing can be said of them.
    """

    metric: str
    trials: int
    needed: int
    explained: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    constant: tuple[str, ...] = ()


def axis_importance(evaluations: Sequence[Evaluation], metric: str, axes: Sequence[str]) -> Importance:
    """Explain a metric by the axes, over the trials that have it.

    Args:
        evaluations: Of one space and one schedule. mIoU is known of complete trials only, costs of all that
            were counted.
        metric: Key of ``Evaluation.metrics()``.
        axes: Names of the axes.
    """
    rows = [(e.point, e.metrics().get(metric, math.nan)) for e in evaluations]
    rows = [(point, value) for point, value in rows if math.isfinite(value) and _on_scale(metric, value)]
    columns = {axis: _columns([point.get(axis) for point, _ in rows]) for axis in axes} if rows else {}
    changing = {axis: block for axis, block in columns.items() if block.shape[1]}
    width = sum(block.shape[1] for block in changing.values())
    needed = max(MIN_TRIALS, TRIALS_PER_COLUMN * (width + 1))
    found = Importance(
        metric=metric,
        trials=len(rows),
        needed=needed,
        constant=tuple(axis for axis in columns if axis not in changing),
    )
    values = np.array([value for _, value in rows], dtype=np.float64)
    target = values if metric == "miou" else np.log(values)
    if len(rows) < needed or not changing or np.ptp(target) == 0:
        return found
    shares = _shapley(_Explained(changing, target), len(changing))
    total = sum(shares)
    adjusted = max(0.0, 1 - (1 - total) * (len(rows) - 1) / (len(rows) - width - 1))
    scale = adjusted / total if total > 0 else 0.0
    scaled = dict(zip(changing, (share * scale for share in shares), strict=True))
    return Importance(
        metric=metric,
        trials=len(rows),
        needed=needed,
        explained=adjusted,
        shares=scaled,
        constant=found.constant,
    )


def _on_scale(metric: str, value: float) -> bool:
    return metric == "miou" or value > 0


def _columns(values: Sequence[AxisValue | None]) -> Matrix:
    """An axis as columns ``(n, c)``: level and square of a number, else one column for each other level.

    Where the axis is not active, a number's columns are 0 and one more column says so.
    """
    levels = list(dict.fromkeys(values))
    if len(levels) < 2:
        return np.empty((len(values), 0))
    numbers = [level for level in levels if isinstance(level, (int, float)) and not isinstance(level, bool)]
    others = [level for level in levels if level is not None]
    if len(numbers) < len(others) or len(numbers) < 3:
        return np.array([[float(value == level) for level in levels[1:]] for value in values])
    logarithmic = min(numbers) > 0 and max(numbers) >= DECADE * min(numbers)
    active = np.array([value is not None for value in values])
    scaled = np.array([1.0 if value is None else float(value) for value in values])
    if logarithmic:
        scaled = np.log(scaled)
    level = np.where(active, (scaled - scaled[active].mean()) / scaled[active].std(), 0.0)
    blocks = [level, level**2] + ([] if active.all() else [active.astype(np.float64)])
    return np.stack(blocks, axis=1)


class _Explained:
    """R^2 of an additive regression on a subset of the axes, given as bits; each subset is fitted once."""

    def __init__(self, columns: Mapping[str, Matrix], target: Matrix) -> None:
        table = np.concatenate(list(columns.values()), axis=1)
        table = table - table.mean(axis=0)
        table /= np.maximum(table.std(axis=0), 1e-12)
        centred = (target - target.mean()) / target.std()
        self._gram = table.T @ table / len(table) + RIDGE * np.eye(table.shape[1])
        self._with_target = table.T @ centred / len(table)
        ends = list(itertools.accumulate(block.shape[1] for block in columns.values()))
        self._places = [list(range(start, end)) for start, end in zip([0, *ends], ends, strict=False)]
        self._known: dict[int, float] = {0: 0.0}

    def __call__(self, subset: int) -> float:
        if subset not in self._known:
            chosen = [c for bit, places in enumerate(self._places) if subset >> bit & 1 for c in places]
            part = self._with_target[chosen]
            solved = np.linalg.solve(self._gram[np.ix_(chosen, chosen)], part)
            self._known[subset] = min(1.0, max(0.0, float(part @ solved)))
        return self._known[subset]


def _shapley(explained: _Explained, axes: int) -> list[float]:
    """Mean growth of R^2 when an axis enters, over all orders or a sample of them and their reverses."""
    if axes <= EXACT_AXES:
        return [_exact(explained, axis, axes) for axis in range(axes)]
    draw = random.Random(0)
    growth = [0.0] * axes
    for _ in range(SAMPLED_ORDERS):
        order = draw.sample(range(axes), axes)
        for one in (order, order[::-1]):
            subset = 0
            for axis in one:
                growth[axis] += explained(subset | 1 << axis) - explained(subset)
                subset |= 1 << axis
    return [value / (2 * SAMPLED_ORDERS) for value in growth]


def _exact(explained: _Explained, axis: int, axes: int) -> float:
    total = 0.0
    for subset in range(1 << axes):
        if not subset >> axis & 1:
            size = subset.bit_count()
            weight = math.factorial(size) * math.factorial(axes - size - 1) / math.factorial(axes)
            total += weight * (explained(subset | 1 << axis) - explained(subset))
    return total
