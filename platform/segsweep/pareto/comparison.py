"""Several searches in one space of objectives: volumes at one corner, indicators, leads, knees."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segsweep.pareto.attainment import attainment_surface, median_runs
from segsweep.pareto.comparison_records import (
    Contender,
    FrontComparison,
    Member,
    Pairing,
    Standing,
    Surface,
)
from segsweep.pareto.front import as_losses, front_mask, objective_values
from segsweep.pareto.hypervolume import hypervolume, reference_point
from segsweep.pareto.indicators import coverage, epsilon_indicator, hypervolume_ratio
from segsweep.pareto.knee import knee_of
from segsweep.pareto.leads import Lead, leads
from segsweep.pareto.statistics import SeedTest, seed_test
from segsweep.records import Evaluation, Objective

Values = NDArray[np.float64]


def compare_fronts(
    contenders: Sequence[Contender],
    objectives: Sequence[Objective],
    *,
    given: Mapping[str, float],
    keep: Callable[[Evaluation], bool] = lambda evaluation: True,
    conditions: str = "",
    tolerance: float = 0.0,
) -> FrontComparison:
    """Compare contenders in one space of objectives.

    A run that has complete trials, but none that takes part here, says nothing in this space: it is left out.
    One without any complete trial reached nothing, which counts.

    Args:
        contenders: With different labels.
        objectives: Two to four; the first is what the others are the price of.
        given: References by metric; missing ones are found from all trials (see ``reference_point``).
        keep: Which trials take part (those of one device).
        conditions: Words for ``keep``.
        tolerance: Leads of the first objective up to this are called level.
    Raises:
        ValueError: If a minimised objective has neither a reference nor a trial.
    """
    sets = [_RunSets.of(contender, objectives, keep) for contender in contenders]
    here = [item for item in sets if item.any_points]
    pool = [e for contender in contenders for run in contender.runs for e in run.evaluations if keep(e)]
    corner = reference_point(pool, objectives, given=given)
    maximize = [objective.maximize for objective in objectives]
    united = np.concatenate([values for item in here for values in item.values] or [_none(objectives)])
    standings = tuple(_standing(item, united, corner, objectives) for item in here)
    metrics = [objective.metric for objective in objectives]
    return FrontComparison(
        objectives=tuple(objectives),
        conditions=conditions,
        reference=dict(zip(metrics, map(float, corner), strict=True)),
        standings=standings,
        absent=tuple(item.contender.label for item in sets if not item.any_points),
        united_hypervolume=hypervolume(united, corner, maximize),
        pairings=_pairings(here, standings, objectives, corner),
        leads=_leads(standings, objectives, tolerance),
    )


@dataclass(frozen=True, kw_only=True)
class _RunSets:
    """The usable trials of each run of a contender that can say something here."""

    contender: Contender
    trials: list[list[Evaluation]]
    values: list[Values]

    @classmethod
    def of(
        cls, contender: Contender, objectives: Sequence[Objective], keep: Callable[[Evaluation], bool]
    ) -> _RunSets:
        found = [
            (run, *objective_values([e for e in run.evaluations if keep(e)], objectives))
            for run in contender.runs
        ]
        kept = [item for item in found if item[1] or all(e.miou is None for e in item[0].evaluations)]
        return cls(
            contender=replace(contender, runs=tuple(run for run, _, _ in kept)),
            trials=[trials for _, trials, _ in kept],
            values=[rows for _, _, rows in kept],
        )

    @property
    def any_points(self) -> bool:
        return any(len(rows) for rows in self.values)


def _none(objectives: Sequence[Objective]) -> Values:
    return np.empty((0, len(objectives)))


def _standing(
    sets: _RunSets,
    united: Values,
    corner: Values,
    objectives: Sequence[Objective],
) -> Standing:
    maximize = [objective.maximize for objective in objectives]
    members = [
        Member(label=sets.contender.label, sweep_id=run.sweep_id, evaluation=trial)
        for run, trials in zip(sets.contender.runs, sets.trials, strict=True)
        for trial in trials
    ]
    values = np.concatenate(sets.values)
    front = np.flatnonzero(front_mask(values, maximize))
    knees = {id(trial) for trial in knee_of([member.evaluation for member in members], objectives)}
    best = max if objectives[0].maximize else min
    surfaces = _surfaces(sets.values, maximize)
    return Standing(
        label=sets.contender.label,
        trials=tuple(members),
        hypervolumes=tuple(hypervolume(rows, corner, maximize) for rows in sets.values),
        best=tuple(float(best(rows[:, 0])) for rows in sets.values if len(rows)),
        front=tuple(members[index] for index in front),
        on_united_front=_undominated(values[front], united, maximize),
        knees=tuple(member for member in members if id(member.evaluation) in knees),
        surface=surfaces[0],
        reached_once=surfaces[1],
        reached_always=surfaces[2],
    )


def _undominated(values: Values, united: Values, maximize: Sequence[bool]) -> int:
    front = np.unique(as_losses(united, maximize)[front_mask(united, maximize)], axis=0)
    return sum(bool((row == front).all(axis=1).any()) for row in as_losses(values, maximize))


def _surfaces(values: Sequence[Values], maximize: Sequence[bool]) -> tuple[Surface, Surface, Surface]:
    """Median, best and worst attainment surface of two objectives, as (second, first)."""
    if len(maximize) != 2:
        return (), (), ()
    turned, directions = [rows[:, ::-1] for rows in values], list(maximize)[::-1]
    runs = len(values)

    def surface(count: int) -> Surface:
        corners = attainment_surface(turned, directions, runs=count)
        return tuple((float(x), float(y)) for x, y in corners)

    if runs == 1:
        return surface(1), (), ()
    return surface(median_runs(runs)), surface(1), surface(runs)


def _leads(
    standings: Sequence[Standing], objectives: Sequence[Objective], tolerance: float
) -> tuple[Lead, ...]:
    if len(objectives) != 2:
        return ()
    surfaces = [np.array(standing.surface).reshape(-1, 2) for standing in standings]
    return tuple(leads(surfaces, [objectives[1].maximize, objectives[0].maximize], tolerance=tolerance))


def _pairings(
    sets: Sequence[_RunSets],
    standings: Sequence[Standing],
    objectives: Sequence[Objective],
    corner: Values,
) -> tuple[Pairing, ...]:
    maximize = [objective.maximize for objective in objectives]
    fronts = [front for item in sets for front in _fronts(item, maximize)]
    scale = _ranges(fronts, len(maximize))
    return tuple(
        _pairing(ours, theirs, maximize=maximize, scale=scale, corner=corner)
        for ours, theirs in itertools.combinations(zip(sets, standings, strict=True), 2)
    )


def _pairing(
    ours: tuple[_RunSets, Standing],
    theirs: tuple[_RunSets, Standing],
    *,
    maximize: Sequence[bool],
    scale: Values,
    corner: Values,
) -> Pairing:
    (our_sets, our), (their_sets, their) = ours, theirs
    pairs = list(itertools.product(_fronts(our_sets, maximize), _fronts(their_sets, maximize)))
    reached = [rows for rows, volume in zip(their_sets.values, their.hypervolumes, strict=True) if volume]
    ratios = [
        hypervolume_ratio(mine, other, corner, maximize)
        for mine, other in itertools.product(our_sets.values, reached)
    ]
    positive = all(bool((front > 0).all()) for pair in pairs for front in pair)
    seeds = [[run.seed for run in item.contender.runs] for item in (our_sets, their_sets)]
    complete = all(len(rows) for item in (our_sets, their_sets) for rows in item.values)
    paired = complete and seeds[0] == seeds[1] and len(set(seeds[0])) == len(seeds[0])
    sign = 1.0 if maximize[0] else -1.0
    return Pairing(
        first=our.label,
        second=their.label,
        hypervolume_ratio=float(np.median(ratios)) if ratios else None,
        coverage=_both_ways(pairs, lambda a, b: coverage(a, b, maximize)),
        epsilon=_both_ways(pairs, lambda a, b: epsilon_indicator(a, b, maximize, scale=scale)),
        factor=_both_ways(pairs, lambda a, b: epsilon_indicator(a, b, maximize, kind="multiplicative"))
        if positive
        else None,
        hypervolume_test=_test(our.hypervolumes, their.hypervolumes, paired=paired),
        best_test=_test([sign * v for v in our.best], [sign * v for v in their.best], paired=paired),
    )


def _fronts(sets: _RunSets, maximize: Sequence[bool]) -> list[Values]:
    return [rows[front_mask(rows, maximize)] for rows in sets.values if len(rows)]


def _both_ways(
    pairs: Sequence[tuple[Values, Values]], indicator: Callable[[Values, Values], float]
) -> tuple[float, float]:
    there = [indicator(ours, theirs) for ours, theirs in pairs]
    back = [indicator(theirs, ours) for ours, theirs in pairs]
    return float(np.median(there)), float(np.median(back))


def _test(ours: Sequence[float], theirs: Sequence[float], *, paired: bool) -> SeedTest | None:
    if min(len(ours), len(theirs)) < 2:
        return None
    return seed_test(ours, theirs, paired=paired)


def _ranges(fronts: Sequence[Values], objectives: int) -> Values:
    """Range of each objective over all fronts; 1 where it has none.

    Not over the united front: where one point dominates nearly all others that has hardly any range.
    """
    if not fronts:
        return np.ones(objectives)
    members = np.concatenate(fronts)
    ranges = members.max(axis=0) - members.min(axis=0)
    return np.where(ranges > 0, ranges, 1.0)
