from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segsweep.pareto.hypervolume import hypervolume, hypervolume_trace, reference_point
from segsweep.records import DEFAULT_OBJECTIVES, CostReport, Evaluation, Objective, Point, Score, TrialStatus


def tables(dimensions: int, largest: int = 8) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, largest), st.just(dimensions)),
        elements=st.integers(0, 6).map(float),
    )


def by_inclusion_exclusion(points: np.ndarray, reference: np.ndarray) -> float:
    """Volume of the union of the boxes [point, reference]: signed sum over all subsets' intersections."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            sides = np.clip(reference - np.max(subset, axis=0), 0, None)
            total += (-1) ** (size + 1) * float(np.prod(sides))
    return total


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_equals_inclusion_exclusion(dimensions: int) -> None:
    @settings(max_examples=60, deadline=None)
    @given(tables(dimensions))
    def check(points: np.ndarray) -> None:
        reference = np.full(dimensions, 5.0)  # some points lie beyond it
        expected = by_inclusion_exclusion(points, reference)
        assert hypervolume(points, reference, [False] * dimensions) == pytest.approx(expected)

    check()


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_equals_monte_carlo_on_a_large_front(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    points = rng.random((60, dimensions))
    samples = rng.random((60_000, dimensions))
    dominated = np.zeros(len(samples), dtype=bool)
    for point in points:
        dominated |= (samples >= point).all(axis=1)
    share = dominated.mean()  # the unit cube has volume 1
    error = 5 * np.sqrt(share * (1 - share) / len(samples))
    assert hypervolume(points, np.ones(dimensions), [False] * dimensions) == pytest.approx(share, abs=error)


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_a_box_has_the_product_of_its_sides(dimensions: int) -> None:
    assert hypervolume([[1.0] * dimensions], [3.0] * dimensions, [False] * dimensions) == 2.0**dimensions


def test_directions_by_hand() -> None:
    # mIoU up, macs down: [0.5, 0.8] x [20, 100] and [0, 0.5] x [10, 100] => 0.5 * 90 + 0.3 * 80.
    assert hypervolume([[0.5, 10.0], [0.8, 20.0]], [0.0, 100.0], [True, False]) == pytest.approx(69.0)


def test_log_counts_decades() -> None:
    # 0.5 * log10(1000 / 10): halving a cost counts the same at every scale.
    assert hypervolume([[0.5, 10.0]], [0.0, 1000.0], [True, False], log=[False, True]) == pytest.approx(1.0)


def test_log_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="log10 needs positive"):
        hypervolume([[0.5, 10.0]], [0.0, 1000.0], [True, False], log=[True, True])


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_laws(dimensions: int) -> None:
    @settings(max_examples=60, deadline=None)
    @given(tables(dimensions, largest=12), st.lists(st.integers(0, 6), min_size=4, max_size=4))
    def check(points: np.ndarray, extra: list[int]) -> None:
        minimize = [False] * dimensions
        reference = [7.0] * dimensions
        volume = hypervolume(points, reference, minimize)
        point = np.array(extra[:dimensions], dtype=float)
        more = hypervolume(np.vstack([points, point]), reference, minimize)
        dominated = bool(len(points)) and bool((points <= point).all(axis=1).any())
        assert volume >= 0
        assert more == pytest.approx(volume) if dominated else more > volume  # grows with a better front only
        assert hypervolume(points[::-1], reference, minimize) == pytest.approx(volume)
        assert hypervolume(np.vstack([points, points]), reference, minimize) == pytest.approx(volume)
        assert hypervolume(points * 2, [14.0] * dimensions, minimize) == pytest.approx(
            volume * 2.0**dimensions
        )
        assert hypervolume(-points, [-7.0] * dimensions, [True] * dimensions) == pytest.approx(volume)
        swapped = hypervolume(np.roll(points, 1, axis=1), reference, minimize)
        assert swapped == pytest.approx(volume)

    check()


def test_five_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="exact for 1 to 4"):
        hypervolume([[1.0] * 5], [2.0] * 5, [False] * 5)


def test_a_thousand_points_in_three_objectives_take_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    points = np.abs(rng.normal(size=(1000, 3)))
    points = 1 - points / np.linalg.norm(points, axis=1, keepdims=True)  # all on one front
    start = time.process_time()
    hypervolume(points, np.ones(3), [False] * 3)
    assert time.process_time() - start < 1.0


def test_ten_thousand_points_in_two_objectives_take_less_than_a_fifth_of_a_second() -> None:
    x = np.linspace(0, 1, 10_000)
    start = time.process_time()
    volume = hypervolume(np.stack([x, 1 - x], axis=1), [1.0, 1.0], [False, False])
    assert time.process_time() - start < 0.2
    assert volume == pytest.approx(0.5, abs=1e-3)  # the triangle, less half a step


def complete(number: int, miou: float, macs: int, speed: float = 1.0, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {
        "trial_id": str(number),
        "number": number,
        "point": Point({"a": number}),
        "status": TrialStatus.COMPLETE,
        "cost": CostReport(num_params=1, macs=macs, size=(1, 1), num_classes=2, images_per_second=speed),
        "scores": (Score(epoch=1, fidelity=1.0, miou=miou, train_loss=0.0, seconds=0.0),),
    }
    return Evaluation(**{**values, **changes})


TWO = DEFAULT_OBJECTIVES[:2]


def test_reference_is_zero_where_more_is_better_and_beyond_the_dearest_design_else() -> None:
    evaluations = [complete(0, 0.5, 100), complete(1, 0.6, 300, status=TrialStatus.STOPPED)]
    assert reference_point(evaluations, DEFAULT_OBJECTIVES).tolist() == pytest.approx([0.0, 330.0, 0.0])


def test_a_given_reference_wins() -> None:
    assert reference_point([complete(0, 0.5, 100)], TWO, given={"macs": 150.0}).tolist() == [0.0, 150.0]


def test_a_cost_that_nobody_has_seen_has_no_reference() -> None:
    with pytest.raises(ValueError, match="no trial has macs yet"):
        reference_point([], [Objective(metric="macs", direction="minimize")])


def test_trace_equals_the_hypervolume_of_every_prefix() -> None:
    rng = np.random.default_rng(1)
    evaluations = [complete(i, float(rng.random()), int(rng.integers(1, 100))) for i in range(30)]
    values = [[e.metrics()["miou"], e.metrics()["macs"]] for e in evaluations]
    expected = [hypervolume(values[: i + 1], [0.0, 100.0], [True, False]) for i in range(30)]
    assert hypervolume_trace(evaluations, TWO, [0.0, 100.0]) == pytest.approx(expected)


def test_trace_repeats_its_value_where_a_trial_is_not_complete() -> None:
    evaluations = [
        complete(0, 0.9, 1, status=TrialStatus.FAILED),
        complete(1, 0.5, 10),
        complete(2, 0.9, 1, status=TrialStatus.STOPPED),
    ]
    assert hypervolume_trace(evaluations, TWO, [0.0, 100.0]) == pytest.approx([0.0, 45.0, 45.0])


def test_trace_in_decades() -> None:
    trace = hypervolume_trace([complete(0, 0.5, 10)], TWO, [0.0, 1000.0], log={"macs"})
    assert trace == pytest.approx([1.0])
