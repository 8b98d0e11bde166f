"""Contenders in one space of objectives: volumes, shares, medians over seeds, and who is left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from compared_sweeps import trial, trials

from segsweep.pareto.comparison import compare_fronts
from segsweep.pareto.comparison_records import Contender, SearchRun
from segsweep.pareto.hypervolume import hypervolume
from segsweep.pareto.indicators import coverage, epsilon_indicator
from segsweep.records import DEFAULT_OBJECTIVES, Evaluation, TrialStatus

MIOU, MACS, SPEED = DEFAULT_OBJECTIVES
UP_DOWN = [True, False]


def contender(label: str, *runs: list[Evaluation]) -> Contender:
    return Contender(
        label=label,
        method=label,
        runs=tuple(
            SearchRun(sweep_id=f"{label}-{seed}", seed=seed, evaluations=tuple(run))
            for seed, run in enumerate(runs)
        ),
    )


def rows(run: list[Evaluation]) -> np.ndarray:
    return np.array([[e.metrics()["miou"], e.metrics()["macs"]] for e in run])


def test_the_united_volume_is_that_of_all_points_together() -> None:
    a, b = trials(8, seed=1), trials(8, seed=2)
    found = compare_fronts([contender("a", a), contender("b", b)], (MIOU, MACS), given={"macs": 3e9})
    both = np.concatenate([rows(a), rows(b)])
    assert found.united_hypervolume == pytest.approx(hypervolume(both, [0, 3e9], UP_DOWN))
    assert sum(item.on_united_front for item in found.standings) >= 1
    alone = compare_fronts([contender("a", a)], (MIOU, MACS), given={"macs": 3e9})
    assert alone.united_hypervolume == alone.standings[0].hypervolume
    assert alone.pairings == ()


def test_indicators_are_medians_over_all_pairs_of_runs() -> None:
    ours, theirs = [trials(8, seed=s) for s in (1, 2)], [trials(8, seed=s) for s in (3, 4, 5)]
    found = compare_fronts([contender("a", *ours), contender("b", *theirs)], (MIOU, MACS), given={})
    covered = [coverage(rows(mine), front_rows(other), UP_DOWN) for mine in ours for other in theirs]
    assert found.pairings[0].coverage[0] == pytest.approx(np.median(covered))
    factors = [
        epsilon_indicator(rows(mine), front_rows(other), UP_DOWN, kind="multiplicative")
        for mine in ours
        for other in theirs
    ]
    assert found.pairings[0].factor is not None
    assert found.pairings[0].factor[0] == pytest.approx(np.median(factors))
    volumes = [item.hypervolumes for item in found.standings]
    ratios = [mine / other for mine in volumes[0] for other in volumes[1]]
    assert found.pairings[0].hypervolume_ratio == pytest.approx(np.median(ratios))


def front_rows(run: list[Evaluation]) -> np.ndarray:
    values = rows(run)
    kept = [
        not any((other[0] >= row[0]) and (other[1] <= row[1]) and (other != row).any() for other in values)
        for row in values
    ]
    return values[kept]


def test_the_additive_epsilon_counts_in_ranges_of_all_fronts() -> None:
    # the united front is the one point of b; the fronts range over 0.4 mIoU and 9 GMACs
    a = [trial(1, 0.2, 1e9), trial(2, 0.5, 10e9)]
    b = [trial(1, 0.6, 1e9)]
    found = compare_fronts([contender("a", a), contender("b", b)], (MIOU, MACS), given={})
    # a reaches b's point from (0.2, 1e9) with 0.4 of 0.4, from (0.5, 10e9) with 0.1 of 0.4 and 9 of 9
    assert found.pairings[0].epsilon == (pytest.approx(1.0), pytest.approx(0.0))


def test_runs_without_a_complete_trial_count_as_nothing_reached() -> None:
    stopped = [trial(1, 0.9, 1e6, status=TrialStatus.STOPPED)]
    good = [trial(1, 0.5, 1e9)]
    found = compare_fronts(
        [contender("a", good, stopped), contender("b", good, good)], (MIOU, MACS), given={"macs": 2e9}
    )
    a, b = found.standings
    assert a.hypervolumes == (pytest.approx(0.5e9), 0.0)
    assert a.reached_always == ()  # one of two seeds reached nothing
    assert b.reached_always == ((1e9, 0.5),)
    assert found.pairings[0].hypervolume_test is not None
    assert found.pairings[0].best_test is None  # only one run of a has a best


def test_who_lacks_an_objective_is_absent() -> None:
    found = compare_fronts(
        [contender("a", [trial(1, 0.5, 1e9, 10.0)]), contender("b", [trial(1, 0.5, 1e9)])],
        (MIOU, SPEED),
        given={},
    )
    assert [item.label for item in found.standings] == ["a"]
    assert found.absent == ("b",)


def test_knees_are_found_in_decades_of_cost() -> None:
    run = [trial(1, 0.30, 1e8), trial(2, 0.45, 2e8), trial(3, 0.50, 1e9), trial(4, 0.65, 1e10)]
    found = compare_fronts([contender("a", run)], (MIOU, MACS), given={})
    # in decades they lack 1, 0.722, 0.929, 1; linear 1, 0.581, 0.519, 1
    assert [m.evaluation.number for m in found.standings[0].knees] == [2]


def of_machine(run: list[Evaluation], device: str) -> list[Evaluation]:
    return [
        dataclasses.replace(e, cost=dataclasses.replace(e.cost, device=device))
        for e in run
        if e.cost is not None
    ]


def test_seeds_of_another_machine_say_nothing_about_this_ones_speed() -> None:
    here, there = (of_machine([trial(1, 0.5, 1e9, 10.0), trial(2, 0.6, 2e9, 5.0)], name) for name in "ab")
    # of the other machine's seed even stopped trials were measured here: they are no complete ones
    elsewhere = [*there, dataclasses.replace(here[0], number=9, status=TrialStatus.STOPPED)]
    found = compare_fronts(
        [contender("x", here, elsewhere, here), contender("y", here, here)],
        (MIOU, SPEED),
        given={},
        keep=lambda e: e.cost is not None and e.cost.device == "a",
    )
    x, y = found.standings
    volume = 0.5 * 10.0 + 0.1 * 5.0
    assert x.hypervolumes == y.hypervolumes == (pytest.approx(volume), pytest.approx(volume))
    assert len(x.best) == 2
    assert x.reached_always == x.surface == x.reached_once == ((10.0, 0.5), (5.0, 0.6))
    (pairing,) = found.pairings
    assert pairing.hypervolume_test is not None
    assert pairing.hypervolume_test.difference == 0.0
    assert pairing.hypervolume_test.test == "Wilcoxon rank-sum"  # seeds 0 and 2 against 0 and 1
    assert pairing.hypervolume_ratio == pytest.approx(1.0)


def test_equal_seeds_are_paired_and_others_are_not() -> None:
    a, b = (
        contender("a", trials(5, seed=1), trials(5, seed=2)),
        contender("b", trials(5, seed=3), trials(5, seed=4)),
    )
    paired = compare_fronts([a, b], (MIOU, MACS), given={}).pairings[0]
    other = Contender(
        label="b",
        method="b",
        runs=tuple(
            SearchRun(sweep_id=r.sweep_id, seed=r.seed + 7, evaluations=r.evaluations) for r in b.runs
        ),
    )
    unpaired = compare_fronts([a, other], (MIOU, MACS), given={}).pairings[0]
    assert paired.hypervolume_test is not None
    assert unpaired.hypervolume_test is not None
    assert paired.hypervolume_test.test == "Wilcoxon signed-rank"
    assert unpaired.hypervolume_test.test == "Wilcoxon rank-sum"
