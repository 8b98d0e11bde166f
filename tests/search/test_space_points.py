from __future__ import annotations

import dataclasses

import pytest

from segsweep.errors import InvalidPoint, InvalidSpace
from segsweep.records import CostReport, Point
from segsweep.search.document import Constraint
from segsweep.search.draw import SpaceExhausted, all_points, random_points
from segsweep.search.load import parse_space
from segsweep.search.space import SearchSpace, nest

TEXT = """
method: eseg
source: a test
axes:
  kind: {choice: [fpn, bifpn]}
  neck.repeats: {int: [1, 3], when: {kind: [bifpn]}}
  neck.deep: {choice: [true, false], when: {neck.repeats: [2, 3]}}
  width: {choice: [8, 16]}
constraints:
  - {name: small, require: "neck.repeats * width <= 32", why: "fits the test"}
  - {name: budget, require: "cost.macs <= 100 or width == 8", why: "fits the machine"}
  - {name: quick, require: "cost.images_per_second >= 10", why: "real time"}
"""
COST = CostReport(num_params=1, macs=200, size=(1, 1), num_classes=2)


@pytest.fixture
def space() -> SearchSpace:
    return parse_space(TEXT, file="tiny.yaml")


def test_a_point_is_taken_in_the_order_of_the_axes(space: SearchSpace) -> None:
    point = space.check_point({"width": 8, "neck.deep": True, "neck.repeats": 2, "kind": "bifpn"})
    assert list(point) == ["kind", "neck.repeats", "neck.deep", "width"]


def test_all_problems_of_a_point_are_reported_at_once(space: SearchSpace) -> None:
    values = {"kind": "fpn", "neck.repeats": 2, "neck.deep": True, "witdh": 8}
    with pytest.raises(InvalidPoint) as error:
        space.check_point(values)
    found = {problem.where: problem.message for problem in error.value.problems}
    assert found == {
        "tiny: neck.repeats": "not active here: exists only when kind is bifpn; remove it",
        "tiny: neck.deep": "not active here: exists only when neck.repeats is 2 or 3; remove it",
        "tiny: witdh": "unknown axis; did you mean 'width'?",
        "tiny: width": "missing; allowed: one of 8, 16",
    }


def test_a_value_outside_is_named_with_what_is_allowed(space: SearchSpace) -> None:
    with pytest.raises(InvalidPoint, match=r"neck.repeats: found 7; allowed: whole numbers 1..3"):
        space.check_point({"kind": "bifpn", "neck.repeats": 7, "width": 8})


def test_size_counts_conditions(space: SearchSpace) -> None:
    # fpn: 2 widths; bifpn: (1 repeat + 2 repeats x 2 depths) x 2 widths.
    assert space.size() == 2 + (1 + 2 * 2) * 2
    assert len({point.key for point in all_points(space)}) == space.size()


def test_every_enumerated_point_belongs_to_the_space(space: SearchSpace) -> None:
    assert all(space.check_point(point) == point for point in all_points(space))


def test_a_continuous_space_has_no_size() -> None:
    space = parse_space("method: m\nsource: s\naxes: {x.y: {float: [0, 1]}}", file="c.yaml")
    assert space.size() is None


def test_constraints_on_cost_wait_for_the_cost(space: SearchSpace) -> None:
    dear = Point({"kind": "bifpn", "neck.repeats": 3, "neck.deep": True, "width": 16})
    assert [c.name for c in space.violated(dear, None)] == ["small"]
    assert [c.name for c in space.violated(dear, COST)] == ["small", "budget"]


def test_a_constraint_on_what_does_not_exist_does_not_apply(space: SearchSpace) -> None:
    no_repeats = Point({"kind": "fpn", "width": 8})
    assert space.violated(no_repeats, COST) == []  # neither repeats nor a measured speed
    slow = dataclasses.replace(COST, images_per_second=3.0)
    assert [c.name for c in space.violated(no_repeats, slow)] == ["quick"]


def test_constraints_can_be_added(space: SearchSpace) -> None:
    wide = Constraint(name="wide", require="width == 16", why="the job says so")
    more = space.with_constraints([wide])
    assert [c.name for c in more.violated(Point({"kind": "fpn", "width": 8}), None)] == ["wide"]
    assert space.violated(Point({"kind": "fpn", "width": 8}), None) == []


def test_all_wrong_added_constraints_are_reported(space: SearchSpace) -> None:
    wrong = [
        Constraint(name="a", require="widht == 16", why="?"),
        Constraint(name="budget", require="width == 16", why="?"),
        Constraint(name="b", require="width + ", why="?"),
    ]
    with pytest.raises(InvalidSpace) as error:
        space.with_constraints(wrong)
    assert [problem.where for problem in error.value.problems] == [
        "constraint a",
        "constraint budget",
        "constraint b",
    ]


def test_digest_follows_what_is_asked_and_not_how_it_is_explained(space: SearchSpace) -> None:
    assert parse_space(TEXT.replace("fits the test", "else"), file="other.yaml").digest == space.digest
    for old, new in [("[1, 3]", "[1, 4]"), ("<= 32", "<= 48"), ("[8, 16]", "[16, 8]"), ("[2, 3]", "[3]")]:
        assert parse_space(TEXT.replace(old, new), file="tiny.yaml").digest != space.digest


def test_nest() -> None:
    assert nest({"neck.kind": "fpn", "neck.levels.top": 9, "lr": 0.1}) == {
        "neck": {"kind": "fpn", "levels": {"top": 9}},
        "lr": 0.1,
    }


def test_random_points_are_new_allowed_and_repeatable(space: SearchSpace) -> None:
    allowed = [point for point in all_points(space) if not space.violated(point, None)]
    points = random_points(space, len(allowed), seed=1)
    assert set(points) == set(allowed)  # each once: the last ones are found by enumeration
    assert random_points(space, len(allowed), seed=1) == points
    assert random_points(space, len(allowed), seed=2) != points


def test_more_points_than_there_are_is_an_error(space: SearchSpace) -> None:
    with pytest.raises(SpaceExhausted, match=r"10 asked of 12"):
        random_points(space, 12, seed=1)
