"""Conditions on finished trials, as ``segsweep recommend --where "latency_ms_p90 <= 33"`` takes them.

The language is that of the constraints of a search space (``search.expression``): nothing is ever evaluated
as code. Names are metrics and the axes of the sweeps' spaces.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segsweep.errors import InvalidInput, Problem
from segsweep.records import METRICS, AxisValue, Evaluation
from segsweep.search.axes import Kind
from segsweep.search.expression import COST_NAMES, Expression, ExpressionError
from segsweep.search.space import SearchSpace, name_kinds

Side = Literal["<=", ">="]
_SIDES: dict[type[ast.cmpop], Side] = {ast.Lt: "<=", ast.LtE: "<=", ast.Gt: ">=", ast.GtE: ">="}
_MIRRORED: dict[Side, Side] = {"<=": ">=", ">=": "<="}


@dataclass(frozen=True)
class Bound:
    """A limit of one name by one number, out of a condition; strict comparisons count as their limit."""

    name: str
    side: Side
    limit: float

    def shortfall(self, value: float) -> float:
        """How far the value lies on the wrong side, as a share of the limit; 0 on the right side."""
        beyond = value - self.limit if self.side == "<=" else self.limit - value
        return max(0.0, beyond) / (abs(self.limit) or 1.0)


@dataclass(frozen=True)
class Condition:
    """One condition of the user.

    Attributes:
        text: As it was written.
        expression: As it is evaluated.
        bounds: The limits that it consists of; empty if it is more than limits joined by ``and``.
    """

    text: str
    expression: Expression
    bounds: tuple[Bound, ...]

    def holds(self, values: Mapping[str, AxisValue]) -> bool:
        """Whether it is met; not met where a name it depends on has no value (not measured, not active)."""
        return self.expression.holds(values) is True

    def shortfall(self, values: Mapping[str, AxisValue]) -> float:
        """0 where it is met; else the shares of its limits that are missing, or 1 if it has none."""
        if self.holds(values):
            return 0.0
        missing = [
            bound.shortfall(float(value)) if isinstance(value, int | float) else 1.0
            for bound in self.bounds
            for value in [values.get(bound.name)]
        ]
        return sum(missing) if missing else 1.0


def read_conditions(texts: Sequence[str], spaces: Iterable[SearchSpace]) -> tuple[Condition, ...]:
    """Parse conditions and check every name and type.

    Raises:
        InvalidInput: With everything that is wrong, in all of them.
    """
    known = _known_names(spaces)
    conditions: list[Condition] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            expression = Expression(text)
            expression.check(known)
            conditions.append(condition := Condition(text, expression, _bounds(text)))
            problems += _shares(condition)
        except ExpressionError as error:
            example = 'for example "latency_ms_p90 <= 33"'
            problems.append(Problem(where=f'--where "{text}"', message=f"{error}; {example}"))
    if problems:
        raise InvalidInput(problems)
    return tuple(conditions)


def trial_values(evaluation: Evaluation) -> dict[str, AxisValue]:
    """What conditions may ask of a trial: its axes, its metrics, and its cost by the names of constraints."""
    metrics = evaluation.metrics()
    costs = {name: metrics[short] for name in COST_NAMES if (short := name.removeprefix("cost.")) in metrics}
    return {**evaluation.point, **metrics, **costs}


def _known_names(spaces: Iterable[SearchSpace]) -> dict[str, Kind | tuple[str, ...]]:
    known: dict[str, Kind | tuple[str, ...]] = dict.fromkeys(METRICS, "number")
    for space in spaces:
        for name, kind in name_kinds(space.axes).items():
            before = known.get(name)
            both = isinstance(before, tuple) and isinstance(kind, tuple)
            known[name] = tuple(dict.fromkeys([*before, *kind])) if both else kind  # type: ignore[misc]
    return known | dict.fromkeys(COST_NAMES, "number")


def _bounds(text: str) -> tuple[Bound, ...]:
    """The limits of a condition that consists of nothing else."""
    found: list[Bound] = []
    if not _collect(ast.parse(text.strip(), mode="eval").body, found):
        return ()
    return tuple(found)


def _collect(node: ast.expr, found: list[Bound]) -> bool:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return all(_collect(operand, found) for operand in node.values)
    if not isinstance(node, ast.Compare):
        return False
    operands = [node.left, *node.comparators]
    for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
        side = _SIDES.get(type(op))
        if side is None:
            return False
        if (name := _name(left)) and (limit := _number(right)) is not None:
            found.append(Bound(name, side, limit))
        elif (name := _name(right)) and (limit := _number(left)) is not None:
            found.append(Bound(name, _MIRRORED[side], limit))
        else:
            return False
    return True


def _name(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _number(node: ast.expr) -> float | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    return None


def _shares(condition: Condition) -> list[Problem]:
    """mIoU in per cent is the likeliest mistake, and no trial would ever meet it."""
    return [
        Problem(
            where=f'--where "{condition.text}"',
            message=f"miou is a share from 0 to 1, found {bound.limit:g}; write {bound.limit / 100:g} for "
            f"{bound.limit:g} %",
        )
        for bound in condition.bounds
        if bound.name == "miou" and bound.limit > 1
    ]
