"""The figures of a sweep's progress, trial by trial, against fronts and volumes computed anew."""

from __future__ import annotations

import time

import pytest
from recorded_sweep import recorded_sweep

from segsweep.pareto.front import front_of, objective_values
from segsweep.pareto.hypervolume import hypervolume
from segsweep.records import DEFAULT_OBJECTIVES, objective_of
from segsweep.tracking.fronts import FrontProgress, fixed_reference


@pytest.mark.parametrize(
    "objectives", [DEFAULT_OBJECTIVES, (objective_of("miou"), objective_of("num_params"))]
)
def test_each_step_is_the_front_of_all_trials_so_far(objectives: tuple) -> None:  # type: ignore[type-arg]
    evaluations = recorded_sweep(30, seed=2)
    reference = fixed_reference(evaluations, objectives, given={})
    corner = [reference[item.metric] for item in objectives]
    so_far = FrontProgress(objectives, reference)
    for count, evaluation in enumerate(evaluations, start=1):
        so_far.add(evaluation)
        front = front_of(evaluations[:count], objectives)
        volume = hypervolume(
            objective_values(front, objectives)[1], corner, [item.maximize for item in objectives]
        )
        found = so_far.metrics()
        assert found["hypervolume"] == pytest.approx(volume)
        assert found["front_size"] == len(front)
        if front:
            best = max(100 * item.metrics()["miou"] for item in front)
            assert found["best_miou_pct"] == pytest.approx(best, abs=0.006)


def test_a_long_sweep_is_followed_in_linear_time() -> None:
    evaluations = recorded_sweep(2000, seed=2)
    so_far = FrontProgress(DEFAULT_OBJECTIVES, fixed_reference(evaluations, DEFAULT_OBJECTIVES, given={}))
    seconds = []
    for evaluation in evaluations:
        begin = time.thread_time()
        so_far.add(evaluation)
        so_far.metrics()
        seconds.append(time.thread_time() - begin)
    assert sorted(seconds)[len(seconds) // 2] < 0.02
    assert sum(seconds[-500:]) < 8 * sum(seconds[:500])  # computed anew, it would grow with their number


def test_the_corner_comes_from_the_evaluations_that_were_told() -> None:
    evaluations = recorded_sweep(8, seed=2)
    reference = fixed_reference(evaluations, DEFAULT_OBJECTIVES, given={})
    dearest = max(item.cost.macs for item in evaluations if item.cost)
    assert reference == {"miou": 0.0, "macs": 2.0 * dearest, "images_per_second": 0.0}
