"""Attainment surfaces of several runs: against the definition and against moocore's EAF."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from segsweep.pareto.attainment import attainment_surface, median_runs
from segsweep.pareto.front import front_mask

Values = NDArray[np.float64]
RUNS = st.lists(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(0, 9).map(float)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(RUNS)
def test_surfaces_are_those_of_moocore(runs: list[Values]) -> None:
    sets = np.concatenate([np.full(len(run), index) for index, run in enumerate(runs)])
    for count in range(1, len(runs) + 1):
        table = moocore.eaf(np.concatenate(runs), sets=sets, percentiles=[100 * count / len(runs)])
        expected = sorted(map(tuple, table[:, :2].tolist()))
        found = attainment_surface(runs, [False, False], runs=count)
        assert [tuple(corner) for corner in found.tolist()] == expected


def reaching(runs: list[Values], goals: Values) -> NDArray[np.int64]:
    """Runs that have a point as cheap and as good as each goal, by the definition."""
    return np.array(
        [sum(any(x <= goal[0] and y >= goal[1] for x, y in run) for run in runs) for goal in goals],
        dtype=np.int64,
    )


@settings(max_examples=60, deadline=None)
@given(RUNS)
def test_corners_are_reached_by_enough_runs_and_anything_better_is_not(runs: list[Values]) -> None:
    maximize = [False, True]
    for count in range(1, len(runs) + 1):
        corners = attainment_surface(runs, maximize, runs=count)
        assert (reaching(runs, corners) >= count).all()
        for better in ([-0.5, 0.0], [0.0, 0.5]):
            assert (reaching(runs, corners + better) < count).all()


def test_the_first_surface_is_the_front_of_all_runs() -> None:
    random = np.random.default_rng(0)
    runs = [random.random((20, 2)) for _ in range(4)]
    everything = np.concatenate(runs)
    front = everything[front_mask(everything, [True, False])]
    found = attainment_surface(runs, [True, False], runs=1)
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, front.tolist()))


def test_median_surface_by_hand() -> None:
    # cost down, quality up; two of three runs reach (1, 5), two reach (3, 7)
    runs = [[[1.0, 5.0]], [[1.0, 6.0], [3.0, 7.0]], [[2.0, 8.0]]]
    found = attainment_surface(runs, [False, True], runs=median_runs(3))
    assert found.tolist() == [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]]


def test_runs_without_points_reach_nothing() -> None:
    runs = [np.empty((0, 2)), np.array([[1.0, 5.0]])]
    assert attainment_surface(runs, [False, True], runs=1).tolist() == [[1.0, 5.0]]
    assert attainment_surface(runs, [False, True], runs=2).shape == (0, 2)


@pytest.mark.parametrize(("runs", "half"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_median_is_what_at_least_half_of_the_runs_reach(runs: int, half: int) -> None:
    assert median_runs(runs) == half


def test_wrong_counts_and_shapes_are_refused() -> None:
    run = [[1.0, 2.0]]
    with pytest.raises(ValueError, match="there are 1 fronts"):
        attainment_surface([run], [True, True], runs=2)
    with pytest.raises(ValueError, match="2 objectives, not 3"):
        attainment_surface([[[1.0, 2.0, 3.0]]], [True] * 3, runs=1)
