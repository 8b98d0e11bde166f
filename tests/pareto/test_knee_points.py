"""Knees: by hand, by Das's line through the ends, and under changes that must not matter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from compared_sweeps import trial
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from segsweep.pareto.front import front_mask
from segsweep.pareto.knee import knee_of, knee_points
from segsweep.records import DEFAULT_OBJECTIVES, TrialStatus

MIOU_AND_COST = [True, False]


def test_the_knee_by_hand() -> None:
    # cost 1..5, quality 0..1: the second buys 0.7 of the range for a quarter of the cost
    front = [[0.0, 1.0], [0.7, 2.0], [0.8, 3.0], [1.0, 5.0]]
    assert knee_points(front, MIOU_AND_COST).tolist() == [1]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(3, 15), st.just(2)), elements=st.floats(0, 1)))
def test_with_two_objectives_it_is_farthest_from_the_line_through_the_ends(
    values: NDArray[np.float64],
) -> None:
    values = np.round(values, 3)
    front = values[front_mask(values, [False, False])]
    low, high = front.min(axis=0), front.max(axis=0)
    if (high == low).any():
        return
    unit = (front - low) / (high - low)
    towards_the_ideal = (1 - unit[:, 0] - unit[:, 1]) / np.sqrt(2)  # line from (0, 1) to (1, 0)
    expected = np.flatnonzero(towards_the_ideal >= towards_the_ideal.max() - 1e-9)
    assert knee_points(front, [False, False]).tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(1, 9).map(float))
)
def test_units_and_dominated_points_do_not_matter(values: NDArray[np.float64]) -> None:
    maximize = [True, False, True]
    knees = knee_points(values, maximize)
    assert knees.size
    assert front_mask(values, maximize)[knees].all()
    assert knee_points(values * [1.0, 1e9, 1e-3] + [5.0, 0.0, 1.0], maximize).tolist() == knees.tolist()
    worse = np.concatenate([values, [[0.0, 10.0, 0.0]]])
    assert knee_points(worse, maximize).tolist() == knees.tolist()


def test_a_cost_over_decades_needs_a_logarithm() -> None:
    front = [[0.30, 1e8], [0.45, 2e8], [0.60, 1e9], [0.65, 1e11]]
    assert knee_points(front, MIOU_AND_COST).tolist() == [2]
    # in decades: lacks 1 + 0, 0.571 + 0.1, 0.143 + 0.333, 0 + 1
    assert knee_points(front, MIOU_AND_COST, log=[False, True]).tolist() == [2]
    cheap = [[0.30, 1e8], [0.45, 2e8], [0.50, 1e9], [0.65, 1e10]]
    assert knee_points(cheap, MIOU_AND_COST, log=[False, True]).tolist() == [1]


def test_equal_knees_are_all_given_and_a_front_of_two_has_no_bend() -> None:
    assert knee_points([[1.0, 1.0], [2.0, 2.0]], MIOU_AND_COST).tolist() == [0, 1]
    assert knee_points([[1.0, 1.0], [1.0, 1.0]], MIOU_AND_COST).tolist() == [0, 1]


def test_one_point_is_its_own_knee_and_no_points_have_none() -> None:
    assert knee_points([[0.5, 3.0]], MIOU_AND_COST).tolist() == [0]
    assert knee_points([], MIOU_AND_COST).tolist() == []


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        knee_points([[float("inf"), 1.0]], MIOU_AND_COST)
    with pytest.raises(ValueError, match="log10 needs positive"):
        knee_points([[0.5, 0.0]], MIOU_AND_COST, log=[False, True])
    with pytest.raises(ValueError, match="2 objectives need"):
        knee_points([[0.5, 1.0, 2.0]], MIOU_AND_COST)


def test_the_knee_of_a_sweep_takes_macs_and_speed_alike_in_decades() -> None:
    miou, macs, speed = DEFAULT_OBJECTIVES
    costs = (1e8, 2e8, 1e9, 1e10)
    run = [
        trial(n, m, c, 1e10 / c) for n, (m, c) in enumerate(zip((0.30, 0.45, 0.50, 0.65), costs, strict=True))
    ]
    stopped = dataclasses.replace(run[2], number=9, status=TrialStatus.STOPPED)
    # they lack 1, 0.722, 0.929, 1 of either pair; a linear speed would make it the first and the last
    for objectives in ((miou, macs), (miou, speed), (miou, macs, speed)):
        assert [item.number for item in knee_of([stopped, *run], objectives)] == [1]
    assert knee_of([stopped], (miou, macs)) == []


def test_a_cost_of_zero_stays_linear() -> None:
    miou, macs, _ = DEFAULT_OBJECTIVES
    run = [trial(0, 0.1, 0.0), trial(1, 0.5, 1e9), trial(2, 0.55, 4e9)]
    assert [item.number for item in knee_of(run, (miou, macs))] == [1]
