"""The trials of all sweeps as columns of JSON values: small to write, quick to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from segsweep.pareto.front import front_of
from segsweep.records import RATIO_METRICS, AxisValue, Evaluation, Objective, TrialStatus, objective_of
from segsweep.reporting.report.importance import DECADE
from segsweep.reporting.report.records import Sweep
from segsweep.tracking.units import UNITS, shown, unit_of

CURVE_POINTS = 24  # validations of a trial that its learning curve shows
_DIGITS = 9  # significant digits of a value in the page
_LEFT_OUT = {"flops"}  # 2 x MACs: says nothing new


def metrics_of(sweeps: Sequence[Sweep]) -> list[Objective]:
    """What is shown, objectives first, then what else any trial has; each with its better direction."""
    found = {objective.metric: objective for sweep in sweeps for objective in sweep.objectives}
    known = {
        metric for sweep in sweeps for evaluation in sweep.evaluations for metric in evaluation.metrics()
    }
    for metric in UNITS:
        if metric in known - _LEFT_OUT and metric not in found:
            found[metric] = objective_of(metric)
    return list(found.values())


def metric_entry(objective: Objective) -> dict[str, Any]:
    """A metric as the page reads it."""
    unit = unit_of(objective.metric)
    return {
        "key": objective.metric,
        "label": unit.label,
        "name": unit.name,
        "decimals": unit.decimals,
        "max": objective.maximize,
        "log": objective.metric in RATIO_METRICS,
    }


def axis_entries(sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """Every axis in the order of the spaces, with its levels in order; numbers are drawn to scale."""
    names = dict.fromkeys(axis for sweep in sweeps for axis in sweep.axes)
    points = [evaluation.point for sweep in sweeps for evaluation in sweep.evaluations]
    names |= dict.fromkeys(axis for point in points for axis in point)
    entries = []
    for name in names:
        values = list(dict.fromkeys(point[name] for point in points if name in point))
        numbers = [float(value) for value in values if _is_number(value)]
        numeric = bool(values) and len(numbers) == len(values)
        entries.append(
            {
                "name": name,
                "numeric": numeric,
                "log": numeric and min(numbers) > 0 and max(numbers) >= DECADE * min(numbers),
                "levels": sorted(values, key=_order),
                "partial": any(name not in point for point in points),
            }
        )
    return [entry for entry in entries if entry["levels"]]


def trial_columns(
    sweeps: Sequence[Sweep], metrics: Sequence[Objective], axes: Sequence[str]
) -> dict[str, Any]:
    """One entry for each trial in every column, sweep after sweep.

    ``metrics`` holds shown units and ``null`` where a trial has none: a mIoU there is final. What an
    unfinished trial reached is in ``reached`` alone.
    """
    rows = [(index, evaluation) for index, sweep in enumerate(sweeps) for evaluation in sweep.evaluations]
    members = {
        (index, evaluation.trial_id)
        for index, sweep in enumerate(sweeps)
        for evaluation in front_of(sweep.evaluations, sweep.objectives)
    }
    values = [evaluation.metrics() for _, evaluation in rows]
    return {
        "id": [evaluation.trial_id for _, evaluation in rows],
        "number": [evaluation.number for _, evaluation in rows],
        "sweep": [index for index, _ in rows],
        "status": [str(evaluation.status) for _, evaluation in rows],
        "reason": [evaluation.reason for _, evaluation in rows],
        "source": [evaluation.source for _, evaluation in rows],
        "seconds": [round(evaluation.seconds, 1) for _, evaluation in rows],
        "epoch": [evaluation.scores[-1].epoch if evaluation.scores else 0 for _, evaluation in rows],
        "reached": [_reached(evaluation) for _, evaluation in rows],
        "curve": [_curve(evaluation) for _, evaluation in rows],
        "member": [int((index, evaluation.trial_id) in members) for index, evaluation in rows],
        "metrics": {
            objective.metric: [_shown(objective.metric, row.get(objective.metric)) for row in values]
            for objective in metrics
        },
        "axes": {axis: [evaluation.point.get(axis) for _, evaluation in rows] for axis in axes},
    }


def _reached(evaluation: Evaluation) -> float | None:
    """mIoU in per cent at which an unfinished trial ended; not a final value."""
    if evaluation.status is TrialStatus.COMPLETE or not evaluation.scores:
        return None
    return _shown("miou", evaluation.scores[-1].miou)


def _curve(evaluation: Evaluation) -> list[list[float]]:
    """Epochs and mIoU in per cent of at most ``CURVE_POINTS`` validations, the last always among them."""
    scores = tuple(score for score in evaluation.scores if math.isfinite(score.miou))
    if len(scores) > CURVE_POINTS:
        step = (len(scores) - 1) / (CURVE_POINTS - 1)
        scores = tuple(scores[round(index * step)] for index in range(CURVE_POINTS))
    return [[score.epoch for score in scores], [round(100 * score.miou, 2) for score in scores]]


def _shown(metric: str, value: float | None) -> float | None:
    """In shown units; JSON has no infinities, so a value that is not finite is none."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{shown(metric, value):.{_DIGITS}g}")


def _is_number(value: AxisValue) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order(value: AxisValue) -> tuple[bool, float, str]:
    return (not _is_number(value), float(value) if _is_number(value) else 0.0, str(value))
