from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segsweep.pareto.front import front_mask, front_of, non_dominated_rank
from segsweep.records import DEFAULT_OBJECTIVES, CostReport, Evaluation, Point, Score, TrialStatus

MAXIMIZE = [True, False, True]
# Few distinct values, so that ties and duplicates are common.
TABLES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=st.integers(-3, 3).map(float)
)


def dominates(a: list[float], b: list[float], maximize: list[bool]) -> bool:
    better = [(x > y) if up else (x < y) for x, y, up in zip(a, b, maximize, strict=True)]
    worse = [(x < y) if up else (x > y) for x, y, up in zip(a, b, maximize, strict=True)]
    return any(better) and not any(worse)


def ranks_by_definition(table: list[list[float]], maximize: list[bool]) -> list[int]:
    """The longest chain of points that dominate one another above each point."""
    ranks = [-1] * len(table)
    rank = 0
    while -1 in ranks:
        left = [i for i, r in enumerate(ranks) if r == -1]
        front = [i for i in left if not any(dominates(table[j], table[i], maximize) for j in left)]
        for i in front:
            ranks[i] = rank
        rank += 1
    return ranks


@given(TABLES)
def test_ranks_are_those_of_the_definition(table: np.ndarray) -> None:
    assert non_dominated_rank(table, MAXIMIZE).tolist() == ranks_by_definition(table.tolist(), MAXIMIZE)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.integers(-3, 3).map(float))
)
def test_ranks_of_two_objectives_are_those_of_the_definition(table: np.ndarray) -> None:
    assert non_dominated_rank(table, [True, False]).tolist() == ranks_by_definition(
        table.tolist(), [True, False]
    )


@given(TABLES)
def test_front_is_rank_zero(table: np.ndarray) -> None:
    assert front_mask(table, MAXIMIZE).tolist() == (non_dominated_rank(table, MAXIMIZE) == 0).tolist()


@given(TABLES)
def test_ranks_do_not_depend_on_the_order_of_points(table: np.ndarray) -> None:
    order = np.random.default_rng(len(table)).permutation(len(table))
    assert (
        non_dominated_rank(table[order], MAXIMIZE).tolist()
        == non_dominated_rank(table, MAXIMIZE)[order].tolist()
    )


@given(TABLES)
def test_ranks_do_not_change_under_a_rising_map_of_an_objective(table: np.ndarray) -> None:
    mapped = table.copy()
    mapped[:, 1] = np.exp(mapped[:, 1])
    assert non_dominated_rank(mapped, MAXIMIZE).tolist() == non_dominated_rank(table, MAXIMIZE).tolist()


def test_equal_points_share_the_front() -> None:
    assert front_mask([[1.0, 1.0], [1.0, 1.0], [0.0, 2.0]], [True, False]).tolist() == [True, True, False]


def test_no_points_have_an_empty_front() -> None:
    assert front_mask([], MAXIMIZE).tolist() == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused_and_named(bad: float) -> None:
    with pytest.raises(ValueError, match=r"row 1 .* not finite"):
        non_dominated_rank([[1.0, 1.0], [bad, 1.0]], [True, True])


def test_wrong_number_of_objectives_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 objectives need \(n, 3\)"):
        non_dominated_rank([[1.0, 1.0]], MAXIMIZE)


def evaluation(number: int, status: TrialStatus, miou: float, macs: int, speed: float | None) -> Evaluation:
    return Evaluation(
        trial_id=f"{number}",
        number=number,
        point=Point({"a": number}),
        status=status,
        cost=CostReport(num_params=1, macs=macs, size=(1, 1), num_classes=2, images_per_second=speed),
        scores=(Score(epoch=1, fidelity=1.0, miou=miou, train_loss=0.0, seconds=0.0),),
    )


def test_only_complete_trials_with_every_objective_stand_on_a_front() -> None:
    evaluations = [
        evaluation(0, TrialStatus.COMPLETE, 0.5, 100, 10.0),
        evaluation(1, TrialStatus.STOPPED, 0.9, 10, 90.0),
        evaluation(2, TrialStatus.COMPLETE, 0.9, 10, None),
        evaluation(3, TrialStatus.COMPLETE, 0.4, 200, 9.0),  # dominated by 0
        evaluation(4, TrialStatus.COMPLETE, 0.4, 50, 9.0),
    ]
    assert [e.number for e in front_of(evaluations, DEFAULT_OBJECTIVES)] == [0, 4]
