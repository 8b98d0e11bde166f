"""Which order of a front stops the right trials: a simulated sweep with exact costs and learning curves.

The designs have a size (MACs over 2.5 decades), a quality and a learning rate that fits more or less. The
mIoU rises as 1 - exp(-(fidelity / tau)^0.6) with tau larger for larger designs and differing by design, plus
noise. Points are drawn at random; each rule has epochs for six full trainings. No rule sees the final mIoU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from segsweep.pareto.front import non_dominated_rank
from segsweep.pareto.hypervolume import hypervolume
from segsweep.records import DEFAULT_OBJECTIVES
from segsweep.search.promotion import RungRule
from segsweep.search.scale import comparable_values

RUNGS = (1 / 9, 1 / 3)
BUDGET = 6.0  # full trainings
SEEDS = 30
MAXIMIZE = [True, False, True]
REFERENCE = {"miou": 0.0, "macs": 10**10.6, "images_per_second": 1.2}  # the dearest design and a little more

Values = Mapping[str, float]
Decide = Callable[[str, float, Values], bool]


class Designs:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        size = self.rng.random(500)
        misfit = np.clip(np.abs(self.rng.normal(size=500)), 0, 3)
        rise = 0.35 * (1 - np.exp(-2.2 * size)) / (1 - math.exp(-2.2))
        final = (0.35 + rise) * (1 - 0.06 * misfit**2) + 0.03 * self.rng.normal(size=500)
        self.final = np.clip(final, 0.02, 0.95)
        self.tau = 0.08 * 10 ** (size - 0.5) * np.exp(0.3 * self.rng.normal(size=500))
        self.macs = 10 ** (8 + 2.5 * size)
        self.speed = 3e10 / (self.macs**0.85 * 10**1.35) * np.exp(0.15 * self.rng.normal(size=500))

    def values(self, index: int, fidelity: float) -> Values:
        grown = 1 - math.exp(-((fidelity / self.tau[index]) ** 0.6))
        full = 1 - math.exp(-((1 / self.tau[index]) ** 0.6))
        miou = self.final[index] * grown / full + 0.01 * self.rng.normal()
        return {
            "miou": float(np.clip(miou, 0.001, 1)),
            "macs": float(self.macs[index]),
            "images_per_second": float(self.speed[index]),
        }


def sweep(decide: Decide | None, seed: int) -> float:
    """Hypervolume (costs in decades) of what a sweep of ``BUDGET`` trains to the end."""
    designs = Designs(seed)
    used = 0.0
    complete: list[list[float]] = []
    index = 0
    while used < BUDGET:
        trained = 0.0
        goes_on = True
        for rung in RUNGS if decide else ():
            used += rung - trained
            trained = rung
            goes_on = decide(str(index), rung, designs.values(index, rung))
            if not goes_on:
                break
        if goes_on:
            used += 1 - trained
            complete.append(comparable_values(DEFAULT_OBJECTIVES, designs.values(index, 1.0)))
        index += 1
    corner = [0.0, math.log10(REFERENCE["macs"]), math.log10(REFERENCE["images_per_second"])]
    return hypervolume(np.array(complete).reshape(-1, 3), corner, MAXIMIZE)


def crowding_distance(front: np.ndarray) -> np.ndarray:
    """Room of each point between its neighbours (Deb et al. 2002, Sec. III-B)."""
    distance = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if ordered[0] != ordered[-1]:
            distance[order[[0, -1]]] = np.inf
            distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    return distance


def crowding_rule() -> Decide:
    """Non-dominated rank, then crowding distance: MOASHA (Schmucker et al. 2021)."""
    seen: dict[float, list[list[float]]] = {rung: [] for rung in RUNGS}

    def decide(trial: str, rung: float, values: Values) -> bool:
        seen[rung].append(comparable_values(DEFAULT_OBJECTIVES, values))
        table = np.array(seen[rung])
        ranks = non_dominated_rank(table, MAXIMIZE)
        crowding = np.zeros(len(table))
        for rank in np.unique(ranks):
            crowding[ranks == rank] = crowding_distance(table[ranks == rank])
        # Of equal distance, as the many infinite ones, the earlier trial is first.
        ahead = (ranks < ranks[-1]) | ((ranks == ranks[-1]) & (crowding >= crowding[-1]))
        return int(ahead[:-1].sum()) < math.ceil(len(table) / 3)

    return decide


def miou_rule() -> Decide:
    """One objective: ASHA (Li et al. 2020)."""
    seen: dict[float, list[float]] = {rung: [] for rung in RUNGS}

    def decide(trial: str, rung: float, values: Values) -> bool:
        seen[rung].append(values["miou"])
        return sum(miou > values["miou"] for miou in seen[rung]) < math.ceil(len(seen[rung]) / 3)

    return decide


@functools.cache
def mean_hypervolume(name: str) -> float:
    make: dict[str, Callable[[], Decide | None]] = {
        "ours": lambda: RungRule(RUNGS).decide,
        "crowding": crowding_rule,
        "miou": miou_rule,
        "none": lambda: None,
    }
    return float(np.mean([sweep(make[name](), seed) for seed in range(SEEDS)]))


@pytest.mark.parametrize(("other", "gain"), [("none", 1.05), ("crowding", 1.05), ("miou", 1.3)])
def test_stopping_by_added_hypervolume_finds_the_better_front(other: str, gain: float) -> None:
    assert mean_hypervolume("ours") > gain * mean_hypervolume(other)
