"""What a reader should know in ten seconds: the designs to look at first, and what must not be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from segsweep.pareto.front import front_of, objective_values
from segsweep.pareto.hypervolume import hypervolume, reference_point
from segsweep.pareto.knee import knee_of
from segsweep.records import SPEED_METRICS, Evaluation, Objective, TrialStatus
from segsweep.reporting.report.families import protocol_differences, speed_differences
from segsweep.reporting.report.records import Sweep
from segsweep.tracking.units import unit_of

Place = tuple[int, str]  # sweep, trial id


def knees(sweep: Sweep) -> dict[str, Evaluation]:
    """The knee of each panel: the first objective against every other one, by the other's metric.

    Of several the one with the better first objective. The knee of all objectives together is another one.
    """
    first = sweep.objectives[0]
    found = {other.metric: knee_of(sweep.evaluations, (first, other)) for other in sweep.objectives[1:]}
    return {metric: _extreme(members, first) for metric, members in found.items() if members}


def cards(sweep: Sweep) -> list[dict[str, str]]:
    """Designs to look at first: the best, the bends, and the extreme of every other objective."""
    front = front_of(sweep.evaluations, sweep.objectives)
    if not front:
        return []
    first, *others = sweep.objectives
    named: list[tuple[str, Evaluation]] = [(f"best {_short(first.metric)}", _extreme(front, first))]
    bends: dict[str, tuple[list[str], Evaluation]] = {}
    for metric, evaluation in knees(sweep).items():
        bends.setdefault(evaluation.trial_id, ([], evaluation))[0].append(_short(metric))
    named += [(f"knee against {' and '.join(names)}", evaluation) for names, evaluation in bends.values()]
    if len(others) > 1:
        named.append(("knee of all objectives", knee_of(sweep.evaluations, sweep.objectives)[0]))
    named += [(f"{_adjective(other)} {_short(other.metric)}", _extreme(front, other)) for other in others]
    together: dict[str, list[str]] = {}
    for label, evaluation in named:
        together.setdefault(evaluation.trial_id, []).append(label)
    return [{"trial": trial, "label": ", ".join(labels)} for trial, labels in together.items()]


def counts(sweep: Sweep) -> dict[str, int]:
    """Trials by status, all statuses named."""
    found = Counter(str(evaluation.status) for evaluation in sweep.evaluations)
    return {str(status): found[str(status)] for status in TrialStatus}


def common_reference(sweeps: Sequence[Sweep]) -> dict[str, float]:
    """One corner for all sweeps; empty if their objectives differ or no trial has a cost.

    A value that every sweep's job gave alike stays; else the worst of the sweeps' corners.
    """
    objectives = sweeps[0].objectives
    if any(tuple(sweep.objectives) != tuple(objectives) for sweep in sweeps):
        return {}
    corner: dict[str, float] = {}
    for objective in objectives:
        known = [sweep.reference[objective.metric] for sweep in sweeps if objective.metric in sweep.reference]
        if known:
            corner[objective.metric] = min(known) if objective.maximize else max(known)
    everything = [evaluation for sweep in sweeps for evaluation in sweep.evaluations]
    try:
        point = reference_point(everything, objectives, given=corner)
    except ValueError:  # a minimised objective that no trial has
        return {}
    return {objective.metric: float(value) for objective, value in zip(objectives, point, strict=True)}


def volume(sweep: Sweep, reference: dict[str, float]) -> float | None:
    """Hypervolume in stored units over the references of the costs; ``None`` without a corner or a front.

    The same figure as ``hypervolume_scaled`` in MLflow, at the corner given here.
    """
    _, values = objective_values(sweep.evaluations, sweep.objectives)
    if not reference or not len(values):
        return None
    corner = np.array([reference[objective.metric] for objective in sweep.objectives])
    dominated = hypervolume(values, corner, [objective.maximize for objective in sweep.objectives])
    costs = [reference[o.metric] for o in sweep.objectives if not o.maximize and reference[o.metric] > 0]
    return float(f"{dominated / float(np.prod(costs)):.6g}")


def warnings(sweeps: Sequence[Sweep]) -> list[str]:
    """Sentences on what must not be compared, or is not the end."""
    found = [
        f"{sweep.sweep_id} was interrupted: its front is the one so far."
        for sweep in sweeps
        if sweep.interrupted
    ]
    ids = [sweep.sweep_id for sweep in sweeps]
    for words, values in protocol_differences(sweeps).items():
        found.append(
            f"The sweeps differ in {words} ({_each(ids, values)}), so their mIoU are not comparable."
        )
    for words, values in speed_differences(sweeps).items():
        found.append(
            f"Speed was measured under different conditions: {words} ({_each(ids, values)}). "
            "Do not read images/s and latency across them."
        )
    empty = [sweep.sweep_id for sweep in sweeps if not counts(sweep)["complete"]]
    found += [f"{name} has no complete trial, so it has no front." for name in empty]
    return found


def speed_is_mixed(sweeps: Sequence[Sweep]) -> list[str]:
    """Metrics whose values were measured under different conditions."""
    return sorted(SPEED_METRICS) if speed_differences(sweeps) else []


def sweep_entry(sweep: Sweep, reference: dict[str, float], conditions: list[list[str]]) -> dict[str, Any]:
    """A sweep as the page reads it."""
    return {
        "id": sweep.sweep_id,
        "method": sweep.method,
        "counts": counts(sweep),
        "front": len(front_of(sweep.evaluations, sweep.objectives)),
        "objectives": [objective.metric for objective in sweep.objectives],
        "knees": {metric: evaluation.trial_id for metric, evaluation in knees(sweep).items()},
        "cards": cards(sweep),
        "volume": volume(sweep, reference),
        "interrupted": sweep.interrupted,
        "conditions": conditions,
        "epochs": sweep.conditions.epochs,
    }


def _each(ids: Sequence[str], values: Sequence[str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in zip(ids, values, strict=True))


def _extreme(front: Sequence[Evaluation], objective: Objective) -> Evaluation:
    pick = max if objective.maximize else min
    return pick(front, key=lambda evaluation: evaluation.metrics()[objective.metric])


def _short(metric: str) -> str:
    return unit_of(metric).label.replace(" (%)", "").replace(" per image", "")


def _adjective(objective: Objective) -> str:
    return "most" if objective.maximize else "least"
