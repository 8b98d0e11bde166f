"""Tests over seeds: exact p values by counting, effect size and bootstrap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from segsweep.pareto.statistics import seed_test

FIRST = [0.71, 0.74, 0.69, 0.80, 0.77, 0.75]
SECOND = [0.70, 0.71, 0.70, 0.72, 0.75, 0.71]


def test_the_signed_rank_test_counts_sign_patterns() -> None:
    # Wilcoxon 1945: the share of the 2^n sign patterns whose rank sum is as far out as the one seen
    differences = np.array([1.0, 2.0, 3.0, -1.5, 5.0])
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    seen = ranks[differences > 0].sum()
    middle = ranks.sum() / 2
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product([0, 1], repeat=5)
    ]
    expected = np.mean([abs(total - middle) >= abs(seen - middle) for total in sums])
    found = seed_test((10 + differences).tolist(), [10.0] * 5, paired=True)
    assert found.p_value == pytest.approx(expected)
    assert found.test == "Wilcoxon signed-rank"
    assert found.smallest_p == pytest.approx(2 / 32)


def test_the_rank_sum_test_counts_orders() -> None:
    # all of 3 above all of 4: 2 of the 7-choose-3 orders are as far out
    found = seed_test([5.0, 6.0, 7.0], [1.0, 2.0, 3.0, 4.0], paired=False)
    assert found.p_value == pytest.approx(2 / 35)
    assert found.smallest_p == pytest.approx(2 / 35)
    assert found.test == "Wilcoxon rank-sum"
    assert found.effect == 1.0


def test_effect_is_the_share_of_won_comparisons_with_ties_half() -> None:
    pairs = list(itertools.product([1.0, 2.0, 3.0], [2.0, 2.0, 0.0]))
    expected = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert seed_test([1.0, 2.0, 3.0], [2.0, 2.0, 0.0], paired=False).effect == pytest.approx(expected)


def test_the_difference_of_means_lies_in_its_interval_which_shrinks_with_more_runs() -> None:
    few = seed_test(FIRST, SECOND, paired=False)
    many = seed_test(FIRST * 10, SECOND * 10, paired=False)
    assert few.difference == pytest.approx(np.mean(FIRST) - np.mean(SECOND))
    assert few.interval is not None
    assert many.interval is not None
    assert few.interval[0] < few.difference < few.interval[1]
    assert many.interval[1] - many.interval[0] < 0.5 * (few.interval[1] - few.interval[0])
    assert many.is_significant


def test_the_bootstrap_covers_the_true_difference_in_about_19_of_20_samples() -> None:
    random = np.random.default_rng(3)
    hits = []
    for _ in range(60):
        found = seed_test(
            random.normal(1.0, 1.0, 20).tolist(), random.normal(0.0, 1.0, 20).tolist(), paired=False
        )
        assert found.interval is not None
        hits.append(found.interval[0] <= 1.0 <= found.interval[1])
    assert np.mean(hits) >= 0.82


def test_pairs_remove_what_the_seeds_share() -> None:
    seeds = np.linspace(0, 1, 8)
    better = (seeds + 0.01 + 0.001 * np.arange(8)).tolist()
    assert seed_test(better, seeds.tolist(), paired=True).is_significant
    assert not seed_test(better, seeds.tolist(), paired=False).is_significant


def test_the_same_runs_give_the_same_interval() -> None:
    assert seed_test(FIRST, SECOND, paired=True) == seed_test(FIRST, SECOND, paired=True)


def test_two_runs_have_no_interval_and_equal_pairs_no_difference() -> None:
    assert seed_test([1.0, 2.0], [1.0, 3.0], paired=False).interval is None
    equal = seed_test([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], paired=True)
    assert (equal.p_value, equal.difference, equal.effect) == (1.0, 0.0, 0.5)


def test_too_few_runs_and_wrong_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="two of each"):
        seed_test([1.0], [1.0, 2.0], paired=False)
    with pytest.raises(ValueError, match="no pairs"):
        seed_test([1.0, 2.0], [1.0, 2.0, 3.0], paired=True)
    with pytest.raises(ValueError, match="not finite"):
        seed_test([1.0, float("nan")], [1.0, 2.0], paired=True)
