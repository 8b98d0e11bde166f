"""The four saved views of an experiment: what each shows, in which order, with which charts.

MLflow 3.15 and later keep a named view as the tag ``mlflow.sharedViewState.<id>``. The format is the one of
``mlflow/demo/generators/saved_views.py``; it is not a public API, so views are best effort and every value
here was checked in a browser with MLflow 3.17.

The UI loads 100 runs. ``pareto_rank`` rises from what matters most: runs that draw a front, published figures
on the same axes, members of fronts, published figures of other data, dominated trials; runs without a rank
come last.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from segsweep.records import Objective
from segsweep.tracking import view_cards as chart
from segsweep.tracking.baselines import Published, axis_key
from segsweep.tracking.fronts import chart_panels
from segsweep.tracking.trial_runs import BEST, BEST_EPOCH
from segsweep.tracking.units import UNITS, unit_of
from segsweep.tracking.views import (
    ALL_TRIALS,
    BY_METHOD,
    FRONT_RUN_RANK,
    PARETO_FRONTS,
    RANK,
    SWEEP_PROGRESS,
    VIEW_TAG,
)

MAX_VIEW_CHARS = 5000  # older servers refuse longer experiment tags; 3.17 takes 20,000

_RUN_NAME = "attributes.`Run Name`"
_OTHER_METRICS = (
    "val_miou", "train_loss", "fidelity", "trial_seconds", RANK, BEST, BEST_EPOCH,
    "hypervolume", "hypervolume_scaled", "front_size",
)  # fmt: skip
_WIDTHS = {
    _RUN_NAME: 240,
    "tags.`segsweep.status`": 130,
    "tags.`pareto.rank`": 100,
    "tags.`segsweep.reason`": 360,
    f"metrics.`{BEST}`": 170,
    "metrics.`images_per_second`": 150,
    "metrics.`latency_ms_p50`": 140,
}
_MAX_PARALLEL_AXES = 8
_NOT_PUBLISHED = ' AND tags."segsweep.run_kind" != "published"'

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The design axes of a sweep.

    Attributes:
        names: All of them, in the order of the space.
        common: Those on which every trial has a value: parallel coordinates leave out any run that lacks one.
    """

    names: tuple[str, ...] = ()
    common: tuple[str, ...] = ()

    @classmethod
    def of(cls, points: Iterable[Iterable[str]]) -> Axes:
        """The axes of some points."""
        taken = [tuple(point) for point in points]
        names = tuple(dict.fromkeys(axis for point in taken for axis in point))
        return cls(names=names, common=tuple(axis for axis in names if all(axis in point for point in taken)))


def view_tags(
    objectives: Sequence[Objective],
    axes: Axes,
    *,
    created_ms: int,
    published: Published | None = None,
) -> dict[str, str]:
    """The views as experiment tags: tag key -> tag value.

    Axes that do not fit in a tag are left out of the table of all trials.

    Args:
        objectives: Of the newest sweep; the first is the y axis everywhere.
        axes: The design axes.
        created_ms: Time in ms since the epoch.
        published: Published figures that the experiment shows.
    """
    published = published or Published()
    views = {
        PARETO_FRONTS: ("Pareto fronts", _front_state(objectives, published)),
        BY_METHOD: ("By method", _method_state(objectives, published)),
        SWEEP_PROGRESS: ("Sweep progress", _progress_state(objectives, published)),
    }
    tags = {
        f"{VIEW_TAG}{view}": _encode(name, state, created_ms=created_ms)
        for view, (name, state) in views.items()
    }
    for count in range(len(axes.names), -1, -1):
        fitting = Axes(names=axes.names[:count], common=axes.common)
        text = _encode("All trials", _trials_state(objectives, fitting, published), created_ms=created_ms)
        if len(text) <= MAX_VIEW_CHARS:
            break
    return {**tags, f"{VIEW_TAG}{ALL_TRIALS}": text}


def _encode(name: str, state: Json, *, created_ms: int) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)).decode()
    return json.dumps(
        {"name": name, "createdAt": created_ms, "state": f"deflate;{packed}"}, separators=(",", ":")
    )


def _front_state(objectives: Sequence[Objective], published: Published) -> Json:
    panels = chart_panels(objectives)
    black = ", published black" if published.beside else ""
    return _state(
        search=f"metrics.{RANK} >= {FRONT_RUN_RANK}",  # front runs, published figures, complete trials
        order_by=f"metrics.`{RANK}`",
        ascending=True,
        sections=[
            chart.section("fronts", "Pareto fronts: one line per sweep"),
            chart.section("trials", f"Trials: fronts in full colour, dominated pale{black}"),
            chart.section("published", "Published on other data: not measured here"),
        ],
        cards=[
            *(chart.front_line(panel, "fronts") for panel in panels),
            *(chart.scatter(panel, "trials") for panel in panels),
            *_published(objectives, published),
        ],
        columns=_columns(objectives, ()),
        keys=_metric_keys(objectives, published),
    )


def _published(objectives: Sequence[Objective], published: Published) -> list[Json]:
    if objectives[0].metric != "miou":
        return []
    return [
        chart.scatter_of(axis_key(data, cost), axis_key(data, "miou"), "published")
        for data, costs in published.elsewhere.items()
        for cost in costs
    ]


def _method_state(objectives: Sequence[Objective], published: Published) -> Json:
    panels = chart_panels(objectives)
    best = f"best_{unit_of(objectives[0].metric).name}"
    return _state(
        search=f"metrics.{RANK} >= {FRONT_RUN_RANK}{_NOT_PUBLISHED}",
        order_by=f"metrics.`{RANK}`",
        ascending=True,
        sections=[
            chart.section("sweeps", "Each sweep in one number", columns=3, height=300),
            chart.section("fronts", "Pareto fronts: one line per sweep"),
            chart.section("trials", "Trials: one colour per method"),
        ],
        cards=[
            *(chart.bar(key, "sweeps") for key in (best, "hypervolume_scaled", "front_size")),
            *(chart.front_line(panel, "fronts") for panel in panels[:2]),
            *(chart.scatter(panel, "trials") for panel in panels),
        ],
        columns=_columns(objectives, ()),
        keys=_metric_keys(objectives, published),
        group_by={
            "aggregateFunction": "max",
            "groupByKeys": [{"mode": "tag", "groupByData": "segsweep.method"}],
        },
    )


def _trials_state(objectives: Sequence[Objective], axes: Axes, published: Published) -> Json:
    panels = chart_panels(objectives)
    # the last one colours the lines
    shown = [unit_of(objective.metric).name for objective in reversed(objectives)]
    return _state(
        search='tags."segsweep.run_kind" = "trial"',
        order_by=f"metrics.`{RANK}`",
        ascending=True,
        sections=[
            chart.section("trials", "All trials: fronts in full colour, dominated pale"),
            chart.section("axes", "Designs: one line per trial", columns=1, height=420),
            chart.section("table", "Designs side by side", columns=1, height=480),
        ],
        cards=[
            *(chart.scatter(panel, "trials") for panel in panels),
            chart.parallel(axes.common[:_MAX_PARALLEL_AXES], shown, "axes"),
            chart.table("Designs, best first", ["Parameters", "Model metrics"], "table"),
        ],
        columns=_columns(objectives, axes.names),
        keys=_metric_keys(objectives, published),
    )


def _progress_state(objectives: Sequence[Objective], published: Published) -> Json:
    return _state(
        search=f'tags."segsweep.run_kind" != "front"{_NOT_PUBLISHED}',
        order_by=f"metrics.`{RANK}`",
        ascending=True,
        sections=[
            chart.section("sweep", "Sweeps: over trials that ended"),
            chart.section("training", "Trials: over epochs"),
        ],
        cards=[
            chart.line("hypervolume_scaled", "sweep"),
            chart.line("front_size", "sweep"),
            chart.line("val_miou", "training"),
            chart.line("train_loss", "training"),
        ],
        columns=_columns(objectives, ()),
        keys=_metric_keys(objectives, published),
    )


def _state(
    *,
    search: str,
    order_by: str,
    ascending: bool,
    sections: list[Json],
    cards: list[Json],
    columns: list[str],
    keys: Sequence[str],
    group_by: Json | None = None,
) -> Json:
    filled = {card["metricSectionId"] for card in cards}
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
        "compareRunCharts": [*cards, *chart.suppressed(keys)],
        "compareRunSections": [section for section in sections if section["uuid"] in filled],
        "runListHidden": False,
        "isAccordionReordered": True,
        "groupBy": group_by,
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {"lineSmoothness": 0, "xAxisKey": "step"},
    }


def _metric_keys(objectives: Sequence[Objective], published: Published) -> list[str]:
    """Every metric that a run of the experiment may have."""
    panels = chart_panels(objectives)
    drawn = [key for panel in panels for key in (panel.x_key, panel.y_key)]
    units = [*UNITS.values(), *(unit_of(objective.metric) for objective in objectives)]
    named = [name for unit in units for name in (unit.metric, unit.name)]
    others = [
        axis_key(data, metric) for data in published.elsewhere for metric in ("miou", "macs", "num_params")
    ]
    return [*_OTHER_METRICS, f"best_{unit_of(objectives[0].metric).name}", *named, *drawn, *others]


def _columns(objectives: Sequence[Objective], axes: Sequence[str]) -> list[str]:
    metrics = [unit_of(objective.metric).name for objective in objectives]
    metrics[1:1] = [BEST] if objectives[0].metric == "miou" else []
    return [
        "tags.`segsweep.status`",
        "tags.`pareto.rank`",
        *(f"metrics.`{name}`" for name in dict.fromkeys([*metrics, "params_m", "latency_ms_p50"])),
        *(f"params.`{axis}`" for axis in axes),
        "tags.`segsweep.reason`",
    ]
