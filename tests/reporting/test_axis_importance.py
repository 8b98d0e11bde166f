"""Importance of axes: known functions, an independent regression, and refusals."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from report_sweeps import trial
from sklearn.linear_model import LinearRegression

from segsweep.records import Evaluation, TrialStatus
from segsweep.reporting.report.importance import MIN_TRIALS, axis_importance

AXES = ("a", "b", "c")


def designs(count: int, *, noise: float = 0.0, seed: int = 0) -> list[Evaluation]:
    """mIoU = 0.4 + 0.2 a + 0.1 b (+ noise), a and b in {0, 1}, c without effect."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        a, b, c = number % 2, number // 2 % 2, number // 4 % 2
        miou = 0.4 + 0.2 * a + 0.1 * b + draw.gauss(0, noise)
        found.append(trial(number, miou=miou, macs=1e9 * 4**a * 2**b, point={"a": a, "b": b, "c": c}))
    return found


def test_shares_of_an_additive_function_are_its_shares_of_variance() -> None:
    found = axis_importance(designs(64), "miou", AXES)
    # variances 0.2^2 / 4 and 0.1^2 / 4: four to one
    assert found.shares == pytest.approx({"a": 0.8, "b": 0.2, "c": 0.0}, abs=1e-6)
    assert found.explained == pytest.approx(1.0, abs=1e-6)


def test_costs_are_explained_by_factors() -> None:
    found = axis_importance(designs(64), "macs", AXES)
    # log macs = a log 4 + b log 2: (2 : 1) squared
    assert found.shares == pytest.approx({"a": 0.8, "b": 0.2, "c": 0.0}, abs=1e-6)


def test_axes_that_moved_together_share_what_they_explain() -> None:
    twins = [
        trial(n, miou=0.5 + 0.1 * (n % 2), point={"a": n % 2, "b": "x" if n % 2 else "y"}) for n in range(40)
    ]
    found = axis_importance(twins, "miou", ("a", "b"))
    assert found.shares["a"] == pytest.approx(found.shares["b"], abs=1e-6)


def test_shares_agree_with_an_independent_regression_over_all_orders() -> None:
    draw = random.Random(3)
    points = [
        {"w": draw.choice([1, 2, 3, 5]), "k": draw.choice(["p", "q", "r"]), "d": draw.choice([0.1, 0.2])}
        for _ in range(60)
    ]
    target = [0.3 + 0.05 * p["w"] + 0.1 * (p["k"] == "q") + draw.gauss(0, 0.05) for p in points]
    trials = [trial(n, miou=y, point=p) for n, (p, y) in enumerate(zip(points, target, strict=True))]
    columns = {
        "w": np.array([[p["w"], p["w"] ** 2] for p in points], dtype=float),
        "k": np.array([[p["k"] == "q", p["k"] == "r"] for p in points], dtype=float),
        "d": np.array([[p["d"]] for p in points], dtype=float),
    }

    def r2(names: tuple[str, ...]) -> float:
        if not names:
            return 0.0
        table = np.concatenate([columns[name] for name in names], axis=1)
        return float(LinearRegression().fit(table, target).score(table, target))

    orders = list(itertools.permutations(columns))
    expected = {
        axis: sum(r2(o[: o.index(axis) + 1]) - r2(o[: o.index(axis)]) for o in orders) / len(orders)
        for axis in columns
    }
    full = r2(tuple(columns))
    adjusted = 1 - (1 - full) * 59 / (60 - 5 - 1)
    found = axis_importance(trials, "miou", ("w", "k", "d"))
    assert found.explained == pytest.approx(adjusted, abs=1e-6)
    for axis, share in expected.items():
        assert found.shares[axis] == pytest.approx(share * adjusted / full, abs=1e-6)


def test_a_sample_of_orders_is_used_with_many_axes_and_still_adds_up() -> None:
    draw = random.Random(5)
    names = [f"axis{n}" for n in range(11)]
    points = [{name: draw.choice([0, 1]) for name in names} for _ in range(200)]
    trials = [trial(n, miou=0.3 + 0.2 * p["axis0"] + 0.1 * p["axis1"], point=p) for n, p in enumerate(points)]
    found = axis_importance(trials, "miou", names)
    assert sum(found.shares.values()) == pytest.approx(found.explained)
    assert found.shares["axis0"] == pytest.approx(0.8, abs=0.05)
    assert found.shares["axis1"] == pytest.approx(0.2, abs=0.05)


def test_pure_noise_explains_next_to_nothing() -> None:
    draw = random.Random(1)
    trials = [
        trial(n, miou=draw.uniform(0.3, 0.7), point={"a": draw.randint(0, 9), "b": draw.choice("uvw")})
        for n in range(200)
    ]
    assert axis_importance(trials, "miou", ("a", "b")).explained < 0.05


def test_an_axis_that_is_not_always_active_counts_with_its_absence() -> None:
    trials = [
        trial(
            n,
            miou=0.5 + 0.1 * (n % 2),
            point={"kind": "bifpn", "repeats": 1 + n // 2 % 3} if n % 2 else {"kind": "fpn"},
        )
        for n in range(60)
    ]
    found = axis_importance(trials, "miou", ("kind", "repeats"))
    assert found.explained == pytest.approx(1.0, abs=1e-6)
    assert found.shares["kind"] == pytest.approx(0.5, abs=1e-6)  # both say whether the neck is a BiFPN


@pytest.mark.parametrize("count", [0, 1, MIN_TRIALS - 1])
def test_too_few_trials_give_no_shares(count: int) -> None:
    found = axis_importance(designs(count), "miou", AXES)
    assert (found.trials, found.shares) == (count, {})
    assert found.needed >= MIN_TRIALS


def test_many_levels_need_more_trials() -> None:
    trials = [trial(n, miou=0.5 + n / 1000, point={"name": f"net{n % 15}"}) for n in range(30)]
    found = axis_importance(trials, "miou", ("name",))
    assert found.needed == 2 * (14 + 1)
    assert found.shares
    assert not axis_importance(trials[:29], "miou", ("name",)).shares


def test_only_complete_trials_explain_miou_and_all_counted_ones_the_cost() -> None:
    trials = designs(64)
    stopped = [
        trial(100 + n, miou=0.9, point={"a": 0, "b": 0, "c": 0}, status=TrialStatus.STOPPED) for n in range(9)
    ]
    assert axis_importance([*trials, *stopped], "miou", AXES).trials == 64
    assert axis_importance([*trials, *stopped], "macs", AXES).trials == 73


def test_constant_axes_are_named_and_constant_targets_refused() -> None:
    trials = [trial(n, miou=0.5, point={"a": n % 2, "b": 7}) for n in range(40)]
    found = axis_importance(trials, "miou", ("a", "b"))
    assert found.constant == ("b",)
    assert found.shares == {}
    assert not math.isnan(found.explained)
