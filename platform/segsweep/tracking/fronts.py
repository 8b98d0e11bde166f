"""The fronts of a sweep as numbers: 2-D lines for charts, ranks, and hypervolume over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segsweep.pareto.archive import ParetoArchive
from segsweep.pareto.front import front_of, non_dominated_rank, objective_values
from segsweep.pareto.hypervolume import reference_point
from segsweep.records import Evaluation, Objective, objective_of
from segsweep.tracking.units import rounded, unit_of

REFERENCE_MARGIN = 1.0  # of the largest cost told when the first trial completes
SHOWN_COSTS = tuple(
    objective_of(metric) for metric in ("macs", "num_params", "images_per_second", "latency_ms_p50")
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
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], *, given: Mapping[str, float]
) -> dict[str, float]:
    """A corner for the whole sweep by metric, made when its first trial completes.

    A cost that is not given gets ``1 + REFERENCE_MARGIN`` times the largest of these evaluations, complete or
    not. Designs that cost more add no volume afterwards; ``beyond`` counts them.
    """
    point = reference_point(evaluations, objectives, given=given, margin=REFERENCE_MARGIN)
    return {objective.metric: float(value) for objective, value in zip(objectives, point, strict=True)}


def beyond(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], reference: Mapping[str, float]
) -> tuple[int, int]:
    """How many members of the front cost too much to add to the hypervolume, and how many members it has."""
    front = front_of(evaluations, objectives)
    costs = [objective.metric for objective in objectives if not objective.maximize]
    outside = [item for item in front if any(item.metrics()[cost] >= reference[cost] for cost in costs)]
    return len(outside), len(front)


class FrontProgress:
    """A sweep's progress, evaluation by evaluation: each costs one update of the front, however many came.

    Args:
        objectives: The k objectives, k in 1..4.
        reference: Corner of the hypervolume by metric.
    """

    def __init__(self, objectives: Sequence[Objective], reference: Mapping[str, float]) -> None:
        self.trials: list[str] = []  # ids of the evaluations taken in so far
        self._objectives = tuple(objectives)
        corner = [reference[objective.metric] for objective in objectives]
        self._archive = ParetoArchive([objective.maximize for objective in objectives], reference=corner)
        self._scale = math.prod(
            reference[item.metric] for item in objectives if not item.maximize and reference[item.metric] > 0
        )
        self._best: float | None = None

    def add(self, evaluation: Evaluation) -> None:
        """Take in the next evaluation; one that cannot stand on a front changes nothing but their number."""
        self.trials.append(evaluation.trial_id)
        better = max if self._objectives[0].maximize else min
        for row in objective_values([evaluation], self._objectives)[1]:
            self._archive.add(row)
            self._best = float(row[0]) if self._best is None else better(self._best, float(row[0]))

    def metrics(self) -> dict[str, float]:
        """Hypervolume (also scaled), size of the front, best first objective.

        ``hypervolume`` is in the stored units of the objectives; ``hypervolume_scaled`` is that divided by
        the references of the minimised objectives, so that its numbers can be read.
        """
        volume = self._archive.hypervolume
        found = {
            "hypervolume": volume,
            "hypervolume_scaled": volume / self._scale,
            "front_size": float(len(self._archive)),
        }
        if self._best is not None:
            name, value = rounded(self._objectives[0].metric, self._best)
            found[f"best_{name}"] = value
        return found


def progress(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], reference: Mapping[str, float]
) -> dict[str, float]:
    """The metrics of a sweep's progress after all of these evaluations, see ``FrontProgress.metrics``."""
    so_far = FrontProgress(objectives, reference)
    for evaluation in evaluations:
        so_far.add(evaluation)
    return so_far.metrics()
