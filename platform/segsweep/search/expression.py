"""Constraints as text: a small whitelisted language over axes and costs. Nothing is ever passed to eval.

Allowed: comparisons (also chained, and ``in [..]``), ``and or not``, ``+ - * /``, ``min() max()``, numbers,
quoted text, ``true false``, names of axes and costs, brackets.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from typing import Any

from segsweep.records import AxisValue, CostReport
from segsweep.search.axes import Kind, kind_of

MAX_LENGTH = 500  # characters: bounds the depth of the tree that is walked
COST_NAMES = (
    "cost.macs",
    "cost.flops",
    "cost.num_params",
    "cost.images_per_second",
    "cost.latency_ms_p50",
    "cost.latency_ms_p90",
    "cost.latency_ms_p99",
)

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, items: value in items,
    ast.NotIn: lambda value, items: value not in items,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max}
_LITERALS = {"true": True, "false": False, "True": True, "False": False}


class ExpressionError(ValueError):
    """The text is not an expression of the language, or compares what cannot be compared."""


class _NoValue(Exception):
    """A name that the result depends on has no value here."""


def cost_values(cost: CostReport) -> dict[str, float]:
    """Values of ``cost.*`` by name, without those that were not measured."""
    values = {name: getattr(cost, name.removeprefix("cost.")) for name in COST_NAMES}
    return {name: value for name, value in values.items() if value is not None}


class Expression:
    """A parsed condition.

    Args:
        text: For example ``"cost.macs <= 60e9 and neck.top_level > neck.bottom_level"``.
    Raises:
        ExpressionError: If it is too long, no Python expression, or uses anything outside the whitelist.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise ExpressionError(
                f"{len(text)} characters; at most {MAX_LENGTH}, split it in two constraints"
            )
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"cannot read {text!r}: {error}") from error
        self.text = text
        self._root = tree.body
        names: set[str] = set()
        _check_nodes(self._root, names)
        self.names = frozenset(names)

    def check(self, known: Mapping[str, Kind | tuple[str, ...]]) -> None:
        """Check names and types before any value is known.

        Args:
            known: Kind of every allowed name; a tuple gives the texts that the name may have.
        Raises:
            ExpressionError: If a name is unknown, kinds do not match, or the result is no condition.
        """
        for name in sorted(self.names):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(known)}"
                raise ExpressionError(f"unknown name {name!r}{hint}")
        if _infer(self._root, known) != "truth":
            raise ExpressionError(f"{self.text!r} is no condition; compare it with something")

    def holds(self, values: Mapping[str, AxisValue]) -> bool | None:
        """Whether the condition is met.

        Args:
            values: Values by name. Names may lack: axes that are not active, costs not measured.
        Returns:
            ``None`` if the result depends on a name that has no value. A division by zero is not met.
        """
        try:
            return bool(_value(self._root, values))
        except _NoValue:
            return None
        except ArithmeticError:  # division by zero, or a number beyond float
            return False


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return f"{head}.{node.attr}" if head else None
    return None


def _children(node: ast.AST) -> list[ast.expr]:  # noqa: PLR0911 - one return a kind of node
    """Sub-expressions of a whitelisted node; raises ExpressionError for any other."""
    match node:
        case ast.BoolOp(values=values):
            return values
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return [left, right]
        case ast.Compare(left=left, ops=ops, comparators=rest) if all(type(op) in _COMPARISONS for op in ops):
            _check_membership(ops, [left, *rest])
            return [left, *rest]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and len(args) > 1:
            return args
        case ast.List(elts=items) | ast.Tuple(elts=items) if all(isinstance(i, ast.Constant) for i in items):
            return items
        case ast.Constant(value=bool() | int() | float() | str()):
            return []
    raise ExpressionError(
        f"{ast.unparse(node)!r} is not allowed in a constraint; use comparisons, and/or/not, + - * /, "
        "min, max, numbers, quoted text and names"
    )


def _check_membership(operators: list[ast.cmpop], operands: list[ast.expr]) -> None:
    if isinstance(operands[0], (ast.List, ast.Tuple)):
        raise ExpressionError("a list may stand only on the right of 'in'")
    for op, right in zip(operators, operands[1:], strict=True):
        if isinstance(op, (ast.In, ast.NotIn)) != isinstance(right, (ast.List, ast.Tuple)):
            raise ExpressionError(
                f"'in' needs a list on its right and a list needs 'in': {ast.unparse(right)!r}"
            )


def _check_nodes(node: ast.AST, names: set[str], *, in_comparison: bool = False) -> None:
    name = _dotted(node)
    if name is not None:
        if name not in _LITERALS:
            names.add(name)
        return
    if isinstance(node, (ast.List, ast.Tuple)) and not in_comparison:
        raise ExpressionError(f"the list {ast.unparse(node)!r} may stand only on the right of 'in'")
    for child in _children(node):
        _check_nodes(child, names, in_comparison=isinstance(node, ast.Compare))


def _infer(node: ast.AST, known: Mapping[str, Kind | tuple[str, ...]]) -> Kind:
    name = _dotted(node)
    if name is not None:
        kind = "truth" if name in _LITERALS else known[name]
        return "text" if isinstance(kind, tuple) else kind
    match node:
        case ast.Constant(value=value):
            return kind_of(value)  # type: ignore[arg-type]  # _children lets only axis values through
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return _require(node, "truth", known)
        case ast.Compare():
            _infer_comparison(node, known)
            return "truth"
    return _require(node, "number", known)


def _require(node: ast.AST, kind: Kind, known: Mapping[str, Kind | tuple[str, ...]]) -> Kind:
    for child in _children(node):
        found = _infer(child, known)
        if found != kind:
            raise ExpressionError(
                f"{ast.unparse(child)!r} is a {found}; {ast.unparse(node)!r} needs a {kind}"
            )
    return kind


def _infer_comparison(node: ast.Compare, known: Mapping[str, Kind | tuple[str, ...]]) -> None:
    operands = [node.left, *node.comparators]
    for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
        others = right.elts if isinstance(right, (ast.List, ast.Tuple)) else [right]
        for other in others:
            kinds = _infer(left, known), _infer(other, known)
            if kinds[0] != kinds[1]:
                raise ExpressionError(
                    f"{ast.unparse(left)!r} is a {kinds[0]} and {ast.unparse(other)!r} a {kinds[1]}; "
                    "they cannot be compared"
                )
            if kinds[0] != "number" and isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                raise ExpressionError(f"{ast.unparse(node)!r} orders a {kinds[0]}; use ==, != or in")
            _check_text(left, other, known)
            _check_text(other, left, known)


def _check_text(name: ast.expr, text: ast.expr, known: Mapping[str, Kind | tuple[str, ...]]) -> None:
    texts = known.get(_dotted(name) or "")
    if isinstance(texts, tuple) and isinstance(text, ast.Constant) and text.value not in texts:
        near = difflib.get_close_matches(str(text.value), texts, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(texts)}"
        raise ExpressionError(f"{ast.unparse(name)} is never {text.value!r}; {hint}")


def _value(node: ast.AST, values: Mapping[str, AxisValue]) -> Any:  # noqa: PLR0911 - one a kind of node
    name = _dotted(node)
    if name is not None:
        if name in _LITERALS:
            return _LITERALS[name]
        if name not in values:
            raise _NoValue(name)
        return values[name]
    match node:
        case ast.Constant(value=value):
            return value
        case ast.BoolOp(op=ast.And(), values=operands):
            return _all(operands, values, until=False)
        case ast.BoolOp(values=operands):
            return _all(operands, values, until=True)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, values)
        case ast.UnaryOp(operand=operand):
            return -_value(operand, values)
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id=function), args=args):
            return _FUNCTIONS[function](*(_value(arg, values) for arg in args))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, values) for item in items]
        case ast.Compare(left=left, ops=ops, comparators=rest):
            operands = [_value(operand, values) for operand in (left, *rest)]
            pairs = zip(operands, ops, operands[1:], strict=False)
            return all(_COMPARISONS[type(op)](a, b) for a, op, b in pairs)
    raise AssertionError(f"{ast.dump(node)} passed the whitelist")


def _all(operands: list[ast.expr], values: Mapping[str, AxisValue], *, until: bool) -> bool:
    """``or`` (until=True) and ``and`` (until=False).

    An operand without a value matters only if no other decides.
    """
    missing: _NoValue | None = None
    for operand in operands:
        try:
            if bool(_value(operand, values)) is until:
                return until
        except _NoValue as signal:
            missing = signal
    if missing is not None:
        raise missing
    return not until
