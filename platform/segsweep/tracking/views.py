"""Saved views of the MLflow UI, written as experiment tags, and the links that open them.

MLflow 3.15 and later keep a named view as the tag ``mlflow.sharedViewState.<id>``. The format is the one of
``mlflow/demo/generators/saved_views.py``; it is not a public API, so views are best effort and every value
here was checked in a browser with MLflow 3.17.
"""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import Sequence
from typing import Any

from segsweep.records import Objective
from segsweep.tracking.fronts import Panel, panels
from segsweep.tracking.units import UNITS, unit_of

PARETO_FRONTS = "pareto-fronts"
ALL_TRIALS = "all-trials"
SWEEP_PROGRESS = "sweep-progress"
VIEW_TAG = "mlflow.sharedViewState."
NOTE_TAG = "mlflow.note.content"
NOTE_MARK = "*Written by segsweep. What you write below this line stays.*"
RANK = "pareto_rank"
FRONT_RUN_RANK = -1  # of the run that draws a front, so that it comes before the trials on it
MAX_VIEW_CHARS = 5000  # older servers refuse longer experiment tags; 3.17 takes 20,000

_RUN_NAME = "attributes.`Run Name`"
_OTHER_METRICS = (
    "val_miou", "train_loss", "fidelity", "trial_seconds", RANK,
    "hypervolume", "hypervolume_scaled", "front_size",
)  # fmt: skip
_WIDTHS = {
    _RUN_NAME: 220,
    "tags.`segsweep.status`": 130,
    "tags.`pareto.rank`": 100,
    "tags.`segsweep.reason`": 360,
    "metrics.`images_per_second`": 150,
    "metrics.`latency_ms_p50`": 140,
}

Json = dict[str, Any]


def comparison_url(base: str, experiment_id: str, *, view: str = PARETO_FRONTS, mode: str = "CHART") -> str:
    """The link that opens a saved view. The mode is not in the view's state, so it has to be in the link."""
    return f"{base.rstrip('/')}/{_relative_url(experiment_id, view, mode)}"


def run_url(base: str, experiment_id: str, run_id: str) -> str:
    """The link to one run."""
    return f"{base.rstrip('/')}/{relative_run_url(experiment_id, run_id)}"


def relative_run_url(experiment_id: str, run_id: str, page: str = "") -> str:
    """The link to one run for text that the UI itself shows."""
    # without the workflow type the UI opens its pages for language models
    return f"#/experiments/{experiment_id}/runs/{run_id}{page}?workflowType=machine_learning"


def _relative_url(experiment_id: str, view: str, mode: str) -> str:
    query = f"viewStateShareKey={view}&compareRunsMode={mode}&workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?{query}"


def experiment_note(experiment_id: str, table: str, *, before: str = "") -> str:
    """The experiment's description; the UI shows its first line on every tab, so the links come first.

    What a person wrote in the description from ``before`` is kept below the mark.
    """
    links = [
        ("**Compare the Pareto fronts**", PARETO_FRONTS, "CHART"),
        ("all trials", ALL_TRIALS, "CHART"),
        ("table", ALL_TRIALS, "TABLE"),
        ("sweep progress", SWEEP_PROGRESS, "CHART"),
    ]
    line = " · ".join(f"[{text}]({_relative_url(experiment_id, view, mode)})" for text, view, mode in links)
    kept = before.split(NOTE_MARK, 1)[-1].strip()
    return f"{line}\n\n{table}\n\n{NOTE_MARK}\n\n{kept}".strip() + "\n"


def sweep_note(experiment_id: str, run_id: str, figures: Sequence[str]) -> str:
    """The description of a sweep's run: the comparison and its figures, one click away."""
    links = [("**Compare the Pareto fronts**", _relative_url(experiment_id, PARETO_FRONTS, "CHART"))]
    links += [(name, relative_run_url(experiment_id, run_id, f"/artifacts/{name}")) for name in figures]
    return " · ".join(f"[{text}]({url})" for text, url in links)


def view_tags(objectives: Sequence[Objective], axes: Sequence[str], *, created_ms: int) -> dict[str, str]:
    """The three views as experiment tags: tag key -> tag value.

    Axes that do not fit in a tag are left out of the table of all trials.
    """
    builders = {
        PARETO_FRONTS: ("Pareto fronts", _front_state(objectives)),
        SWEEP_PROGRESS: ("Sweep progress", _progress_state(objectives)),
    }
    tags = {
        f"{VIEW_TAG}{view}": _encode(name, state, created_ms=created_ms)
        for view, (name, state) in builders.items()
    }
    for count in range(len(axes), -1, -1):
        text = _encode("All trials", _trials_state(objectives, axes[:count]), created_ms=created_ms)
        if len(text) <= MAX_VIEW_CHARS:
            break
    return {**tags, f"{VIEW_TAG}{ALL_TRIALS}": text}


def _encode(name: str, state: Json, *, created_ms: int) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)).decode()
    return json.dumps(
        {"name": name, "createdAt": created_ms, "state": f"deflate;{packed}"}, separators=(",", ":")
    )


def _front_state(objectives: Sequence[Objective]) -> Json:
    lines = [_front_line(panel) for panel in panels(objectives)]
    clouds = [_scatter(panel, "trials") for panel in panels(objectives)]
    return _state(
        search=f"metrics.{RANK} >= {FRONT_RUN_RANK}",  # front runs and complete trials
        # the UI loads 100 runs only: the front runs first, also in the legends, then the members
        order_by=f"metrics.`{RANK}`",
        ascending=True,
        sections=[
            _section("fronts", "Pareto fronts"),
            _section("trials", "Trials: the front in full colour"),
        ],
        cards=[*lines, *clouds],
        columns=_columns(objectives, ()),
        objectives=objectives,
    )


def _trials_state(objectives: Sequence[Objective], axes: Sequence[str]) -> Json:
    shown_metrics = [unit_of(objective.metric).name for objective in objectives]
    parallel = _card(
        "PARALLEL", "axes", selectedParams=list(axes)[:8], selectedMetrics=shown_metrics, showAllRuns=True
    )
    return _state(
        search='tags."segsweep.run_kind" = "trial"',
        order_by=f"metrics.`{shown_metrics[0]}`",
        sections=[
            _section("trials", "All trials: the front in full colour"),
            _section("axes", "Axes", columns=1),
        ],
        cards=[*(_scatter(panel, "trials") for panel in panels(objectives)), parallel],
        columns=_columns(objectives, axes),
        objectives=objectives,
    )


def _progress_state(objectives: Sequence[Objective]) -> Json:
    return _state(
        search='tags."segsweep.run_kind" != "front"',
        order_by="metrics.`hypervolume`",
        sections=[
            _section("sweep", "Sweeps: over finished trials"),
            _section("training", "Trials: over epochs"),
        ],
        cards=[
            _line("hypervolume_scaled", "sweep"),
            _line("front_size", "sweep"),
            _line("val_miou", "training"),
            _line("train_loss", "training"),
        ],
        columns=_columns(objectives, ()),
        objectives=objectives,
    )


def _state(
    *,
    search: str,
    order_by: str,
    ascending: bool = False,
    sections: list[Json],
    cards: list[Json],
    columns: list[str],
    objectives: Sequence[Objective],
) -> Json:
    return {
        "searchFilter": search,
        "orderByKey": order_by,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": ["1", _RUN_NAME, *columns, "runDateAndNestInfo", "duration"],
        "columnWidths": {name: width for name, width in _WIDTHS.items() if name in (*columns, _RUN_NAME)},
        "runsHiddenMode": "SHOW_ALL",
        "runsVisibilityMap": {},
        "compareRunCharts": [*cards, *_suppressed(objectives)],
        "compareRunSections": sections,
        "runListHidden": False,
        "isAccordionReordered": True,
        "groupBy": None,
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {"lineSmoothness": 0, "xAxisKey": "step"},
    }


def _suppressed(objectives: Sequence[Objective]) -> list[Json]:
    # MLflow adds a bar chart for every metric without a card; a deleted placeholder keeps it away
    drawn = [key for panel in panels(objectives) for key in (panel.x_key, panel.y_key)]
    units = [*UNITS.values(), *(unit_of(objective.metric) for objective in objectives)]
    named = [name for unit in units for name in (unit.metric, unit.name)]
    best = f"best_{unit_of(objectives[0].metric).name}"
    keys = dict.fromkeys([*_OTHER_METRICS, best, *named, *drawn])
    return [
        {"type": "BAR", "uuid": f"no-{index}", "metricKey": key, "deleted": True, "isGenerated": True}
        for index, key in enumerate(keys)
    ]


def _section(name: str, title: str, *, columns: int = 2) -> Json:
    return {
        "uuid": name,
        "name": title,
        "display": True,
        "isReordered": True,
        "columns": columns,
        "cardHeight": 360,
    }


def _card(kind: str, section: str, **fields: Any) -> Json:
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{section}/{json.dumps(fields, sort_keys=True)}"))
    return {
        "uuid": name[:13],
        "type": kind,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
        **fields,
    }


def _line(key: str, section: str, **fields: Any) -> Json:
    settings = {"xAxisKey": "step", "useGlobalXaxisKey": False, **fields}
    return _card(
        "LINE", section, metricKey=key, selectedMetricKeys=[key], scaleType="linear", lineSmoothness=0,
        useGlobalLineSmoothing=False, displayPoints=True, **settings,
    )  # fmt: skip


def _front_line(panel: Panel) -> Json:
    return _line(panel.y_key, "fronts", xAxisKey="metric", selectedXAxisMetricKey=panel.x_key)


def _scatter(panel: Panel, section: str) -> Json:
    x, y = unit_of(panel.x.metric).name, unit_of(panel.y.metric).name
    return _card("SCATTER", section, xaxis={"key": x, "type": "METRIC"}, yaxis={"key": y, "type": "METRIC"})


def _columns(objectives: Sequence[Objective], axes: Sequence[str]) -> list[str]:
    metrics = [*(unit_of(objective.metric).name for objective in objectives), "params_m", "latency_ms_p50"]
    return [
        "tags.`segsweep.status`",
        "tags.`pareto.rank`",
        *(f"metrics.`{name}`" for name in dict.fromkeys(metrics)),
        *(f"params.`{axis}`" for axis in axes),
        "tags.`segsweep.reason`",
    ]
