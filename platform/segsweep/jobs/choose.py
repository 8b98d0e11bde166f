"""Choosing among complete trials: what meets the conditions, what is best, what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from segsweep.jobs.finished_sweep import FinishedSweep
from segsweep.jobs.recommendation import KNEE, Candidate, Miss, StepUp
from segsweep.jobs.where import Condition, trial_values
from segsweep.pareto.front import front_of
from segsweep.pareto.knee import knee_of
from segsweep.records import COST_METRICS, MORE_IS_BETTER, Objective, objective_of

MISSES = 3
EXTREMES = ("miou", "macs", "num_params", "images_per_second")  # give the roles max-miou, min-macs, ...


def candidates_of(sweeps: Iterable[FinishedSweep]) -> list[Candidate]:
    """All complete trials of the sweeps."""
    found = []
    for sweep in sweeps:
        front = {item.trial_id for item in sweep.front}
        found += [
            Candidate(sweep=sweep, evaluation=item, on_front=item.trial_id in front)
            for item in sweep.complete
        ]
    return found


def meets(candidate: Candidate, conditions: Iterable[Condition]) -> bool:
    """Whether all conditions hold; one about what was not measured does not."""
    values = trial_values(candidate.evaluation)
    return all(condition.holds(values) for condition in conditions)


def ranked(
    candidates: Sequence[Candidate], objective: str, objectives: Sequence[Objective]
) -> list[Candidate]:
    """Best first; those without the objective's value are left out."""
    if objective == KNEE:
        knees = _knees(candidates, objectives)
        others = ranked([item for item in candidates if item not in knees], "miou", objectives)
        return [*ranked(knees, "miou", objectives), *others]
    sign = -1.0 if objective in MORE_IS_BETTER else 1.0
    having = [item for item in candidates if objective in item.metrics]
    return sorted(
        having,
        key=lambda item: (
            sign * item.metrics[objective],
            not item.on_front,
            -item.miou,
            item.metrics.get("macs", 0.0),
        ),
    )


def _knees(candidates: Sequence[Candidate], objectives: Sequence[Objective]) -> list[Candidate]:
    chosen = {id(item) for item in knee_of([item.evaluation for item in candidates], objectives)}
    return [item for item in candidates if id(item.evaluation) in chosen]


def roles_of(chosen: Candidate, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """What the chosen one is among all complete trials."""
    roles = []
    if chosen in _knees(candidates, chosen.sweep.objectives):
        roles.append(KNEE)
    for metric in EXTREMES:
        values = [item.metrics[metric] for item in candidates if metric in item.metrics]
        more = metric in MORE_IS_BETTER
        if metric in chosen.metrics and chosen.metrics[metric] == (max if more else min)(values):
            roles.append(f"{'max' if more else 'min'}-{metric.replace('_', '-')}")
    return tuple(roles)


def _cost_metric(chosen: Candidate, conditions: Sequence[Condition], objective: str) -> str | None:
    """The cost of which one more step is asked: the objective, else one that is limited, else the sweep's."""
    limited = [bound.name.removeprefix("cost.") for item in conditions for bound in item.bounds]
    wanted = [objective, *limited, *(item.metric for item in chosen.sweep.objectives)]
    return next((name for name in wanted if name in COST_METRICS), None)


def step_up(
    chosen: Candidate, candidates: Sequence[Candidate], conditions: Sequence[Condition], objective: str
) -> tuple[StepUp | None, str]:
    """The next member of the front of mIoU against cost, above the chosen one."""
    metric = _cost_metric(chosen, conditions, objective)
    if metric is None or metric not in chosen.metrics:
        return None, f"{metric or 'no cost'} was not measured"
    more = metric in MORE_IS_BETTER
    kept = [item for item in conditions if metric not in {b.name.removeprefix("cost.") for b in item.bounds}]
    pool = [item for item in candidates if item is chosen or meets(item, kept)]
    pair = (objective_of("miou"), objective_of(metric))
    front = {id(item) for item in front_of([item.evaluation for item in pool], pair)}
    above = [item for item in pool if id(item.evaluation) in front and item.miou > chosen.miou]
    if not above:
        return None, "no complete trial has a higher mIoU" + (
            " and meets the other conditions" if kept else ""
        )
    following = (max if more else min)(above, key=lambda item: item.metrics[metric])
    values = chosen.metrics[metric], following.metrics[metric]
    return (
        StepUp(
            metric=metric,
            candidate=following,
            factor=values[0] / values[1] if more else values[1] / values[0],
            miou_gain=following.miou - chosen.miou,
            breaks=tuple(item.text for item in conditions if not meets(following, [item])),
        ),
        "",
    )


def nearest_misses(candidates: Sequence[Candidate], conditions: Sequence[Condition]) -> tuple[Miss, ...]:
    """The trials that lack least, as shares of the limits, the nearest first."""

    def shortfall(candidate: Candidate) -> float:
        values = trial_values(candidate.evaluation)
        return sum(condition.shortfall(values) for condition in conditions)

    found = []
    for item in sorted(candidates, key=lambda item: (shortfall(item), not item.on_front))[:MISSES]:
        values = trial_values(item.evaluation)
        broken = [condition for condition in conditions if not condition.holds(values)]
        found.append(
            Miss(
                candidate=item,
                broken=tuple(
                    (condition.text, {name: values.get(name) for name in sorted(condition.expression.names)})
                    for condition in broken
                ),
            )
        )
    return tuple(found)
