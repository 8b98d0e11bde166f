"""Charts of a saved view: one JSON object each, in the form of MLflow 3.17's own UI state.

MLflow titles charts by the keys of their metrics and ignores names. An axis of a scatter chart may have a
name beside its ``dataAccessKey``, but 3.17 then shows x for y when a dot is hovered: so it is not used.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from segsweep.tracking.fronts import Panel
from segsweep.tracking.units import unit_of

Json = dict[str, Any]


def section(name: str, title: str, *, columns: int = 2, height: int = 360) -> Json:
    """A section of the chart page, open, with its charts in ``columns`` of ``height`` pixels."""
    return {
        "uuid": name,
        "name": title,
        "display": True,
        "isReordered": True,
        "columns": columns,
        "cardHeight": height,
    }


def line(key: str, where: str, **fields: Any) -> Json:
    """A metric over its steps, one line for each run that has it."""
    settings = {"xAxisKey": "step", "useGlobalXaxisKey": False, **fields}
    return _card(
        "LINE", where, metricKey=key, selectedMetricKeys=[key], scaleType="linear", lineSmoothness=0,
        useGlobalLineSmoothing=False, displayPoints=True, **settings,
    )  # fmt: skip


def front_line(panel: Panel, where: str) -> Json:
    """The fronts of a panel: one connected line for each front run."""
    return line(panel.y_key, where, xAxisKey="metric", selectedXAxisMetricKey=panel.x_key)


def scatter(panel: Panel, where: str) -> Json:
    """One dot for each run that has both metrics of the panel."""
    return scatter_of(unit_of(panel.x.metric).name, unit_of(panel.y.metric).name, where)


def scatter_of(x: str, y: str, where: str) -> Json:
    """One dot for each run that has both metrics."""
    return _card("SCATTER", where, xaxis={"key": x, "type": "METRIC"}, yaxis={"key": y, "type": "METRIC"})


def bar(key: str, where: str) -> Json:
    """The last value of a metric, one bar for each run that has it."""
    return _card("BAR", where, metricKey=key)


def parallel(params: Sequence[str], metrics: Sequence[str], where: str) -> Json:
    """Parallel coordinates over params and metrics, one line for each run."""
    return _card(
        "PARALLEL", where, selectedParams=list(params), selectedMetrics=list(metrics), showAllRuns=True
    )


def table(title: str, groups: Sequence[str], where: str) -> Json:
    """Runs side by side, one column each; ``groups`` of ``Model metrics``, ``Parameters``, ``Tags``."""
    return _card(
        "DIFFERENCE", where, chartName=title, compareGroups=list(groups), showChangeFromBaseline=False,
        showDifferencesOnly=True, baselineColumnUuid="",
    )  # fmt: skip


def suppressed(keys: Sequence[str]) -> list[Json]:
    """Placeholders of deleted charts: MLflow adds a bar chart for every metric that no card has."""
    return [
        {"type": "BAR", "uuid": f"no-{index}", "metricKey": key, "deleted": True, "isGenerated": True}
        for index, key in enumerate(dict.fromkeys(keys))
    ]


def _card(kind: str, where: str, **fields: Any) -> Json:
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{where}/{json.dumps(fields, sort_keys=True)}"))
    return {
        "uuid": name[:13],
        "type": kind,
        "metricSectionId": where,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
        **fields,
    }
