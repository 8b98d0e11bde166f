"""The Pareto figure of a sweep: one panel per cost, each with its own 2-D front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segsweep.records import Evaluation, Objective

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pareto_figure(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], title: str, path_png: Path
) -> Path:
    """Draw the first objective against every other one and write a PNG."""
    from matplotlib.figure import Figure

    from segsweep.pareto.front import front_of, objective_values
    from segsweep.tracking.fronts import front_line, panels
    from segsweep.tracking.units import unit_of

    usable, _ = objective_values(evaluations, objectives)
    members = {e.trial_id for e in front_of(evaluations, objectives)}
    pairs = panels(objectives)
    figure = Figure(figsize=(6.2 * max(len(pairs), 1), 5.0), layout="constrained")
    figure.suptitle(title)
    for index, panel in enumerate(pairs):
        axes: Axes = figure.add_subplot(1, len(pairs), index + 1)
        x, y = unit_of(panel.x.metric), unit_of(panel.y.metric)
        for e in usable:
            metrics = e.metrics()
            color = "#0072B2" if e.trial_id in members else "#BBBBBB"
            axes.plot(metrics[x.metric] * x.factor, metrics[y.metric] * y.factor, "o", color=color)
        line = front_line(evaluations, panel)
        if line:
            axes.plot(*zip(*line, strict=True), color="#0072B2")
        axes.set_xlabel(x.label)
        axes.set_ylabel(y.label)
    path_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path_png, dpi=160)
    return path_png
