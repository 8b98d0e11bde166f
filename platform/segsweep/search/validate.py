"""What can be wrong with a search space beyond its form: every check yields all it finds."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

from segsweep.errors import InvalidPoint
from segsweep.records import AxisValue, Point
from segsweep.search.axes import Axis, ChoiceAxis, FloatAxis, IntAxis, kind_of, same
from segsweep.search.document import Constraint, Seed
from segsweep.search.expression import ExpressionError
from segsweep.search.space import SearchSpace
from segsweep.search.yaml_lines import KeyPath

Finding = tuple[KeyPath, str]  # place in the file, message

_AXIS_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def axis_findings(axes: Sequence[Axis], unreadable: frozenset[str]) -> Iterator[Finding]:
    """Names, ranges and conditions of the axes; conditions on ``unreadable`` ones are not judged."""
    names = [axis.name for axis in axes]
    for index, axis in enumerate(axes):
        path: KeyPath = ("axes", axis.name)
        if not _AXIS_NAME.fullmatch(axis.name) or axis.name.startswith("cost."):
            yield path, f"axis name {axis.name!r} is no dotted path into a config, such as neck.channels"
        for other in names:
            if other.startswith(axis.name + "."):
                yield path, f"{axis.name!r} and {other!r} cannot both be axes: one is inside the other"
        yield from ((path, message) for message in _domain_messages(axis))
        if unreadable.isdisjoint(axis.when):
            yield from _condition_findings(axis, axes[:index], names)


def _domain_messages(axis: Axis) -> Iterator[str]:
    if isinstance(axis, ChoiceAxis):
        kinds = {kind_of(value) for value in axis.choices}
        if len(kinds) > 1:
            yield f"choice mixes {' and '.join(sorted(kinds))} values; write all in one kind"
        for index, value in enumerate(axis.choices):
            if any(same(value, earlier) for earlier in axis.choices[:index]):
                yield f"choice {value!r} is given twice; remove one"
    elif isinstance(axis, (IntAxis, FloatAxis)):
        if axis.low > axis.high:
            yield f"empty range: {axis.low:g} is larger than {axis.high:g}; write [low, high]"
        if axis.log and axis.low <= 0:
            yield f"log needs a range above 0, found {axis.low:g}; raise low or remove log"
        if axis.log and axis.step not in (None, 1):
            yield "log and step cannot be together; remove one"


def _condition_findings(axis: Axis, above: Sequence[Axis], names: Sequence[str]) -> Iterator[Finding]:
    parents = {parent.name: parent for parent in above}
    for name, values in axis.when.items():
        path: KeyPath = ("axes", axis.name, "when", name)
        if name not in parents:
            yield path, _unknown_parent(name, axis.name, parents, names)
            continue
        if parents[name].values() is None:
            yield path, f"{name} is continuous; a condition may name only choice, int and stepped axes"
            continue
        for value in values:
            if parents[name].match(value) is None:
                yield path, f"{name} is never {value!r}; allowed: {parents[name].allowed}"
    if _is_never_active(axis, parents):
        yield (
            ("axes", axis.name, "when"),
            f"{axis.name} can never exist: its conditions contradict those of the axes that they name",
        )


def _unknown_parent(name: str, axis: str, parents: dict[str, Axis], names: Sequence[str]) -> str:
    if name in names:
        return f"condition names {name}, which is not above {axis}; move {axis} below it"
    near = difflib.get_close_matches(name, parents, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"axes above: {', '.join(parents) or 'none'}"
    return f"condition names unknown axis {name!r}; {hint}"


def _is_never_active(axis: Axis, parents: dict[str, Axis]) -> bool:
    needed: dict[str, tuple[AxisValue, ...]] = {}
    queue = list(axis.when.items())
    while queue:
        name, values = queue.pop()
        if name not in parents:
            return False  # reported by the caller
        if name in needed:
            values = tuple(value for value in values if any(same(value, other) for other in needed[name]))
        else:
            queue.extend(parents[name].when.items())
        needed[name] = values
        if not values:
            return True
    return False


def all_findings(
    space: SearchSpace,
    constraints: Mapping[int, Constraint],
    seeds: Mapping[int, Seed],
    *,
    unreadable: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Everything wrong with a space, as far as its sound part lets it be judged.

    An axis with a finding, and what depends on it, is left out when constraints and seeds are looked at, so
    that one mistake neither hides others nor makes new ones.

    Args:
        space: Its axes; its constraints and seeds are not looked at.
        constraints: Position in the file -> constraint.
        seeds: Position in the file -> seed.
        unreadable: Names of axes that the file has but in a wrong form.
    """
    findings = list(axis_findings(space.axes, unreadable))
    unsound = unreadable | {str(path[1]) for path, _ in findings}
    for axis in space.axes:
        if not unsound.isdisjoint(axis.when):
            unsound |= {axis.name}
    sound = dataclasses.replace(space, axes=tuple(a for a in space.axes if a.name not in unsound))
    about_constraints = dict(_constraint_findings(sound, constraints, unsound))
    findings += about_constraints.items()
    against = [c for i, c in constraints.items() if _is_sound(c, i, about_constraints, unsound)]
    sound = dataclasses.replace(sound, constraints=tuple(against))
    return findings + list(_seed_findings(sound, seeds, unsound))


def _constraint_findings(
    space: SearchSpace, constraints: Mapping[int, Constraint], unsound: frozenset[str]
) -> Iterator[Finding]:
    names: set[str] = set()
    for index, constraint in constraints.items():
        message = space.constraint_problem(constraint)
        if message and not _names_any(constraint, unsound):
            yield ("constraints", index, "require"), message
        if constraint.name in names:
            yield ("constraints", index, "name"), f"constraint {constraint.name!r} is given twice; rename one"
        names.add(constraint.name)


def _names_any(constraint: Constraint, axes: frozenset[str]) -> bool:
    try:
        return not constraint.expression.names.isdisjoint(axes)
    except ExpressionError:
        return False


def _is_sound(
    constraint: Constraint, index: int, findings: Mapping[KeyPath, str], unsound: frozenset[str]
) -> bool:
    return ("constraints", index, "require") not in findings and not _names_any(constraint, unsound)


def _seed_findings(
    space: SearchSpace, seeds: Mapping[int, Seed], unsound: frozenset[str]
) -> Iterator[Finding]:
    names: set[str] = set()
    first: dict[Point, str] = {}
    for index, seed in seeds.items():
        path: KeyPath = ("seeds", index)
        if seed.name in names:
            yield (*path, "name"), f"seed {seed.name!r} is given twice; rename one"
        names.add(seed.name)
        try:
            point = space.check_point({axis: v for axis, v in seed.point.items() if axis not in unsound})
        except InvalidPoint as error:
            for problem in error.problems:
                axis = problem.where.removeprefix(f"{space.name}: ")
                yield (*path, "point", axis), problem.message
            continue
        if point in first and not unsound:
            yield (*path, "point"), f"the point of {seed.name!r} is that of {first[point]!r}; remove one"
        first.setdefault(point, seed.name)
        for constraint in space.violated(point, None):
            yield (
                (*path, "point"),
                f"against constraint {constraint.name!r} ({constraint.require}): {constraint.why}",
            )
