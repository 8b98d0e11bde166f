"""A comparison of sweeps in MLflow: an experiment of its own, with all fronts on common axes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segsweep.records import AxisValue, Objective
from segsweep.tracking import views
from segsweep.tracking.artifacts import attach
from segsweep.tracking.failures import first_line
from segsweep.tracking.fronts import Panel
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.store import ensure_experiment, open_client, resolve_uri, store_errors, ui_base
from segsweep.tracking.tracker import MlflowLink, ParamValue
from segsweep.tracking.trial_runs import COLOR, RUN_KIND, STATUS, SWEEP_ID, TRIAL_ID, search
from segsweep.tracking.units import rounded, unit_of
from segsweep.tracking.view_states import Axes, view_tags

COMPARISON = "segsweep.comparison"
MAX_MEMBERS = 60  # runs of front members, of all contenders together: each takes three calls

XY = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ComparedTrial:
    """A member of a contender's front.

    Attributes:
        name: Of the run.
        sweep_id: The sweep that trained it.
        trial_id: Its id there.
        point: Its design.
        metrics: Stored values that may share an axis with those of the other contenders.
    """

    name: str
    sweep_id: str
    trial_id: str
    point: Mapping[str, AxisValue]
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ComparedFront:
    """One contender's line in the charts.

    Attributes:
        label: Name of the contender.
        method: Its method.
        color: Of its line, ``#RRGGBB``.
        sweeps: Ids of its sweeps.
        lines: Corners in shown units, in order of x, by panel.
        metrics: What else is known of it: hypervolume, size of the front.
        members: Its front's trials, the most important first.
    """

    label: str
    method: str
    color: str
    sweeps: tuple[str, ...]
    lines: tuple[tuple[Panel, tuple[XY, ...]], ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    members: tuple[ComparedTrial, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ComparisonRecord:
    """What goes to MLflow.

    Attributes:
        key: Stable id: the same sweeps on the same axes give the same key, and replace what is there.
        title: Name of the experiment and of the run.
        objectives: The first is on the y axes.
        fronts: One per contender.
        note: Markdown for the run's and the experiment's description.
        table: Column -> values, shown as a table in the run.
        params: Conditions.
        metrics: Of the comparison's run.
        files: Name in the run -> file on disk.
    """

    key: str
    title: str
    objectives: tuple[Objective, ...]
    fronts: tuple[ComparedFront, ...]
    note: str
    table: Mapping[str, Sequence[str | float | None]]
    params: Mapping[str, ParamValue]
    metrics: Mapping[str, float]
    files: Mapping[str, Path]


def write_comparison(tracking_uri: str, record: ComparisonRecord) -> MlflowLink:
    """Write a comparison; the one of the same key is replaced.

    A store that cannot be written does not spoil the comparison: the link says what happened.

    Args:
        tracking_uri: ``sqlite:///...`` or ``http(s)://...``.
        record: What to write.
    Raises:
        EnvironmentProblem: If the address is of no known kind.
    """
    uri = resolve_uri(tracking_uri)
    try:
        client = open_client(uri)
        experiment_id = ensure_experiment(client, uri, record.title)
        run_id = _write(client, experiment_id, record)
    except store_errors() as error:
        problem = f"the comparison is not in MLflow ({first_line(error)}); its files are in the folder"
        return MlflowLink(
            tracking_uri=uri, experiment_id="", parent_run_id="", url="", lost=1, problem=problem
        )
    return MlflowLink(
        tracking_uri=uri,
        experiment_id=experiment_id,
        parent_run_id=run_id,
        url=views.comparison_url(ui_base(uri), experiment_id),
    )


def _write(client: Any, experiment_id: str, record: ComparisonRecord) -> str:
    at = time.time_ns() // 1_000_000
    before = [
        run
        for kind in ("comparison", "front", "trial")
        for run in search(client, experiment_id, kind=kind)
        if run.data.tags.get(COMPARISON) == record.key
    ]
    for front in record.fronts:
        _write_front(client, experiment_id, front, key=record.key, at=at)
        for member in front.members[: MAX_MEMBERS // len(record.fronts)]:
            _write_member(client, experiment_id, member, front=front, key=record.key)
    run_id = _write_run(client, experiment_id, record, at=at)
    for run in before:
        client.delete_run(run.info.run_id)
    _write_page(client, experiment_id, record, run_id=run_id, at=at)
    return run_id


def _write_front(client: Any, experiment_id: str, front: ComparedFront, *, key: str, at: int) -> None:
    tags = {
        RUN_KIND: "front",
        COMPARISON: key,
        "segsweep.method": front.method,
        "segsweep.sweeps": ", ".join(front.sweeps),
        "pareto.front": "true",
        COLOR: front.color,
    }
    run = client.create_run(experiment_id, start_time=at, tags=tags, run_name=f"Pareto front: {front.label}")
    writer = RunWriter.reopen(client, run, stepped=())
    writer.params({"method": front.method, "sweeps": ", ".join(front.sweeps)})
    writer.metrics({**front.metrics, views.RANK: views.FRONT_RUN_RANK}, step=0, timestamp_ms=at)
    for panel, corners in front.lines:
        for step, (x, y) in enumerate(corners):
            writer.metrics({panel.x_key: x, panel.y_key: y}, step=step, timestamp_ms=at)
    writer.terminate("FINISHED", timestamp_ms=at)


def _write_member(
    client: Any, experiment_id: str, member: ComparedTrial, *, front: ComparedFront, key: str
) -> None:
    at = time.time_ns() // 1_000_000
    tags = {
        RUN_KIND: "trial",
        COMPARISON: key,
        SWEEP_ID: member.sweep_id,
        TRIAL_ID: member.trial_id,
        STATUS: "complete",
        "segsweep.method": front.method,
        "pareto.front": "true",
        "pareto.rank": "0",
        COLOR: front.color,
    }
    run = client.create_run(experiment_id, start_time=at, tags=tags, run_name=member.name)
    writer = RunWriter.reopen(client, run, stepped=())
    readable = dict(rounded(name, value) for name, value in member.metrics.items())
    writer.params(member.point)
    writer.metrics({**member.metrics, **readable, views.RANK: 0.0}, step=0, timestamp_ms=at)
    writer.terminate("FINISHED", timestamp_ms=at)


def _write_run(client: Any, experiment_id: str, record: ComparisonRecord, *, at: int) -> str:
    tags = {RUN_KIND: "comparison", COMPARISON: record.key, views.NOTE_TAG: record.note}
    run = client.create_run(experiment_id, start_time=at, tags=tags, run_name=record.title)
    writer = RunWriter.reopen(client, run, stepped=())
    writer.params(record.params)
    writer.metrics(record.metrics, step=0, timestamp_ms=at)
    writer.flush()
    table = {name: list(values) for name, values in record.table.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow 3.17 uses a call that pandas 3 deprecates
        client.log_table(writer.run_id, table, "fronts.json")
    for name, path in record.files.items():
        attach(client, writer.run_id, name, path)
    writer.terminate("FINISHED", timestamp_ms=at)
    return writer.run_id


def _write_page(client: Any, experiment_id: str, record: ComparisonRecord, *, run_id: str, at: int) -> None:
    known = client.get_experiment(experiment_id).tags.get(views.NOTE_TAG, "")
    link = f"[All figures, the report and the tables]({views.relative_run_url(experiment_id, run_id)})"
    note = views.experiment_note(experiment_id, f"{link}\n\n{record.note}", before=known)
    axes = Axes.of(member.point for front in record.fronts for member in front.members)
    tags = view_tags(record.objectives, axes, created_ms=at)
    for key, value in {**tags, views.NOTE_TAG: note}.items():
        client.set_experiment_tag(experiment_id, key, value)


def metric_name(words: str) -> str:
    """Only what MLflow takes in the key of a metric: letters, digits, spaces and ``_-./``."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in words)


def front_metrics(objectives: Sequence[Objective], best: float, **values: float) -> dict[str, float]:
    """Metrics of a front's run: its best first objective under the name that sweeps use, and more."""
    unit = unit_of(objectives[0].metric)
    return {f"best_{unit.name}": unit.factor * best, **values}
