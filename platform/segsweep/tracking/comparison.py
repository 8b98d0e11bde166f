"""What makes sweeps comparable in one MLflow experiment: front runs, saved views and the description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from segsweep.records import Evaluation, Objective
from segsweep.tracking import baselines, page_text, views
from segsweep.tracking.baselines import Published
from segsweep.tracking.fronts import chart_panels, front_line, progress
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.tracker import SweepInfo
from segsweep.tracking.trial_runs import COLOR, RUN_KIND, SWEEP_ID, search
from segsweep.tracking.view_states import Axes, view_tags

REFERENCE = "segsweep.hypervolume_reference"


def write_front_run(
    client: Any,
    experiment_id: str,
    evaluations: Sequence[Evaluation],
    *,
    info: SweepInfo,
    color: str,
    reference: Mapping[str, float] | None,
    at: int,
    label: str = "",
) -> None:
    """Draw the fronts in a run of their own.

    Metrics are append-only, so the run is written anew and the one from before is (softly) deleted. Without a
    complete trial (no ``reference``) there is nothing to draw.

    Args:
        client: An ``MlflowClient``.
        experiment_id: Where the sweep is.
        evaluations: All trials of the sweep, in order of their end.
        info: The sweep.
        color: Colour of the lines.
        reference: Corner of the hypervolume by metric.
        at: Time in ms since the epoch.
        label: What legends call the sweep; its name by default.
    """
    old = search(client, experiment_id, kind="front", sweep_id=info.sweep_id)
    if reference is not None:
        tags = {
            RUN_KIND: "front",
            SWEEP_ID: info.sweep_id,
            "segsweep.method": info.method,
            "segsweep.status": "complete",
            "segsweep.reason": f"draws the fronts of {info.name}",
            "pareto.front": "true",
            "pareto.rank": "front",
            COLOR: color,
        }
        run = client.create_run(
            experiment_id, start_time=at, tags=tags, run_name=f"Pareto front: {label or info.name}"
        )
        writer = RunWriter.reopen(client, run, stepped=())
        writer.metrics(progress(evaluations, info.objectives, reference), step=0, timestamp_ms=at)
        writer.metrics({views.RANK: views.FRONT_RUN_RANK}, step=0, timestamp_ms=at)
        _draw(writer, evaluations, info.objectives, at=at)
        writer.terminate("FINISHED", timestamp_ms=at)
    for run in old:
        client.delete_run(run.info.run_id)


def _draw(
    writer: RunWriter, evaluations: Sequence[Evaluation], objectives: Sequence[Objective], *, at: int
) -> None:
    for panel in chart_panels(objectives):
        for step, (x, y) in enumerate(front_line(evaluations, panel)):
            # charts show every digit that they get
            values = {panel.x_key: float(f"{x:.5g}"), panel.y_key: float(f"{y:.5g}")}
            writer.metrics(values, step=step, timestamp_ms=at)


def write_page(
    client: Any, experiment_id: str, *, objectives: Sequence[Objective], axes: Axes, at: int
) -> None:
    """Write the saved views and the experiment's description with the links to them."""
    known = client.get_experiment(experiment_id).tags
    published = Published.of(search(client, experiment_id, kind=baselines.KIND))
    tags = view_tags(objectives, axes, created_ms=at, published=published)
    sweeps = search(client, experiment_id, kind="sweep")
    tags[views.NOTE_TAG] = views.experiment_note(
        experiment_id,
        page_text.experiment_text(experiment_id, sweeps, published=published),
        before=known.get(views.NOTE_TAG, ""),
        report=page_text.newest_report(experiment_id, sweeps),
        warning=page_text.differences(sweeps),
    )
    for key, value in tags.items():
        client.set_experiment_tag(experiment_id, key, value)


def has_page(client: Any, experiment_id: str) -> bool:
    """Whether the experiment has its views already."""
    return f"{views.VIEW_TAG}{views.PARETO_FRONTS}" in client.get_experiment(experiment_id).tags


def shared_reference(client: Any, experiment_id: str) -> dict[str, float]:
    """The corner that the experiment's sweeps share, by metric; empty before the first sweep set one."""
    text = client.get_experiment(experiment_id).tags.get(REFERENCE)
    return {str(metric): float(value) for metric, value in json.loads(text).items()} if text else {}


def share_reference(client: Any, experiment_id: str, reference: Mapping[str, float]) -> None:
    """Let later sweeps of the experiment use the same corner, so that their hypervolumes can be compared."""
    client.set_experiment_tag(experiment_id, REFERENCE, json.dumps(dict(reference)))
