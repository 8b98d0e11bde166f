"""Everything that the page shows, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from segsweep.reporting.report.families import designs, family, text
from segsweep.reporting.report.importance import Importance, axis_importance
from segsweep.reporting.report.pictures import Picture
from segsweep.reporting.report.records import Sweep
from segsweep.reporting.report.summary import common_reference, speed_is_mixed, sweep_entry, warnings
from segsweep.reporting.report.trials import axis_entries, metric_entry, metrics_of, trial_columns
from segsweep.reporting.tables import front_rows
from segsweep.tracking.colors import method_color
from segsweep.tracking.units import shown, unit_of


def report_document(
    sweeps: Sequence[Sweep], *, pictures: Sequence[Picture] = (), title: str = ""
) -> dict[str, Any]:
    """What ``report_page`` writes; values are in the units that people read."""
    metrics, axes = metrics_of(sweeps), axis_entries(sweeps)
    reference = common_reference(sweeps)
    offsets = _offsets(sweeps)
    return {
        "title": title or _title(sweeps),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "metrics": [metric_entry(metric) for metric in metrics],
        "objectives": [objective.metric for objective in sweeps[0].objectives],
        "axes": axes,
        "sweeps": [
            {**sweep_entry(sweep, reference, _conditions(sweep)), "color": color}
            for sweep, color in zip(sweeps, _colors(sweeps), strict=True)
        ],
        "families": _families(sweeps),
        "reference": {metric: shown(metric, value) for metric, value in reference.items()},
        "trials": trial_columns(sweeps, metrics, [axis["name"] for axis in axes]),
        "designs": [[offsets[sweep] + row for sweep, row in places] for places in designs(sweeps)],
        "importance": _importance(sweeps),
        "pictures": [{"heading": picture.heading, "data": picture.data} for picture in pictures],
        "warnings": warnings(sweeps),
        "mixed_speed": speed_is_mixed(sweeps),
        "fallback": _fallback(sweeps),
    }


def _title(sweeps: Sequence[Sweep]) -> str:
    if len(sweeps) == 1:
        return sweeps[0].sweep_id
    methods = list(dict.fromkeys(sweep.method for sweep in sweeps))
    return f"{len(sweeps)} sweeps compared: {', '.join(methods)}"


def _offsets(sweeps: Sequence[Sweep]) -> list[int]:
    ends = [0]
    for sweep in sweeps:
        ends.append(ends[-1] + len(sweep.evaluations))
    return ends


def _families(sweeps: Sequence[Sweep]) -> list[int]:
    """For each sweep the first one that differs from it in nothing but the seed."""
    names = [family(sweep) for sweep in sweeps]
    return [names.index(name) for name in names]


def _conditions(sweep: Sweep) -> list[list[str]]:
    held = sweep.conditions
    recipe: Mapping[str, Any] = sweep.job.get("recipe", {})
    reference = ", ".join(
        f"{unit_of(metric).label} {shown(metric, value):.6g}" for metric, value in sweep.reference.items()
    )
    speed = text(held.speed) if held.speed else "not measured"
    rows = [
        ["method", sweep.method],
        ["objectives", ", ".join(f"{o.direction} {unit_of(o.metric).label}" for o in sweep.objectives)],
        ["data set", held.data],
        ["prepared data", text(held.data_digest)],
        ["input size", f"{text(held.size)} pixels (height x width)"],
        ["classes", text(held.num_classes)],
        ["epochs of the full schedule", str(held.epochs)],
        ["batch size in training", text(recipe.get("batch_size"))],
        ["seed", str(held.seed)],
        ["device of the speed measurement", text(held.device)],
        ["torch threads of the speed measurement", text(held.threads)],
        ["speed measurement", speed],
        ["reference point", reference or "none"],
        ["trials", ", ".join(f"{n} {status}" for status, n in _statuses(sweep).items())],
    ]
    return [row for row in rows if row[1] != "not recorded" or row[0] in {"prepared data"}]


def _statuses(sweep: Sweep) -> dict[str, int]:
    found: dict[str, int] = {}
    for evaluation in sweep.evaluations:
        found[str(evaluation.status)] = found.get(str(evaluation.status), 0) + 1
    return found or {"ended": 0}


def _importance(sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """Sweeps that differ only in their seed are taken together: they are more trials of one space."""
    groups: dict[int, list[int]] = {}
    for index, first in enumerate(_families(sweeps)):
        groups.setdefault(first, []).append(index)
    return [_group_importance([sweeps[index] for index in group]) for group in groups.values()]


def _group_importance(group: Sequence[Sweep]) -> dict[str, Any]:
    everything = [evaluation for sweep in group for evaluation in sweep.evaluations]
    axes = list(group[0].axes) or list(dict.fromkeys(axis for e in everything for axis in e.point))
    found = [axis_importance(everything, o.metric, axes) for o in group[0].objectives]
    return {"sweeps": [sweep.sweep_id for sweep in group], "metrics": [_importance_entry(i) for i in found]}


def _importance_entry(importance: Importance) -> dict[str, Any]:
    return {
        "metric": importance.metric,
        "trials": importance.trials,
        "needed": importance.needed,
        "explained": round(importance.explained, 4),
        "shares": {axis: round(share, 4) for axis, share in importance.shares.items()},
        "constant": list(importance.constant),
    }


def _fallback(sweeps: Sequence[Sweep]) -> dict[str, Any]:
    header: list[str] = []
    rows: list[list[str]] = []
    for sweep in sweeps:
        names, cells = front_rows(sweep.evaluations, sweep.objectives)
        header = header or ["sweep", *names]
        if ["sweep", *names] != header:
            rows.append([sweep.sweep_id, *names])
        rows += [[sweep.sweep_id, *row] for row in cells]
    return {"header": header, "rows": rows}


def _colors(sweeps: Sequence[Sweep]) -> list[str]:
    """The method's colour; a shade of it for every further sweep of the same method."""
    methods = [sweep.method for sweep in sweeps]
    return [method_color(method, methods[:index].count(method)) for index, method in enumerate(methods)]
