"""A search space in memory: which points exist, which are allowed, and which were published."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from segsweep.errors import InvalidPoint, InvalidSpace, Problem
from segsweep.records import AxisValue, CostReport, Point
from segsweep.search.axes import Axis, ChoiceAxis, Kind
from segsweep.search.document import Constraint, Seed
from segsweep.search.expression import COST_NAMES, ExpressionError, cost_values


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Axes, constraints and seeds. Made by ``load_space``, which checks them.

    Attributes:
        name: Name of the space.
        method: Method whose config the axes name.
        source: Where the axes come from.
        axes: In the order of the file: an axis depends only on axes before it.
        constraints: Conditions that every trained point meets.
        seeds: Published points.
    """

    name: str
    method: str
    source: str
    axes: tuple[Axis, ...]
    constraints: tuple[Constraint, ...] = ()
    seeds: tuple[Seed, ...] = ()

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of what decides which points are asked, so not of ``why``."""
        content = {
            "method": self.method,
            "axes": [[axis.name, axis.to_json()] for axis in self.axes],
            "constraints": [[constraint.name, constraint.require] for constraint in self.constraints],
            "seeds": [[seed.name, seed.point] for seed in self.seeds],
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:16]

    def active_axes(self, values: Mapping[str, AxisValue]) -> tuple[Axis, ...]:
        """The axes that exist beside ``values``, in order."""
        active: list[Axis] = []
        present: dict[str, AxisValue] = {}
        for axis in self.axes:
            if axis.is_active(present):
                active.append(axis)
                if axis.name in values:
                    present[axis.name] = values[axis.name]
        return tuple(active)

    def check_point(self, values: Mapping[str, Any]) -> Point:
        """Take values as a point of the space, in the spelling and order of its axes.

        Constraints are not looked at: see ``violated``.

        Args:
            values: Axis name -> value, one for every active axis.
        Raises:
            InvalidPoint: With all problems: unknown axes, values outside, axes missing or not active.
        """
        problems: list[Problem] = []
        taken: dict[str, AxisValue] = {}
        active = {axis.name: axis for axis in self.active_axes(self._matched(values))}
        names = [axis.name for axis in self.axes]
        for name in values:
            if name not in names:
                problems.append(self._problem(name, f"unknown axis{_nearest(name, names)}"))
            elif name not in active:
                when = self._axis(name).when
                problems.append(
                    self._problem(name, f"not active here: exists only when {_in_words(when)}; remove it")
                )
        for name, axis in active.items():
            if name not in values:
                problems.append(self._problem(name, f"missing; allowed: {axis.allowed}"))
            elif (match := axis.match(values[name])) is None:
                problems.append(self._problem(name, f"found {values[name]!r}; allowed: {axis.allowed}"))
            else:
                taken[name] = match
        if problems:
            raise InvalidPoint(problems)
        return Point(taken)

    def violated(self, point: Mapping[str, AxisValue], cost: CostReport | None) -> list[Constraint]:
        """The constraints that the point does not meet.

        A constraint whose result depends on an axis that is not active, or on a cost that was not
        measured, does not apply. With ``cost=None`` all constraints on cost are left out.
        """
        values = {**point, **(cost_values(cost) if cost else {})}
        return [
            c
            for c in self.constraints
            if not (cost is None and c.on_cost) and c.expression.holds(values) is False
        ]

    def with_constraints(self, extra: Iterable[Constraint]) -> SearchSpace:
        """The same space with more constraints, for example those of a job.

        Raises:
            InvalidSpace: With all problems: unknown names, no condition, a name given twice.
        """
        added = tuple(extra)
        problems: list[Problem] = []
        taken = {constraint.name for constraint in self.constraints}
        for constraint in added:
            message = self.constraint_problem(constraint)
            if message is None and constraint.name in taken:
                message = "a constraint of that name exists; rename one"
            taken.add(constraint.name)
            if message:
                problems.append(Problem(where=f"constraint {constraint.name}", message=message))
        if problems:
            raise InvalidSpace(problems)
        return dataclasses.replace(self, constraints=(*self.constraints, *added))

    def constraint_problem(self, constraint: Constraint) -> str | None:
        """What is wrong with a constraint on these axes; ``None`` if nothing."""
        try:
            constraint.expression.check({**name_kinds(self.axes), **dict.fromkeys(COST_NAMES, "number")})
        except ExpressionError as error:
            return str(error)
        return None

    def size(self) -> int | None:
        """Number of points, conditions counted and constraints not; ``None`` if an axis is continuous."""
        if any(axis.values() is None for axis in self.axes):
            return None
        parents = {name for axis in self.axes for name in axis.when}
        return _count(self.axes, {}, parents)

    def _matched(self, values: Mapping[str, Any]) -> dict[str, AxisValue]:
        matches = {axis.name: axis.match(values[axis.name]) for axis in self.axes if axis.name in values}
        return {name: match for name, match in matches.items() if match is not None}

    def _axis(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)

    def _problem(self, axis: str, message: str) -> Problem:
        return Problem(where=f"{self.name}: {axis}", message=message)


def nest(point: Mapping[str, AxisValue]) -> dict[str, Any]:
    """Dotted names to nested dicts: ``{"neck.kind": "fpn"}`` becomes ``{"neck": {"kind": "fpn"}}``."""
    tree: dict[str, Any] = {}
    for name, value in point.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(known)}"


def _in_words(when: Mapping[str, tuple[AxisValue, ...]]) -> str:
    return " and ".join(f"{axis} is {' or '.join(map(str, values))}" for axis, values in when.items())


def name_kinds(axes: Iterable[Axis]) -> dict[str, Kind | tuple[str, ...]]:
    """Kind of each axis by name; the texts that it may have where it chooses among texts."""
    return {
        axis.name: tuple(map(str, axis.choices))
        if isinstance(axis, ChoiceAxis) and axis.kind == "text"
        else axis.kind
        for axis in axes
    }


def _count(axes: tuple[Axis, ...], values: dict[str, AxisValue], parents: set[str]) -> int:
    """Points of ``axes`` beside ``values``; branches only on axes that others depend on."""
    if not axes:
        return 1
    axis, rest = axes[0], axes[1:]
    if not axis.is_active(values):
        return _count(rest, values, parents)
    choices = axis.values() or ()
    if axis.name not in parents:
        return len(choices) * _count(rest, values, parents)
    return sum(_count(rest, {**values, axis.name: value}, parents) for value in choices)
