"""Whether two searches differ by more than their seeds do: rank tests, effect size, bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
BOOTSTRAP_FROM = 3  # runs of each side; of two values the bootstrap knows only three means
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class SeedTest:
    """A figure of two searches compared over their runs.

    Attributes:
        test: Name of the rank test.
        runs: Runs of the first and of the second search.
        difference: Mean of the first less mean of the second.
        interval: 95 % percentile bootstrap interval of the difference; ``None`` with fewer than 3 runs.
        p_value: Two-sided.
        smallest_p: The smallest p value that so few runs can give.
        effect: Chance that a run of the first is better than one of the second (Vargha and Delaney 2000;
            0.5 is no difference).
    """

    test: str
    runs: tuple[int, int]
    difference: float
    interval: tuple[float, float] | None
    p_value: float
    smallest_p: float
    effect: float

    @property
    def is_significant(self) -> bool:
        """Whether the test refuses "no difference" at 5 %."""
        return self.p_value < 1 - CONFIDENCE


def seed_test(first: Sequence[float], second: Sequence[float], *, paired: bool) -> SeedTest:
    """Compare a figure of two searches, more is better.

    Paired values (the same seeds on both sides) take Wilcoxon's signed-rank test, others the rank-sum test of
    Wilcoxon, Mann and Whitney; exact where scipy has the exact distribution.

    Args:
        first: One finite value per run.
        second: One finite value per run.
        paired: Whether the i-th values belong together.
    Raises:
        ValueError: If a side has fewer than two runs, pairs do not match, or a value is not finite.
    """
    ours, theirs = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if min(len(ours), len(theirs)) < 2:
        raise ValueError(f"there are {len(ours)} and {len(theirs)} runs; a test needs two of each")
    if paired and len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} runs are no pairs; set paired to false")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("a value is not finite; leave such runs out")
    return SeedTest(
        test="Wilcoxon signed-rank" if paired else "Wilcoxon rank-sum",
        runs=(len(ours), len(theirs)),
        difference=float(ours.mean() - theirs.mean()),
        interval=_interval(ours, theirs, paired=paired),
        p_value=_p_value(ours, theirs, paired=paired),
        smallest_p=_smallest_p(len(ours), len(theirs), paired=paired),
        effect=float((np.sign(ours[:, None] - theirs[None]) / 2 + 0.5).mean()),
    )


def _p_value(ours: NDArray[np.float64], theirs: NDArray[np.float64], *, paired: bool) -> float:
    from scipy import stats

    if paired:
        if (ours == theirs).all():
            return 1.0  # scipy has no answer without any difference
        return float(stats.wilcoxon(ours, theirs).pvalue)
    return float(stats.mannwhitneyu(ours, theirs).pvalue)


def _smallest_p(ours: int, theirs: int, *, paired: bool) -> float:
    # all pairs point the same way: 2 of 2^n sign patterns; all of one side above the other: 2 of the orders
    return min(1.0, 2.0 / (2**ours if paired else math.comb(ours + theirs, ours)))


def _interval(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], *, paired: bool
) -> tuple[float, float] | None:
    if min(len(ours), len(theirs)) < BOOTSTRAP_FROM:
        return None
    random = np.random.default_rng(0)  # the same runs give the same interval
    picks = random.integers(len(ours), size=(RESAMPLES, len(ours)))
    if paired:
        means = (ours - theirs)[picks].mean(axis=1)
    else:
        others = random.integers(len(theirs), size=(RESAMPLES, len(theirs)))
        means = ours[picks].mean(axis=1) - theirs[others].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)
