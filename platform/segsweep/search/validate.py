"""What can be wrong with a search space beyond its form: every check yields all it finds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from segsweep.errors import InvalidPoint
from segsweep.records import AxisValue, Point
from segsweep.search.axes import Axis, ChoiceAxis, FloatAxis, IntAxis, kind_of, same
from segsweep.search.space import SearchSpace
from segsweep.search.yaml_lines import Path

Finding = tuple[Path, str]  # place in the file, message

_AXIS_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def axis_findings(axes: Sequence[Axis]) -> Iterator[Finding]:
    """Names, ranges and conditions of the axes."""
    names = [axis.name for axis in axes]
    for index, axis in enumerate(axes):
        path: Path = ("axes", axis.name)
        if not _AXIS_NAME.fullmatch(axis.name) or axis.name.startswith("cost."):
            yield path, f"axis name {axis.name!r} is no dotted path into a config, such as neck.channels"
        for other in names:
            if other.startswith(axis.name + "."):
                yield path, f"{axis.name!r} and {other!r} cannot both be axes: one is inside the other"
        yield from ((path, message) for message in _domain_messages(axis))
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
        path: Path = ("axes", axis.name, "when", name)
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


def constraint_findings(space: SearchSpace) -> Iterator[Finding]:
    """Names, language and kinds of the constraints."""
    names = [constraint.name for constraint in space.constraints]
    for index, constraint in enumerate(space.constraints):
        message = space.constraint_problem(constraint)
        if message:
            yield ("constraints", index, "require"), message
        if constraint.name in names[:index]:
            yield ("constraints", index, "name"), f"constraint {constraint.name!r} is given twice; rename one"


def seed_findings(space: SearchSpace) -> Iterator[Finding]:
    """Seeds outside the space, given twice, or against a constraint on axes.

    Needs axes and constraints without findings.
    """
    names = [seed.name for seed in space.seeds]
    first: dict[Point, str] = {}
    for index, seed in enumerate(space.seeds):
        path: Path = ("seeds", index)
        if seed.name in names[:index]:
            yield (*path, "name"), f"seed {seed.name!r} is given twice; rename one"
        try:
            point = space.check_point(seed.point)
        except InvalidPoint as error:
            for problem in error.problems:
                axis = problem.where.removeprefix(f"{space.name}: ")
                yield (*path, "point", axis), f"{axis}: {problem.message}"
            continue
        if point in first:
            yield (*path, "point"), f"the point of {seed.name!r} is that of {first[point]!r}; remove one"
        first.setdefault(point, seed.name)
        for constraint in space.violated(point, None):
            yield (
                (*path, "point"),
                f"against constraint {constraint.name!r} ({constraint.require}): {constraint.why}",
            )
