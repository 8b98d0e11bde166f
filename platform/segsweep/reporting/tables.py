"""Evaluations as an Arrow table, and the front as Markdown and as a terminal table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.table import Table

from segsweep.pareto.front import front_of
from segsweep.records import DEFAULT_OBJECTIVES, AxisValue, CostReport, Evaluation, Objective, TrialStatus
from segsweep.tracking.units import shown, unit_of

_COST_COLUMNS = {
    "num_params": pa.int64(),
    "macs": pa.int64(),
    "flops": pa.int64(),
    "images_per_second": pa.float64(),
    "latency_ms_p50": pa.float64(),
    "latency_ms_p90": pa.float64(),
    "latency_ms_p99": pa.float64(),
    "batch_size": pa.int64(),
    "samples": pa.int64(),
    "threads": pa.int64(),
    "device": pa.string(),
}
_SHORT = {"GMACs per image": "GMACs", "parameters (M)": "params (M)", "median latency (ms)": "p50 (ms)"}
_EXTRA_METRICS = ("num_params", "latency_ms_p50")  # shown beside the objectives


def evaluations_table(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective] = DEFAULT_OBJECTIVES
) -> pa.Table:
    """One row per trial with flat columns, in the order given.

    Columns: ``trial_id number status reason source point_key on_front miou fidelity epochs last_val_miou
    seconds`` (``miou`` in [0, 1], null unless complete), the cost (``num_params macs flops ...``,
    ``height width num_classes``), and one column ``point.<axis>`` per axis, null where the axis is not
    active.
    """
    members = {evaluation.trial_id for evaluation in front_of(evaluations, objectives)}
    columns: dict[str, pa.Array] = {
        "trial_id": _column(evaluations, lambda e: e.trial_id, pa.string()),
        "number": _column(evaluations, lambda e: e.number, pa.int64()),
        "status": _column(evaluations, lambda e: str(e.status), pa.string()),
        "reason": _column(evaluations, lambda e: e.reason, pa.string()),
        "source": _column(evaluations, lambda e: e.source, pa.string()),
        "point_key": _column(evaluations, lambda e: e.point.key, pa.string()),
        "on_front": _column(evaluations, lambda e: e.trial_id in members, pa.bool_()),
        "miou": _column(evaluations, lambda e: e.miou, pa.float64()),
        "fidelity": _column(evaluations, lambda e: e.fidelity, pa.float64()),
        "epochs": _column(evaluations, lambda e: e.scores[-1].epoch if e.scores else 0, pa.int64()),
        "last_val_miou": _column(
            evaluations, lambda e: e.scores[-1].miou if e.scores else None, pa.float64()
        ),
        "seconds": _column(evaluations, lambda e: e.seconds, pa.float64()),
    }
    for name, kind in _COST_COLUMNS.items():
        columns[name] = _column(evaluations, _of_cost(name), kind)
    columns["height"] = _column(evaluations, lambda e: e.cost.size[0] if e.cost else None, pa.int64())
    columns["width"] = _column(evaluations, lambda e: e.cost.size[1] if e.cost else None, pa.int64())
    columns["num_classes"] = _column(evaluations, _of_cost("num_classes"), pa.int64())
    for axis in point_axes(evaluations):
        columns[f"point.{axis}"] = _axis_column([evaluation.point.get(axis) for evaluation in evaluations])
    return pa.table(columns)


def point_axes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Every axis of any point, in order of first appearance."""
    return list(dict.fromkeys(axis for evaluation in evaluations for axis in evaluation.point))


def _column(
    evaluations: Sequence[Evaluation], read: Callable[[Evaluation], Any], kind: pa.DataType
) -> pa.Array:
    return pa.array([read(evaluation) for evaluation in evaluations], type=kind)


def _of_cost(name: str) -> Callable[[Evaluation], Any]:
    def read(evaluation: Evaluation) -> Any:
        return getattr(evaluation.cost, name) if evaluation.cost else None

    return read


def _axis_column(values: Sequence[AxisValue | None]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, type=pa.bool_())
    if kinds == {int}:
        return pa.array(values, type=pa.int64())
    if kinds <= {int, float} and kinds:
        return pa.array(values, type=pa.float64())
    texts = [None if value is None else str(value) for value in values]  # text, or an axis of mixed kinds
    return pa.array(texts, type=pa.string())


def conditions(evaluations: Sequence[Evaluation]) -> str:
    """One sentence on how many trials there were and how cost and speed were measured."""
    counts = {status: sum(e.status is status for e in evaluations) for status in TrialStatus}
    trials = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    parts = [f"{len(evaluations)} trials ({trials})" if evaluations else "no trials"]
    parts.extend(cost_conditions([e.cost for e in evaluations if e.cost is not None]))
    return "; ".join(parts)


def cost_conditions(costs: Sequence[CostReport]) -> list[str]:
    """How cost and speed were measured: input size, batch size, device."""
    parts = []
    sizes = sorted({cost.size for cost in costs})
    if sizes:
        parts.append("input " + " or ".join(f"{height}x{width}" for height, width in sizes))
    batches = sorted({cost.batch_size for cost in costs if cost.batch_size is not None})
    if batches:
        parts.append("speed at batch " + " or ".join(map(str, batches)))
    threads = sorted({cost.threads for cost in costs if cost.threads is not None})
    if threads:
        parts.append("torch threads " + " or ".join(map(str, threads)))
    devices = sorted({cost.device for cost in costs if cost.device is not None})
    if devices:
        parts.append("device " + " or ".join(devices))
    return parts


def front_rows(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective]
) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the front's table, best first objective first; values in shown units."""
    members = front_of(evaluations, objectives)
    first = objectives[0]
    members.sort(key=lambda e: e.metrics()[first.metric], reverse=first.maximize)
    metrics = list(dict.fromkeys([*(objective.metric for objective in objectives), *_EXTRA_METRICS]))
    axes = point_axes(members)
    header = ["trial", *(unit_of(metric).label for metric in metrics), *axes, "source"]
    rows = [
        [
            str(member.number),
            *(_number(metric, member.metrics().get(metric)) for metric in metrics),
            *(_axis_text(member.point.get(axis)) for axis in axes),
            member.source,
        ]
        for member in members
    ]
    return header, rows


def _number(metric: str, value: float | None) -> str:
    return "-" if value is None else f"{shown(metric, value):,.{unit_of(metric).decimals}f}"


def _axis_text(value: AxisValue | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def front_markdown(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> str:
    """The front as a Markdown table with a line of conditions under it."""
    header, rows = front_rows(evaluations, objectives)
    if not rows:
        return f"No complete trial yet, so there is no front.\n\nConditions: {conditions(evaluations)}.\n"
    right = len(objectives) + len([m for m in _EXTRA_METRICS if m not in {o.metric for o in objectives}])
    rule = ["---:" if 0 <= index <= right else "---" for index in range(len(header))]
    lines = [header, rule, *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table}\n\nConditions: {conditions(evaluations)}. {_directions(objectives)}.\n"


def front_rich_table(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], *, title: str = "Pareto front"
) -> Table:
    """The front as a terminal table that fits 80 columns; the conditions are its caption."""
    header, rows = front_rows(evaluations, objectives)
    first = (
        header.index(axes[0]) if (axes := point_axes(evaluations)) and axes[0] in header else len(header) - 1
    )
    table = Table(
        title=title,
        title_justify="left",
        caption=f"{conditions(evaluations)}. {_directions(objectives)}.",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in header[:first]:
        table.add_column(_SHORT.get(name, name), justify="right")
    table.add_column("design", overflow="fold")
    for row in rows:
        pairs = zip(header[first:-1], row[first:-1], strict=True)
        design = " ".join(f"{axis.split('.')[-1]}={value}" for axis, value in pairs if value != "-")
        source = "" if row[-1] in {"sampler", "random"} else f" ({row[-1]})"
        table.add_row(*row[:first], design + source)
    return table


def _directions(objectives: Sequence[Objective]) -> str:
    return "Objectives: " + ", ".join(f"{o.direction} {unit_of(o.metric).label}" for o in objectives)
