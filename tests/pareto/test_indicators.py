"""Coverage, epsilon and hypervolume ratio: against their definitions and against moocore."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from segsweep.pareto import indicators
from segsweep.pareto.front import front_mask
from segsweep.pareto.indicators import coverage, epsilon_indicator, hypervolume_ratio

MAXIMIZE = [True, False, False]
SETS = hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.just(3)), elements=st.integers(1, 5).map(float))


def reaches(point: NDArray[np.float64], goal: NDArray[np.float64]) -> bool:
    return bool(point[0] >= goal[0] and point[1] <= goal[1] and point[2] <= goal[2])


@settings(max_examples=60, deadline=None)
@given(SETS, SETS)
def test_coverage_counts_the_points_that_are_reached(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    reached = [any(reaches(point, goal) for point in first) for goal in second]
    assert coverage(first, second, MAXIMIZE) == pytest.approx(np.mean(reached))


@settings(max_examples=60, deadline=None)
@given(SETS, SETS)
def test_epsilons_are_those_of_moocore(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    added = moocore.epsilon_additive(first, ref=second, maximise=MAXIMIZE)
    factor = moocore.epsilon_mult(first, ref=second, maximise=MAXIMIZE)
    assert epsilon_indicator(first, second, MAXIMIZE) == pytest.approx(added)
    assert epsilon_indicator(first, second, MAXIMIZE, kind="multiplicative") == pytest.approx(factor)


@settings(max_examples=60, deadline=None)
@given(SETS, SETS)
def test_a_set_improved_by_its_epsilon_covers_all_and_by_less_does_not(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    epsilon = epsilon_indicator(first, second, MAXIMIZE)
    signs = np.array([1.0, -1.0, -1.0])
    assert coverage(first + signs * (epsilon + 1e-9), second, MAXIMIZE) == 1.0
    assert coverage(first + signs * (epsilon - 1e-6), second, MAXIMIZE) < 1.0


@settings(max_examples=40, deadline=None)
@given(SETS)
def test_a_front_reaches_its_whole_set_as_it_is(values: NDArray[np.float64]) -> None:
    front = values[front_mask(values, MAXIMIZE)]
    assert coverage(front, values, MAXIMIZE) == 1.0
    assert epsilon_indicator(front, values, MAXIMIZE) == 0.0
    assert epsilon_indicator(front, values, MAXIMIZE, kind="multiplicative") == pytest.approx(1.0)


def test_epsilon_by_hand_in_units_of_a_scale() -> None:
    # mIoU lacks 0.1 of a range of 0.5, MACs are 30 too many of a range of 100: the worse of 0.2 and 0.3
    epsilon = epsilon_indicator([[0.5, 50.0]], [[0.6, 20.0]], [True, False], scale=[0.5, 100.0])
    assert epsilon == pytest.approx(0.3)


def test_the_ratio_of_hypervolumes_by_hand() -> None:
    # 0.5 x 80 against 0.4 x 50, both up to mIoU 0 and 100 MACs
    ratio = hypervolume_ratio([[0.5, 20.0]], [[0.4, 50.0]], [0.0, 100.0], [True, False])
    assert ratio == pytest.approx(40 / 20)


def test_large_sets_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    first, second = random.random((50, 3)), random.random((70, 3))
    whole = coverage(first, second, MAXIMIZE), epsilon_indicator(first, second, MAXIMIZE)
    monkeypatch.setattr(indicators, "_PAIRS_AT_ONCE", 400)
    assert (coverage(first, second, MAXIMIZE), epsilon_indicator(first, second, MAXIMIZE)) == whole


def test_empty_sets_and_wrong_values_are_refused() -> None:
    one = [[1.0, 1.0]]
    with pytest.raises(ValueError, match="first set is empty"):
        coverage([], one, [True, False])
    with pytest.raises(ValueError, match="second set is empty"):
        epsilon_indicator(one, [], [True, False])
    with pytest.raises(ValueError, match="needs positive"):
        epsilon_indicator([[0.0, 1.0]], one, [True, False], kind="multiplicative")
    with pytest.raises(ValueError, match="2 positive numbers"):
        epsilon_indicator(one, one, [True, False], scale=[1.0, 0.0])
    with pytest.raises(ValueError, match="not finite"):
        coverage([[float("nan"), 1.0]], one, [True, False])
    with pytest.raises(ValueError, match="no volume at this reference"):
        hypervolume_ratio(one, one, [2.0, 2.0], [True, False])
