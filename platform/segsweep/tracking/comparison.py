"""What makes sweeps comparable in one MLflow experiment: front runs, saved views and the description."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from segsweep.records import Evaluation, Objective
from segsweep.tracking import views
from segsweep.tracking.fronts import front_line, panels, progress
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.tracker import SweepInfo
from segsweep.tracking.trial_runs import COLOR, RUN_KIND, SWEEP_ID, search

REFERENCE = "segsweep.hypervolume_reference"
TRIALS = "segsweep.trials"


def write_front_run(
    client: Any,
    experiment_id: str,
    evaluations: Sequence[Evaluation],
    *,
    info: SweepInfo,
    color: str,
    reference: Mapping[str, float] | None,
    at: int,
) -> None:
    """Draw the fronts in a run of their own.

    Metrics are append-only, so the run is written anew and the one from before is (softly) deleted. Without a
    complete trial (no ``reference``) there is nothing to draw.
    """
    old = search(client, experiment_id, kind="front", sweep_id=info.sweep_id)
    if reference is not None:
        tags = {
            RUN_KIND: "front",
            SWEEP_ID: info.sweep_id,
            "segsweep.method": info.method,
            "pareto.front": "true",
            COLOR: color,
        }
        run = client.create_run(
            experiment_id, start_time=at, tags=tags, run_name=f"Pareto front: {info.name}"
        )
        writer = RunWriter.reopen(client, run, stepped=())
        writer.metrics(progress(evaluations, info.objectives, reference), step=0, timestamp_ms=at)
        writer.metrics({views.RANK: views.FRONT_RUN_RANK}, step=0, timestamp_ms=at)
        for panel in panels(info.objectives):
            for step, (x, y) in enumerate(front_line(evaluations, panel)):
                writer.metrics({panel.x_key: x, panel.y_key: y}, step=step, timestamp_ms=at)
        writer.terminate("FINISHED", timestamp_ms=at)
    for run in old:
        client.delete_run(run.info.run_id)


def write_page(
    client: Any, experiment_id: str, *, objectives: Sequence[Objective], axes: Sequence[str], at: int
) -> None:
    """Write the saved views and the experiment's description with the links to them."""
    known = client.get_experiment(experiment_id).tags
    tags = views.view_tags(objectives, axes, created_ms=at)
    sweeps = search(client, experiment_id, kind="sweep")
    table = sweep_table(experiment_id, sweeps)
    tags[views.NOTE_TAG] = views.experiment_note(experiment_id, table, before=known.get(views.NOTE_TAG, ""))
    for key, value in tags.items():
        client.set_experiment_tag(experiment_id, key, value)


def has_page(client: Any, experiment_id: str) -> bool:
    """Whether the experiment has its views already."""
    return f"{views.VIEW_TAG}{views.PARETO_FRONTS}" in client.get_experiment(experiment_id).tags


def sweep_table(experiment_id: str, sweeps: Sequence[Any]) -> str:
    """A Markdown table of the experiment's sweeps, newest first, each linked to its run."""
    lines = [
        "| sweep | method | trials | front | best | hypervolume (scaled) |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for run in reversed(sweeps[-20:]):  # the description of an experiment is limited to 5,000 characters
        data = run.data
        best = next(
            (f"{v:g} {k.removeprefix('best_')}" for k, v in data.metrics.items() if k[:5] == "best_"), "-"
        )
        size = data.metrics.get("front_size")
        volume = data.metrics.get("hypervolume_scaled")
        cells = [
            f"[{run.info.run_name}]({views.relative_run_url(experiment_id, run.info.run_id)})",
            data.tags.get("segsweep.method", "-"),
            data.tags.get(TRIALS, "-"),
            "-" if size is None else f"{size:.0f}",
            best,
            "-" if volume is None else f"{volume:.4g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def count_by_status(evaluations: Sequence[Evaluation]) -> str:
    """For example ``"20: 15 complete, 3 stopped, 2 failed"``."""
    counts = Counter(str(evaluation.status) for evaluation in evaluations)
    return f"{len(evaluations)}: " + ", ".join(f"{count} {status}" for status, count in counts.most_common())


def shared_reference(client: Any, experiment_id: str) -> dict[str, float]:
    """The corner that the experiment's sweeps share, by metric; empty before the first sweep set one."""
    text = client.get_experiment(experiment_id).tags.get(REFERENCE)
    return {str(metric): float(value) for metric, value in json.loads(text).items()} if text else {}


def share_reference(client: Any, experiment_id: str, reference: Mapping[str, float]) -> None:
    """Let later sweeps of the experiment use the same corner, so that their hypervolumes can be compared."""
    client.set_experiment_tag(experiment_id, REFERENCE, json.dumps(dict(reference)))
