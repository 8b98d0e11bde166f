"""A front that grows point by point, for sweeps whose trials end one after another."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segsweep.pareto.front import as_losses, objective_values
from segsweep.pareto.volume import added_volume, insert_step
from segsweep.records import Evaluation, Objective

_ROOM = 64  # points for which an archive has room at first


class ParetoArchive:
    """The non-dominated points of all that were added, and the hypervolume that they dominate.

    An update costs O(log n) with two objectives and O(n) array operations with more, where n is the size of
    the front; nothing is computed anew. Equal points do not dominate each other, so all of them are members.

    Args:
        maximize: k flags, true where more is better.
        reference: ``(k,)`` the corner of the hypervolume; without it none is kept. Points that are not
            better than the reference in every objective may stand on the front, but add no volume.
        log: k flags; where true, values and reference are replaced by their log10.
    Raises:
        ValueError: If the reference does not fit, is not finite, or is given for more than 4 objectives.
    """

    def __init__(
        self,
        maximize: Sequence[bool],
        *,
        reference: ArrayLike | None = None,
        log: Sequence[bool] | None = None,
    ) -> None:
        self._maximize, self._log = tuple(maximize), log
        self._front = _PairFront() if len(self._maximize) == 2 else _TableFront(len(self._maximize))
        self._volume: _AreaSum | _VolumeSum | None = None
        self._added = 0
        if reference is not None:
            corner = np.asarray(reference, dtype=np.float64).reshape(1, -1)
            limit = as_losses(corner, self._maximize, log=log)[0]
            if not 1 <= len(limit) <= 4:
                raise ValueError(f"hypervolume of {len(limit)} objectives; it is exact for 1 to 4")
            self._volume = _AreaSum(limit) if len(limit) == 2 else _VolumeSum(limit)

    def __len__(self) -> int:
        return len(self.members)

    def add(self, values: ArrayLike) -> bool:
        """Take in one point.

        Args:
            values: ``(k,)`` finite objective values.
        Returns:
            Whether it stands on the front now.
        Raises:
            ValueError: If the shape is wrong or a value is not finite; the archive is as before then.
        """
        row = np.asarray(values, dtype=np.float64).reshape(1, -1)
        loss = as_losses(row, self._maximize, log=self._log)[0]
        joined = self._front.add(loss, self._added)
        self._added += 1
        if joined and self._volume is not None:
            self._volume.add(loss)
        return joined

    @property
    def added(self) -> int:
        """Number of points that were added, dominated ones included."""
        return self._added

    @property
    def members(self) -> NDArray[np.int64]:
        """``(m,)`` the points on the front, as their positions in the order of adding, rising."""
        return np.sort(np.array(self._front.members(), dtype=np.int64))

    @property
    def hypervolume(self) -> float:
        """The volume up to the reference; never falls.

        Raises:
            ValueError: If the archive has no reference.
        """
        if self._volume is None:
            raise ValueError("the archive has no reference point; give one when it is made")
        return self._volume.total


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
    archive = ParetoArchive(
        [objective.maximize for objective in objectives],
        reference=reference,
        log=[objective.metric in log for objective in objectives],
    )
    trace: list[float] = []
    for evaluation in evaluations:
        _, rows = objective_values([evaluation], objectives)
        for row in rows:
            archive.add(row)
        trace.append(archive.hypervolume)
    return trace


class _PairFront:
    """Front of two losses: first losses rising, second falling, each with the points that have both."""

    def __init__(self) -> None:
        self._firsts: list[float] = []
        self._seconds: list[float] = []
        self._points: list[list[int]] = []

    def add(self, loss: NDArray[np.float64], point: int) -> bool:
        first, second = loss.tolist()
        left = bisect.bisect_left(self._firsts, first)
        right = left
        if left < len(self._firsts) and self._firsts[left] == first:
            if self._seconds[left] == second:
                self._points[left].append(point)
                return True
            if self._seconds[left] < second:
                return False
        elif left and self._seconds[left - 1] <= second:
            return False
        while right < len(self._seconds) and self._seconds[right] >= second:
            right += 1
        self._firsts[left:right] = [first]
        self._seconds[left:right] = [second]
        self._points[left:right] = [[point]]
        return True

    def members(self) -> list[int]:
        return [point for points in self._points for point in points]


class _TableFront:
    """Front of any number of losses: a table of members, compared column by column."""

    def __init__(self, objectives: int) -> None:
        self._columns = np.empty((objectives, _ROOM))
        self._points = np.empty(_ROOM, dtype=np.int64)
        self._size = 0

    def add(self, loss: NDArray[np.float64], point: int) -> bool:
        columns = self._columns[:, : self._size]
        as_good = np.ones(self._size, dtype=bool)
        as_bad = np.ones(self._size, dtype=bool)
        for column, value in zip(columns, loss, strict=True):
            as_good &= column <= value
            as_bad &= column >= value
        if (as_good & ~as_bad).any():
            return False
        self._leave(as_bad & ~as_good)
        self._append(loss, point)
        return True

    def members(self) -> list[int]:
        return [int(point) for point in self._points[: self._size]]

    def rows(self) -> NDArray[np.float64]:
        return self._columns[:, : self._size].T

    def _leave(self, dominated: NDArray[np.bool_]) -> None:
        kept = np.flatnonzero(~dominated)
        if kept.size < self._size:
            self._columns[:, : kept.size] = self._columns[:, kept]
            self._points[: kept.size] = self._points[kept]
            self._size = kept.size

    def _append(self, loss: NDArray[np.float64], point: int) -> None:
        if self._size == len(self._points):
            self._columns = np.concatenate([self._columns, np.empty_like(self._columns)], axis=1)
            self._points = np.concatenate([self._points, np.empty_like(self._points)])
        self._columns[:, self._size] = loss
        self._points[self._size] = point
        self._size += 1


class _AreaSum:
    """Dominated area of two losses, kept as a staircase."""

    def __init__(self, limit: NDArray[np.float64]) -> None:
        self.total = 0.0
        self._limit = (float(limit[0]), float(limit[1]))
        self._xs: list[float] = [-np.inf, self._limit[0]]
        self._ys: list[float] = [self._limit[1], -np.inf]

    def add(self, loss: NDArray[np.float64]) -> None:
        x, y = loss.tolist()
        if x < self._limit[0] and y < self._limit[1]:
            self.total += insert_step(self._xs, self._ys, x, y)


class _VolumeSum:
    """Dominated volume of one, three or four losses: each new point adds what the others leave of its box."""

    def __init__(self, limit: NDArray[np.float64]) -> None:
        self.total = 0.0
        self._limit = limit
        self._front = _TableFront(len(limit))

    def add(self, loss: NDArray[np.float64]) -> None:
        if (loss < self._limit).all():
            self.total += added_volume(self._front.rows(), loss, self._limit)
            self._front.add(loss, 0)
