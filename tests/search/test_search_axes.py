from __future__ import annotations

import random
from typing import Any

import pytest

from segsweep.records import AxisValue
from segsweep.search.axes import Axis, ChoiceAxis, FloatAxis, IntAxis

WIDTH = ChoiceAxis(name="w", when={}, choices=(16, 32))
FLAG = ChoiceAxis(name="f", when={}, choices=(True, False))
LEVEL = IntAxis(name="l", when={}, low=5, high=9)
ODD = IntAxis(name="o", when={}, low=1, high=6, step=2)
DECADES = IntAxis(name="d", when={}, low=1, high=1000, log=True)
RATE = FloatAxis(name="r", when={}, low=1e-3, high=1e-1, log=True)
SHARE = FloatAxis(name="s", when={}, low=0.1, high=0.5, step=0.1)
ALL = [WIDTH, FLAG, LEVEL, ODD, DECADES, RATE, SHARE]


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        (WIDTH, 16, 16),
        (WIDTH, 17, None),
        (WIDTH, "16", None),
        (WIDTH, [16], None),
        (FLAG, True, True),
        (FLAG, 1, None),  # Python takes True for 1; a space does not
        (LEVEL, 5, 5),
        (LEVEL, 9, 9),
        (LEVEL, 10, None),
        (LEVEL, 5.0, None),
        (LEVEL, True, None),
        (ODD, 5, 5),
        (ODD, 6, None),
        (RATE, 1e-3, 1e-3),
        (RATE, 0.2, None),
        (RATE, float("nan"), None),
        (SHARE, 0.30000000000000004, 0.3),
        (SHARE, 0.35, None),
    ],
)
def test_a_value_matches_only_inside_the_axis(axis: Axis, value: Any, expected: AxisValue | None) -> None:
    match = axis.match(value)
    assert match == expected
    assert type(match) is type(expected)


def test_a_whole_number_on_a_float_axis_becomes_a_float() -> None:
    match = FloatAxis(name="x", when={}, low=0.0, high=2.0).match(1)
    assert isinstance(match, float)


@pytest.mark.parametrize("axis", ALL, ids=lambda axis: axis.name)
def test_drawn_values_lie_on_the_axis(axis: Axis) -> None:
    rng = random.Random(0)
    for _ in range(300):
        value = axis.draw(rng)
        assert axis.match(value) == value


@pytest.mark.parametrize("axis", [WIDTH, FLAG, LEVEL, ODD, SHARE], ids=lambda axis: axis.name)
def test_every_value_is_drawn(axis: Axis) -> None:
    rng = random.Random(0)
    assert {axis.draw(rng) for _ in range(300)} == set(axis.values() or ())


@pytest.mark.parametrize("axis", [RATE, DECADES], ids=lambda axis: axis.name)
def test_log_axes_draw_each_decade_as_often(axis: Axis) -> None:
    rng = random.Random(0)
    middle = 10.0**-2 if axis is RATE else 10.0**1.5
    below = sum(float(axis.draw(rng)) < middle for _ in range(2000))
    assert below == pytest.approx(1000, abs=120)  # 5 sigma of a fair coin


def test_stepped_floats_are_the_decimal_numbers() -> None:
    assert SHARE.values() == (0.1, 0.2, 0.3, 0.4, 0.5)


def test_an_axis_is_active_only_beside_a_listed_value() -> None:
    axis = IntAxis(name="x", when={"f": (True,), "w": (16, 32)}, low=1, high=2)
    assert axis.is_active({"f": True, "w": 32})
    assert not axis.is_active({"f": False, "w": 32})
    assert not axis.is_active({"f": 1, "w": 32})
    assert not axis.is_active({"w": 32})
