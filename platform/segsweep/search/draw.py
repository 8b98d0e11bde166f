"""Points without a model: at random, or all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from segsweep.errors import SegsweepError
from segsweep.records import AxisValue, Point
from segsweep.search.space import SearchSpace

RANDOM_TRIES = 2_000  # draws before a space is searched by enumeration or called exhausted
ENUMERATION_LIMIT = 200_000  # points


class SpaceExhausted(SegsweepError):
    """No point is left that was not asked and meets the constraints on axes."""


def draw_point(space: SearchSpace, rng: random.Random) -> Point:
    """One point at random, axis by axis; constraints are not looked at."""
    values: dict[str, AxisValue] = {}
    for axis in space.axes:
        if axis.is_active(values):
            values[axis.name] = axis.draw(rng)
    return Point(values)


def all_points(space: SearchSpace) -> Iterator[Point]:
    """Every point of a finite space in a fixed order; constraints are not looked at."""
    yield from (Point(values) for values in _branches(space, 0, {}))


def _branches(space: SearchSpace, index: int, values: dict[str, AxisValue]) -> Iterator[dict[str, AxisValue]]:
    if index == len(space.axes):
        yield dict(values)
        return
    axis = space.axes[index]
    if not axis.is_active(values):
        yield from _branches(space, index + 1, values)
        return
    for value in axis.values() or ():
        yield from _branches(space, index + 1, {**values, axis.name: value})


def draw_unseen(space: SearchSpace, seen: set[str], rng: random.Random) -> Point:
    """A point at random that meets the constraints on axes and whose key is not in ``seen``.

    Raises:
        SpaceExhausted: If none is left; in a continuous space, if ``RANDOM_TRIES`` draws found none.
    """
    for _ in range(RANDOM_TRIES):
        point = draw_point(space, rng)
        if point.key not in seen and not space.violated(point, None):
            return point
    size = space.size()
    if size is not None and size <= ENUMERATION_LIMIT:
        left = [p for p in all_points(space) if p.key not in seen and not space.violated(p, None)]
        if left:
            return rng.choice(left)
    raise SpaceExhausted(
        f"space {space.name!r} has no new point that meets its constraints on axes "
        f"({len(seen)} asked of {'infinitely many' if size is None else size}); "
        "widen an axis or ask for less"
    )


def random_points(space: SearchSpace, n: int, seed: int) -> list[Point]:
    """``n`` different points at random that meet the constraints on axes.

    Raises:
        SpaceExhausted: If there are fewer.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    points: list[Point] = []
    for _ in range(n):
        points.append(draw_unseen(space, seen, rng))
        seen.add(points[-1].key)
    return points
