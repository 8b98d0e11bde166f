"""The fronts of a sweep as numbers: 2-D lines for charts, ranks, and hypervolume over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segsweep.pareto.front import front_of, non_dominated_rank, objective_values
from segsweep.pareto.hypervolume import hypervolume, reference_point
from segsweep.records import CostReport, Evaluation, Objective
from segsweep.tracking.units import rounded, unit_of

REFERENCE_MARGIN = 1.0  # of the largest cost known when the first trial completes
SHOWN_COSTS = (
    Objective(metric="macs", direction="minimize"),
    Objective(metric="num_params", direction="minimize"),
    Objective(metric="images_per_second", direction="maximize"),
    Objective(metric="latency_ms_p50", direction="minimize"),
)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One 2-D comparison: the first objective upwards against another one.

    A 3-objective front drawn as one 2-D line zigzags, so every panel has its own front.
    """

    x: Objective
    y: Objective

    @property
    def x_key(self) -> str:
        """Name of the front run's metric on the x axis, which is the axis's title."""
        return unit_of(self.x.metric).words

    @property
    def y_key(self) -> str:
        """Name of the front run's metric on the y axis, which is the title of the chart."""
        return f"{unit_of(self.y.metric).words} over {unit_of(self.x.metric).words}"


def panels(objectives: Sequence[Objective]) -> list[Panel]:
    """Every other objective against the first one."""
    return [Panel(x=other, y=objectives[0]) for other in objectives[1:]]


def chart_panels(objectives: Sequence[Objective]) -> list[Panel]:
    """The panels of the objectives, then the costs of ``SHOWN_COSTS`` that are no objective.

    A latency stands for all latencies. Charts of a cost that was not measured stay empty and are hidden.
    """
    found = panels(objectives)
    known = {_family(objective.metric) for objective in objectives}
    more = [cost for cost in SHOWN_COSTS if _family(cost.metric) not in known]
    return [*found, *(Panel(x=cost, y=objectives[0]) for cost in more)]


def _family(metric: str) -> str:
    return "latency" if metric.startswith("latency_") else metric


def ranks(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> dict[str, int]:
    """Non-dominated rank by trial id, 0 = on the front; only trials that may stand on a front."""
    usable, values = objective_values(evaluations, objectives)
    found = non_dominated_rank(values, [objective.maximize for objective in objectives])
    return {evaluation.trial_id: int(rank) for evaluation, rank in zip(usable, found, strict=True)}


def front_line(evaluations: Sequence[Evaluation], panel: Panel) -> list[tuple[float, float]]:
    """The 2-D front of a panel in shown units ``(x, y)``, in order of x; equal points once."""
    pair = (panel.x, panel.y)
    _, values = objective_values(front_of(evaluations, pair), pair)
    factors = np.array([unit_of(objective.metric).factor for objective in pair])
    return sorted({(float(x), float(y)) for x, y in values * factors})


def fixed_reference(
    evaluations: Sequence[Evaluation],
    costs: Sequence[CostReport],
    objectives: Sequence[Objective],
    *,
    given: Mapping[str, float],
) -> dict[str, float]:
    """A corner for the whole sweep by metric, made when its first trial completes.

    A cost that is not given gets ``1 + REFERENCE_MARGIN`` times the largest that any trial has, complete or
    not: costs are exact before a trial trains, so the corner rarely has to guess. Designs that cost more add
    no volume afterwards.
    """
    corner = dict(given)
    for objective in objectives:
        known = [
            cost for cost in (getattr(report, objective.metric, None) for report in costs) if cost is not None
        ]
        if not objective.maximize and objective.metric not in corner and known:
            seen = [*known, *(e.metrics().get(objective.metric, 0.0) for e in evaluations)]
            corner[objective.metric] = max(seen) * (1 + REFERENCE_MARGIN)
    point = reference_point(evaluations, objectives, given=corner, margin=REFERENCE_MARGIN)
    return {objective.metric: float(value) for objective, value in zip(objectives, point, strict=True)}


def progress(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], reference: Mapping[str, float]
) -> dict[str, float]:
    """The metrics of a sweep's progress: hypervolume (also scaled), size of the front, best first objective.

    ``hypervolume`` is in the stored units of the objectives; ``hypervolume_scaled`` is that divided by the
    references of the minimised objectives, so that its numbers can be read.
    """
    front = front_of(evaluations, objectives)
    _, values = objective_values(front, objectives)
    corner = [reference[objective.metric] for objective in objectives]
    volume = hypervolume(values, corner, [objective.maximize for objective in objectives])
    scale = math.prod(reference[o.metric] for o in objectives if not o.maximize and reference[o.metric] > 0)
    found = {
        "hypervolume": volume,
        "hypervolume_scaled": volume / scale,
        "front_size": float(len(front)),
    }
    if front:
        first = objectives[0]
        best = (max if first.maximize else min)(member.metrics()[first.metric] for member in front)
        name, value = rounded(first.metric, best)
        found[f"best_{name}"] = value
    return found
