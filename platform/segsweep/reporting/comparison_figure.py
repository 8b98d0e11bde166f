"""The fronts of several searches on common axes, one panel per cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segsweep.pareto.comparison_records import Comparison, FrontComparison, Member, Standing, Surface
from segsweep.reporting.comparison_text import headline, title
from segsweep.reporting.figures import (
    DPI,
    PANEL_INCHES,
    TEXT,
    XY,
    mark_better,
    staircase,
    style_axes,
    to_edges,
)
from segsweep.reporting.label_placement import Label, place_labels
from segsweep.tracking.colors import method_color, pale
from segsweep.tracking.fronts import Panel
from segsweep.tracking.units import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MAX_COLUMNS = 3
ROOM = 0.1  # of the y axis
STRIP = 0.022  # height of the strip of leads, of the y axis
_MARKERS = "osD^vP"  # told apart without colour


def comparison_figure(comparison: Comparison, path_png: Path) -> Path:
    """Draw every panel of a comparison and write a PNG.

    Each contender has the staircase of its own 2-D front; over several seeds that is the median attainment
    surface, in a band from what any seed to what every seed reached. Dominated trials are pale, knees have a
    ring. Every panel has its own front: one of three objectives would zigzag.

    Args:
        comparison: At least one panel.
        path_png: File to write; its folder is created.
    Returns:
        ``path_png``.
    """
    from matplotlib.figure import Figure

    columns = min(len(comparison.panels), MAX_COLUMNS)
    rows = math.ceil(len(comparison.panels) / columns)
    width, height = PANEL_INCHES
    tall = (height + 0.35) * rows + 0.9
    figure = Figure(figsize=(width * columns, tall), dpi=DPI, facecolor="white")
    figure.subplots_adjust(
        left=0.8 / (width * columns),
        right=1 - 0.2 / (width * columns),
        bottom=0.95 / tall,
        top=1 - 1.1 / tall,
        wspace=0.22,
        hspace=0.34,
    )
    styles = _styles(comparison)
    for index, panel in enumerate(comparison.panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_panel(axes, panel, styles)
    _heading(figure, comparison)
    _legend(figure, comparison, styles)
    path_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path_png)
    return path_png


_Style = tuple[str, str]  # colour, marker


def contender_colors(comparison: Comparison) -> dict[str, str]:
    """Colour of each contender by label: its method's, in shades where several share a method."""
    methods = [contender.method for contender in comparison.contenders]
    return {
        contender.label: method_color(contender.method, methods[:index].count(contender.method))
        for index, contender in enumerate(comparison.contenders)
    }


def _styles(comparison: Comparison) -> dict[str, _Style]:
    return {
        label: (color, _MARKERS[index % len(_MARKERS)])
        for index, (label, color) in enumerate(contender_colors(comparison).items())
    }


def _draw_panel(axes: Axes, space: FrontComparison, styles: Mapping[str, _Style]) -> None:
    panel = Panel(x=space.objectives[1], y=space.objectives[0])
    positions = {
        standing.label: [_position(member, panel) for member in standing.trials]
        for standing in space.standings
    }
    everything = [xy for points in positions.values() for xy in points]
    style_axes(axes, panel, everything)
    _headroom(axes, panel)
    if space.conditions:
        axes.set_title(space.conditions, fontsize=9, color=TEXT, loc="left")
    if not everything:
        axes.text(0.5, 0.5, "no complete trial", transform=axes.transAxes, ha="center", color=TEXT)
        return
    lines = [_draw_standing(axes, item, panel, styles[item.label]) for item in space.standings]
    labels = [
        Label(x=x, y=y, text=f"#{member.evaluation.number}")
        for standing in space.standings
        for member in _labelled(standing)
        for x, y in [_position(member, panel)]
    ]
    place_labels(axes, labels, points=everything, lines=[line for line in lines if line], color=TEXT)
    _draw_leads(axes, space, styles)
    mark_better(axes, panel)


def _headroom(axes: Axes, panel: Panel) -> None:
    """Room for the arrow beyond the best and for the strip of leads below the worst."""
    bottom, top = axes.get_ylim()
    above, below = (1.0, 0.3) if panel.y.maximize else (0.3, 1.0)
    room = ROOM * (top - bottom)
    axes.set_ylim(bottom - below * room, top + above * room)


def _draw_leads(axes: Axes, space: FrontComparison, styles: Mapping[str, _Style]) -> None:
    """A strip along the x axis in the colour of who is ahead there; white where the best are level."""
    if len(space.standings) < 2:
        return
    cost = space.objectives[1]
    left, right = axes.get_xlim()
    for lead in space.leads:
        start = shown(cost.metric, lead.start)
        end = (left if cost.maximize else right) if lead.stop is None else shown(cost.metric, lead.stop)
        color = "white" if lead.leader is None else styles[space.standings[lead.leader].label][0]
        axes.axvspan(min(start, end), max(start, end), ymax=STRIP, facecolor=color, linewidth=0, zorder=6)
    axes.set_xlim(left, right)


def _labelled(standing: Standing) -> list[Member]:
    """Whom to label; numbers of trials of several sweeps would only confuse."""
    if len({member.sweep_id for member in standing.trials}) > 1:
        return []
    return sorted(standing.front, key=lambda member: member not in standing.knees)


def _draw_standing(axes: Axes, standing: Standing, panel: Panel, style: _Style) -> list[XY]:
    color, marker = style
    corners = _corners(axes, standing.surface, panel)
    if standing.reached_once:
        band = _corners(axes, standing.reached_once, panel)
        floor = _corners(axes, standing.reached_always, panel) or [band[-1], band[0]]
        axes.fill(*zip(*band, *floor[::-1], strict=True), color=color, alpha=0.14, linewidth=0, zorder=1)
    if corners:  # fewer than half of the seeds may have a complete trial
        axes.plot(*zip(*corners, strict=True), color=color, linewidth=1.7, zorder=3, solid_joinstyle="miter")
    front = {member.evaluation.trial_id + member.sweep_id for member in standing.front}
    for member in standing.trials:
        x, y = _position(member, panel)
        on_front = member.evaluation.trial_id + member.sweep_id in front
        axes.scatter(
            [x], [y], s=44 if on_front else 26, marker=marker, facecolor=color if on_front else pale(color),
            edgecolor="white", linewidth=0.9, zorder=5 if on_front else 2,
        )  # fmt: skip
    for member in standing.knees if len(standing.front) > 2 else ():
        x, y = _position(member, panel)
        axes.scatter([x], [y], s=170, facecolor="none", edgecolor=color, linewidth=1.3, zorder=4)
    return corners


def _corners(axes: Axes, surface: Surface, panel: Panel) -> list[XY]:
    line = sorted((shown(panel.x.metric, x), shown(panel.y.metric, y)) for x, y in surface)
    return to_edges(axes, staircase(line, panel), panel) if line else []


def _position(member: Member, panel: Panel) -> XY:
    metrics = member.evaluation.metrics()
    return shown(panel.x.metric, metrics[panel.x.metric]), shown(panel.y.metric, metrics[panel.y.metric])


def _heading(figure: Figure, comparison: Comparison) -> None:
    left, inch = figure.subplotpars.left, 1 / figure.get_figheight()
    told = " · ".join(f"{name} {value}" for name, value in comparison.conditions)
    figure.text(
        left, 1 - 0.14 * inch, title(comparison), fontsize=14, fontweight="bold", color="#222222", va="top"
    )
    figure.text(left, 1 - 0.45 * inch, headline(comparison), fontsize=10, color="#222222", va="top")
    figure.text(left, 1 - 0.68 * inch, told, fontsize=9, color=TEXT, va="top")


def _legend(figure: Figure, comparison: Comparison, styles: Mapping[str, _Style]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [
        Line2D(
            [], [], color=color, marker=marker, markersize=7, markeredgecolor="white", linewidth=1.7,
            label=_name(comparison, label),
        )
        for label, (color, marker) in styles.items()
    ]  # fmt: skip
    handles.append(_ring())
    handles.append(Patch(facecolor="#5B6570", label="strip below: who leads at this cost"))
    if any(len(contender.runs) > 1 for contender in comparison.contenders):
        handles.append(Patch(facecolor="#5B6570", alpha=0.2, label="any seed to every seed"))
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9, labelcolor=TEXT
    )


def _ring() -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], marker="o", markersize=10, markerfacecolor="none", markeredgecolor=TEXT, linestyle="",
        label="knee",
    )  # fmt: skip


def _name(comparison: Comparison, label: str) -> str:
    runs: Sequence[object] = next(item.runs for item in comparison.contenders if item.label == label)
    return f"{label}, median of {len(runs)} sweeps" if len(runs) > 1 else label
