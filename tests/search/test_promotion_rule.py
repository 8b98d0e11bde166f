from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segsweep.records import DEFAULT_OBJECTIVES
from segsweep.search.promotion import RungRule, added_hypervolume

TWO = DEFAULT_OBJECTIVES[:2]


def vector(miou: float, macs: float, speed: float | None = None) -> dict[str, float]:
    return {"miou": miou, "macs": macs, "images_per_second": speed or 1e12 / macs}


def decisions(rule: RungRule, vectors: list[dict[str, float]], rung: float = 0.1) -> list[bool]:
    return [rule.decide(f"t{number}", rung, values) for number, values in enumerate(vectors)]


def test_the_first_trial_at_each_rung_goes_on() -> None:
    rule = RungRule((0.1, 0.3))
    assert rule.decide("bad", 0.1, vector(0.01, 1e12))
    assert rule.decide("bad", 0.3, vector(0.01, 1e12))


@pytest.mark.parametrize("eta", [2.0, 3.0, 4.0])
def test_about_one_in_eta_goes_on_of_trials_in_random_order(eta: float) -> None:
    trials = 100
    shares = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        # Cost and accuracy trade off, so half of the trials or more are non-dominated.
        vectors = [
            vector(
                0.3 + 0.1 * size + 0.02 * rng.normal(), 1e8 * 10**size, 1e3 / 10**size * rng.uniform(0.8, 1.2)
            )
            for size in rng.random(trials)
        ]
        shares.append(np.mean(decisions(RungRule((0.1,), eta), vectors)))
    assert np.mean(shares) == pytest.approx(1 / eta, abs=0.07)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 15), st.just(2)), elements=st.floats(0.1, 1.0)))
def test_a_trial_better_than_all_before_it_goes_on(table: np.ndarray) -> None:
    rule = RungRule((0.1,), objectives=TWO)
    decisions(rule, [vector(miou, macs) for miou, macs in table.tolist()])
    assert rule.decide("best", 0.1, vector(1.1, 0.05))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(3, 15), st.just(2)), elements=st.floats(0.1, 1.0)))
def test_a_trial_worse_than_all_before_it_stops(table: np.ndarray) -> None:
    rule = RungRule((0.1,), objectives=TWO)
    decisions(rule, [vector(miou, macs) for miou, macs in table.tolist()])
    assert not rule.decide("worst", 0.1, vector(0.05, 1.1))


FRONT = [vector(0.3 + 0.1 * i, 1e8 * 2**i) for i in range(6)]


def test_the_cheapest_design_stops_where_its_miou_is_hopeless() -> None:
    rule = RungRule((0.1,))
    decisions(rule, FRONT)
    assert not rule.decide("hopeless", 0.1, vector(0.02, 0.99e8))


def test_a_design_that_is_far_cheaper_for_a_fair_miou_goes_on() -> None:
    rule = RungRule((0.1,))
    decisions(rule, FRONT)
    assert rule.decide("cheap", 0.1, vector(0.3, 0.1e8))


def test_the_most_accurate_design_goes_on_however_dear() -> None:
    rule = RungRule((0.1,))
    decisions(rule, FRONT)
    assert rule.decide("accurate", 0.1, vector(0.95, 2e10))


def test_a_copy_of_a_design_on_the_front_stops() -> None:
    rule = RungRule((0.1,))
    decisions(rule, FRONT)
    assert not rule.decide("copy", 0.1, FRONT[3])


def test_decisions_do_not_depend_on_the_unit_of_a_cost() -> None:
    rng = np.random.default_rng(0)
    vectors = [vector(rng.random(), 10 ** rng.uniform(8, 10), 10 ** rng.uniform(0, 2)) for _ in range(40)]
    in_giga = [
        {**v, "macs": v["macs"] / 1e9, "images_per_second": v["images_per_second"] * 60} for v in vectors
    ]
    assert decisions(RungRule((0.1,)), in_giga) == decisions(RungRule((0.1,)), vectors)


def test_a_replay_gives_the_same_decisions() -> None:
    rng = np.random.default_rng(1)
    vectors = [vector(rng.random(), 10 ** rng.uniform(8, 10)) for _ in range(40)]
    assert decisions(RungRule((0.1,)), vectors) == decisions(RungRule((0.1,)), vectors)


def test_a_repeated_report_keeps_its_decision_and_counts_once() -> None:
    rule, plain = RungRule((0.1,)), RungRule((0.1,))
    first = decisions(rule, FRONT)
    again = decisions(rule, [vector(0.99, 1.0)] * len(FRONT))  # a trial back from a checkpoint
    decisions(plain, FRONT)
    assert again == first
    for index in range(5):
        values = vector(0.4 + index / 50, 3e8)
        assert rule.decide(f"n{index}", 0.1, values) == plain.decide(f"n{index}", 0.1, values)


def test_rungs_do_not_see_each_other() -> None:
    rule = RungRule((0.1, 0.3))
    decisions(rule, FRONT)
    assert rule.decide("late", 0.3, vector(0.02, 1e12))  # first there


def test_fidelities_are_compared_with_room_for_rounding() -> None:
    assert RungRule((1 / 9,)).decide("t", 0.1111111, vector(0.5, 1e9))


def test_a_fidelity_that_is_no_rung_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fidelity 0.2 is no rung; rungs: 0.1, 0.3"):
        RungRule((0.1, 0.3)).decide("t", 0.2, vector(0.5, 1e9))


def test_a_missing_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="images_per_second is None, it must be a positive number"):
        RungRule((0.1,)).decide("t", 0.1, {"miou": 0.5, "macs": 1.0})


@pytest.mark.parametrize("rungs", [(0.3, 0.1), (0.0,), (1.0,), (0.1, 0.1)])
def test_wrong_rungs_are_refused(rungs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must rise and lie between 0 and 1"):
        RungRule(rungs)


def test_wrong_eta_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than 1"):
        RungRule((0.1,), eta=1.0)


def test_added_hypervolume_by_hand() -> None:
    # Boxes up to (2, 2): alone are [0, 0.4] x [1, 2], [0.4, 1] x [0.5, 1] and [1, 2] x [0, 0.5].
    losses = np.array([[0.0, 1.0], [0.4, 0.5], [1.0, 0.0]])
    assert added_hypervolume(losses).tolist() == pytest.approx([0.4, 0.3, 0.5])
