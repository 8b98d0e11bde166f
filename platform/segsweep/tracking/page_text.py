"""The words of an experiment's page: what each sweep found, how to read the charts, what is comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from segsweep.pareto.front import front_of
from segsweep.pareto.knee import knee_of
from segsweep.records import CostReport, Evaluation, Objective
from segsweep.tracking import views
from segsweep.tracking.baselines import Published
from segsweep.tracking.fronts import beyond
from segsweep.tracking.trial_runs import STATUS
from segsweep.tracking.units import unit_of

TRIALS = "segsweep.trials"
BEST = "segsweep.best"
KNEE = "segsweep.knee"
DEVICE = "segsweep.device"
SPEED = "segsweep.speed_conditions"  # device, threads and batch size; several joined by "; "
BEYOND = "segsweep.beyond_corner"  # members of the front that the hypervolume leaves out: "2 of 5"
LABEL = "segsweep.label"

_CONDITIONS = {  # params of a sweep's run that must be equal where mIoU or cost share an axis
    "data": "data set",
    "input_size": "input size",
    "num_classes": "number of classes",
    "epochs": "epochs",
}
_MAX_ROWS = 20
_HOW_TO_READ = (
    "One colour per method. Dots in full colour stand on the front of all objectives, pale ones are "
    "dominated; only trials with a full schedule are drawn (`miou_pct`; the best validation at any fidelity "
    "is `best_val_miou_pct`). A line is the front of its own two axes."
)

# ---------------------------------------------------------------- what a sweep found, kept as tags of its run


def sweep_tags(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    reference: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """How the trials ended, the best and the knee of the front, and where and how speed was measured.

    Args:
        evaluations: All trials that ended.
        objectives: The first is the one of the best.
        reference: Corner of the hypervolume by metric, once there is one.
    """
    tags = {TRIALS: count_by_status(evaluations)}
    costs = [item.cost for item in evaluations if item.cost and item.cost.device]
    if costs:
        tags[DEVICE] = ", ".join(sorted({str(cost.device) for cost in costs}))
        tags[SPEED] = "; ".join(sorted({_speed_conditions(cost) for cost in costs}))
    if reference is not None:
        outside, members = beyond(evaluations, objectives, reference)
        tags[BEYOND] = f"{outside} of {members}" if outside else ""
    front = front_of(evaluations, objectives)
    if front:
        first = objectives[0]
        best = (max if first.maximize else min)(front, key=lambda item: item.metrics()[first.metric])
        tags[BEST] = in_words(best, objectives)
        tags[KNEE] = in_words(knee_of(front, objectives)[0], objectives)
    return tags


def _speed_conditions(cost: CostReport) -> str:
    """For example ``"cpu-3f2a, threads 2, batch 1"``."""
    known = {"threads": cost.threads, "batch": cost.batch_size}
    return ", ".join([str(cost.device), *(f"{name} {value}" for name, value in known.items() if value)])


def in_words(evaluation: Evaluation, objectives: Sequence[Objective]) -> str:
    """For example ``"t018: 45.46 mIoU (%), 0.477 GMACs per image, 31.9 images/s"``."""
    metrics = evaluation.metrics()
    units = [unit_of(objective.metric) for objective in objectives]
    figures = [f"{unit.factor * metrics[unit.metric]:.{unit.decimals}f} {unit.label}" for unit in units]
    return f"t{evaluation.number:03d}: {', '.join(figures)}"


def count_by_status(evaluations: Sequence[Evaluation]) -> str:
    """For example ``"20: 15 complete, 3 stopped, 2 failed"``."""
    counts = Counter(str(evaluation.status) for evaluation in evaluations)
    return f"{len(evaluations)}: " + ", ".join(f"{count} {status}" for status, count in counts.most_common())


def front_table(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> str:
    """The members of the front as a Markdown table, best first: trial, objectives, design."""
    front = front_of(evaluations, objectives)
    if not front:
        return "No trial finished its full schedule, so there is no front."
    first = objectives[0]
    front.sort(key=lambda item: item.metrics()[first.metric], reverse=first.maximize)
    units = [unit_of(objective.metric) for objective in objectives]
    lines = [
        "| trial | " + " | ".join(unit.label for unit in units) + " | design |",
        "| --- | " + "---: | " * len(units) + "--- |",
    ]
    for item in front:
        metrics = item.metrics()
        cells = [f"{unit.factor * metrics[unit.metric]:.{unit.decimals}f}" for unit in units]
        design = ", ".join(f"{axis.split('.')[-1]} {value}" for axis, value in item.point.items())
        lines.append(f"| t{item.number:03d} | {' | '.join(cells)} | {design} |")
    return "\n".join(lines)


# ---------------------------------------------------------------- the page, from the tags of its sweeps


def experiment_text(experiment_id: str, sweeps: Sequence[Any], *, published: Published) -> str:
    """The description below the links.

    Args:
        experiment_id: Where the links lead.
        sweeps: Runs of the experiment's sweeps, oldest first.
        published: Published figures that the experiment shows.
    """
    parts = [sweep_table(experiment_id, sweeps), _HOW_TO_READ]
    places = [f"{published.beside} designs in black beside the trials"] if published.beside else []
    if published.elsewhere:
        places.append(f"in charts of their own what was printed for {', '.join(published.names.values())}")
    if places:
        parts.append(f"Published figures, **not measured here**: {'; '.join(places)}.")
    return "\n\n".join(parts)


def sweep_table(experiment_id: str, sweeps: Sequence[Any]) -> str:
    """A Markdown table of the experiment's sweeps, newest first, each linked to its run."""
    lines = [
        "| sweep | in charts | data | trials | front | best | knee | hypervolume (scaled) |",
        "| --- | --- | --- | --- | ---: | --- | --- | ---: |",
    ]
    for run in reversed(sweeps[-_MAX_ROWS:]):
        data = run.data
        size, volume = data.metrics.get("front_size"), data.metrics.get("hypervolume_scaled")
        cells = [
            f"[{run.info.run_name}]({views.relative_run_url(experiment_id, run.info.run_id)})",
            data.tags.get(LABEL) or data.tags.get("segsweep.method", "-"),
            " ".join(data.params[key] for key in ("data", "input_size") if key in data.params) or "-",
            _state(data.tags),
            "-" if size is None else f"{size:.0f}",
            data.tags.get(BEST, "-"),
            data.tags.get(KNEE, "-"),
            "-" if volume is None else f"{volume:.4g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _state(tags: Mapping[str, str]) -> str:
    """How the trials ended, and how the sweep stands unless it is complete."""
    status = tags.get(STATUS, "running")
    counts = tags.get(TRIALS, "")
    return counts if counts and status == "complete" else ", ".join(part for part in (counts, status) if part)


def newest_report(experiment_id: str, sweeps: Sequence[Any]) -> str:
    """Link to the report of the newest sweep that has one; empty if none has."""
    for run in reversed(sweeps):
        if f"/artifacts/{views.REPORT}" in run.data.tags.get(views.NOTE_TAG, ""):
            return views.relative_run_url(experiment_id, run.info.run_id, f"/artifacts/{views.REPORT}")
    return ""


def differences(sweeps: Sequence[Any]) -> str:
    """What forbids to read the sweeps on one axis; empty if nothing does."""
    found = []
    for key, name in _CONDITIONS.items():
        values = sorted({run.data.params[key] for run in sweeps if key in run.data.params})
        if len(values) > 1:
            found.append(f"{name} ({', '.join(values)})")
    if found:
        return f"not comparable: sweeps differ in {', '.join(found)}"
    return "; ".join(warning for warning in (_speeds_differ(sweeps), _left_out(sweeps)) if warning)


def _speeds_differ(sweeps: Sequence[Any]) -> str:
    """What forbids to read speeds on one axis, between the sweeps or within one."""
    tags = [run.data.tags for run in sweeps]
    devices = {name for held in tags for name in held.get(DEVICE, "").split(", ") if name}
    if len(devices) > 1:
        return f"speed was measured on {len(devices)} devices: compare mIoU and MACs only"
    conditions = sorted({name for held in tags for name in held.get(SPEED, "").split("; ") if name})
    if len(conditions) > 1:
        ways = " / ".join(name.partition(", ")[2] or "not recorded" for name in conditions)
        return f"speed was measured in {len(conditions)} ways ({ways}): compare mIoU and MACs only"
    return ""


def _left_out(sweeps: Sequence[Any]) -> str:
    """Which sweeps have front members beyond the corner that all of them share."""
    found = [
        f"{share} front members of {run.info.run_name}"
        for run in sweeps
        if (share := run.data.tags.get(BEYOND, ""))
    ]
    if not found:
        return ""
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} sweeps more" if len(found) > 3 else "")
    return f"hypervolume leaves out {shown}: they cost more than its corner (set sweep.reference)"
