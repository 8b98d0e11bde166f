from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsweep.search.expression import MAX_LENGTH, Expression, ExpressionError

KNOWN = {"a.b": "number", "cost.macs": "number", "kind": ("fpn", "bifpn"), "flag": "truth"}
VALUES = {"a.b": 3, "cost.macs": 5e9, "kind": "fpn", "flag": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cost.macs <= 60e9", True),
        ("cost.macs <= 4e9", False),
        ("2 <= a.b < 3", False),
        ("a.b * 2 - 1 == 5 and not a.b / 2 > 2", True),
        ("min(a.b, 10) == 3 and max(a.b, 10, 11) == 11", True),
        ("kind in ['bifpn', 'fpn']", True),
        ("kind not in ('fpn',)", False),
        ("kind == 'bifpn' or a.b > 2", True),
        ("flag == true", True),
        ("flag and -a.b < 0", True),
        ("not flag", False),
    ],
)
def test_value(text: str, expected: bool) -> None:
    expression = Expression(text)
    expression.check(KNOWN)  # type: ignore[arg-type]
    assert expression.holds(VALUES) is expected


NUMBERS = st.integers(-3, 3)


@st.composite
def conditions(draw: st.DrawFn) -> str:
    term = st.sampled_from(["x", "y", "2", "x + y", "x * 2 - y", "min(x, y)", "-x"])
    compare = st.builds("{} {} {}".format, term, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), term)
    joined = st.builds("({} {} {})".format, compare, st.sampled_from(["and", "or"]), compare)
    return draw(st.one_of(compare, joined, joined.map("not {}".format)))


@settings(max_examples=200)
@given(conditions(), NUMBERS, NUMBERS)
def test_agrees_with_python(text: str, x: int, y: int) -> None:
    python = eval(text, {"__builtins__": {}}, {"x": x, "y": y, "min": min})
    assert Expression(text).holds({"x": x, "y": y}) is python


@pytest.mark.parametrize("connective", ["and", "or"])
def test_a_missing_operand_matters_only_if_the_others_do_not_decide(connective: str) -> None:
    for known, missing_first in itertools.product([True, False], [True, False]):
        operands = ["gone > 1", f"a == {int(known)}"]
        text = f" {connective} ".join(operands if missing_first else operands[::-1])
        decided = known is (connective == "or")
        assert Expression(text).holds({"a": 1}) is (known if decided else None)


def test_division_by_zero_is_not_met() -> None:
    assert Expression("1 / a > 0").holds({"a": 0}) is False


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.b.__class__ == 1",  # parses as a dotted name; unknown below
        "().__class__",
        "[x for x in [1]] == 1",
        "(lambda: 1)() == 1",
        "a if a else b",
        "f'{a}' == 'x'",
        "a ** 9 ** 9 > 1",
        "a // 2 == 1",
        "a % 2 == 1",
        "a << 999999 > 1",
        "print(1) == 1",
        "min(1) == 1",
        "min(1, 2, key=3) == 1",
        "min(*a, 2) == 1",
        "a[0] == 1",
        "a is 1",
        "(a := 1) == 1",
        "None == a",
        "b'x' == a",
        "1j == a",
        "[1] == [1]",
        "a in 'text'",
        "a == [1]",
        "[1, a] == 1",
        "a in [b]",
        "a <",
        "",
        "a\0b == 1",
        "(" * 200 + "1" + ")" * 200 + " == 1 ==" + "1" * MAX_LENGTH,
    ],
)
def test_anything_outside_the_language_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(text).check({"a": "number", "b": "number"})


@settings(max_examples=200)
@given(st.text(alphabet="ab.()[]<>=!+-*/ 1'\"andornot,", max_size=40))
def test_any_text_is_either_refused_or_has_a_value(text: str) -> None:
    try:
        expression = Expression(text)
        expression.check({"a": "number", "b": ("a", "b"), "a.b": "truth"})
    except ExpressionError:
        return
    assert expression.holds({"a": 1, "b": "a", "a.b": False}) in (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cost.mac < 1", "did you mean 'cost.macs'"),
        ("kind == 'bipfn'", "did you mean 'bifpn'"),
        ("kind in ['fpn', 'unet']", "kind is never 'unet'; allowed: fpn, bifpn"),
        ("kind == 3", "cannot be compared"),
        ("kind < 'fpn'", "use ==, != or in"),
        ("a.b and flag", "'a.b' is a number; 'a.b and flag' needs a truth"),
        ("flag + 1 > 0", "needs a number"),
        ("a.b + 1", "is no condition"),
        ("min(a.b, kind) > 1", "needs a number"),
    ],
)
def test_wrong_names_and_kinds_are_found_before_any_value(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        Expression(text).check(KNOWN)  # type: ignore[arg-type]
    assert message in str(error.value)
