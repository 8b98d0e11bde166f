"""The Pareto figure of a sweep: one panel per cost, each with its own 2-D front."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segsweep.pareto.front import front_of
from segsweep.records import Evaluation, Objective, TrialStatus
from segsweep.reporting.label_placement import Label, place_labels
from segsweep.reporting.tables import cost_conditions
from segsweep.tracking.fronts import Panel, front_line, panels
from segsweep.tracking.units import shown, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

XY = tuple[float, float]

LINE = "#0B5FA5"
MEMBER = "#E07B00"
PALE = "#B9C3CE"
TEXT = "#5B6570"
DPI = 180
PANEL_INCHES = (5.6, 4.6)
COUNTED = ("macs", "flops", "num_params")  # spread over decades: log axis


def pareto_figure(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], title: str, path_png: Path
) -> Path:
    """Draw the first objective against every other one and write a PNG.

    Every panel has the staircase of its own 2-D front; trials that are on the front of all objectives but
    not on the panel's are marked, dominated ones are pale, and trials without a final value are counted in
    the subtitle instead of being drawn at a value that they never reached.

    Args:
        evaluations: Trials of any status.
        objectives: The first goes on the y axes. A single one is drawn against MACs.
        title: First line of the heading; the conditions of the measurement follow it.
        path_png: File to write; its folder is created.
    Returns:
        ``path_png``.
    """
    from matplotlib.figure import Figure

    pairs = panels(objectives) or [Panel(x=Objective(metric="macs", direction="minimize"), y=objectives[0])]
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(pairs), height + 0.95), dpi=DPI, facecolor="white")
    figure.subplots_adjust(
        left=0.8 / (width * len(pairs)),
        right=1 - 0.2 / (width * len(pairs)),
        bottom=0.95 / (height + 0.95),
        top=1 - 0.85 / (height + 0.95),
        wspace=0.22,
    )
    members = {evaluation.trial_id for evaluation in front_of(evaluations, objectives)}
    for index, panel in enumerate(pairs):
        _draw_panel(figure.add_subplot(1, len(pairs), index + 1), evaluations, panel, members=members)
    _heading(figure, title, evaluations)
    _legend(figure, objectives)
    path_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path_png)
    return path_png


def staircase(line: Sequence[XY], panel: Panel) -> list[XY]:
    """The corners of the boundary of what the front dominates, in shown units, from left to right.

    With a cost on the x axis the best value holds until the next member is affordable; with a benefit it
    holds down to the previous member.
    """
    corners: list[XY] = list(line[:1])
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        corners += [(x0, y1) if panel.x.maximize else (x1, y0), (x1, y1)]
    return corners


def _draw_panel(axes: Axes, evaluations: Sequence[Evaluation], panel: Panel, *, members: set[str]) -> None:
    drawn = {e.trial_id: (e, xy) for e in evaluations if (xy := _position(e, panel)) is not None}
    line = front_line(evaluations, panel)
    style_axes(axes, panel, [xy for _, xy in drawn.values()])
    if not drawn:
        axes.text(0.5, 0.5, "no complete trial yet", transform=axes.transAxes, ha="center", color=TEXT)
        return
    on_line = {trial_id for trial_id, (_, xy) in drawn.items() if xy in set(line)}
    pale = [xy for trial_id, (_, xy) in drawn.items() if trial_id not in on_line | members]
    marked = [xy for trial_id, (_, xy) in drawn.items() if trial_id in members - on_line]
    corners = to_edges(axes, staircase(line, panel), panel)
    axes.plot(*zip(*corners, strict=True), color=LINE, linewidth=1.6, zorder=3, solid_joinstyle="miter")
    _dots(axes, pale, face=PALE, edge="white", order=2)
    _dots(axes, marked, face="white", edge=MEMBER, order=4)
    _dots(axes, line, face=LINE, edge="white", order=5)
    labels = [
        Label(x=xy[0], y=xy[1], text=_name(evaluation))
        for trial_id, (evaluation, xy) in sorted(drawn.items(), key=lambda item: item[0] not in on_line)
        if trial_id in on_line | members
    ]
    points = [xy for _, xy in drawn.values()]
    place_labels(axes, labels, points=points, lines=[corners], color=TEXT)
    mark_better(axes, panel)


def _position(evaluation: Evaluation, panel: Panel) -> XY | None:
    metrics = evaluation.metrics() if evaluation.status is TrialStatus.COMPLETE else {}
    if panel.x.metric not in metrics or panel.y.metric not in metrics:
        return None
    return (
        shown(panel.x.metric, metrics[panel.x.metric]),
        shown(panel.y.metric, metrics[panel.y.metric]),
    )


def _name(evaluation: Evaluation) -> str:
    kind, _, name = evaluation.source.partition(":")
    return name if kind == "seed" and name else f"#{evaluation.number}"


def _dots(axes: Axes, points: Sequence[XY], *, face: str, edge: str, order: int) -> None:
    if points:
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, s=42, facecolor=face, edgecolor=edge, linewidth=1.1, zorder=order)


def style_axes(axes: Axes, panel: Panel, points: Sequence[XY]) -> None:
    """Scale, limits, labels and frame of a panel; ``points`` in shown units decide the first two."""
    xs = [x for x, _ in points if x > 0]
    if panel.x.metric in COUNTED and xs and max(xs) > 2 * min(xs):
        _log_axis(axes)
    if xs:
        _limits(axes, points)
    axes.set_xlabel(unit_of(panel.x.metric).label, color="#222222")
    axes.set_ylabel(unit_of(panel.y.metric).label, color="#222222")
    axes.grid(color="#E9ECEF", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9AA3AD")


def _log_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _limits(axes: Axes, points: Sequence[XY]) -> None:
    """Room around the points, so that labels and arrow have a place; no linear axis starts below zero."""
    xs, ys = zip(*points, strict=True)
    low, high = min(xs), max(xs)
    if axes.get_xscale() == "log":
        room = (high / low) ** 0.1
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.1 * ((high - low) or abs(high) or 1.0)
        axes.set_xlim(max(low - room, 0.0) if low >= 0 else low - room, high + room)
    room = 0.12 * ((max(ys) - min(ys)) or abs(max(ys)) or 1.0)
    axes.set_ylim(min(ys) - room, max(ys) + room)


def to_edges(axes: Axes, corners: Sequence[XY], panel: Panel) -> list[XY]:
    """The staircase carried on to the frame: what lies beyond it is not dominated by any trial."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    worst = bottom if panel.y.maximize else top
    if panel.x.maximize:
        return [(left, corners[0][1]), *corners, (corners[-1][0], worst)]
    return [(corners[0][0], worst), *corners, (right, corners[-1][1])]


def mark_better(axes: Axes, panel: Panel) -> None:
    """An arrow in the corner that every design would like to reach."""
    x = 0.965 if panel.x.maximize else 0.035
    y = 0.965 if panel.y.maximize else 0.035
    inwards = (-0.075 if panel.x.maximize else 0.075, -0.095 if panel.y.maximize else 0.095)
    start = (x + inwards[0], y + inwards[1])
    axes.annotate(
        "",
        xy=(x, y),
        xytext=start,
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "-|>", "color": "#2E8B57", "linewidth": 1.8},
    )
    axes.text(
        start[0],
        start[1],
        "better",
        transform=axes.transAxes,
        ha="right" if panel.x.maximize else "left",
        va="top" if panel.y.maximize else "bottom",
        fontsize=9,
        style="italic",
        color="#2E8B57",
    )


def _heading(figure: Figure, title: str, evaluations: Sequence[Evaluation]) -> None:
    left = figure.subplotpars.left
    inch = 1 / figure.get_figheight()
    figure.text(left, 1 - 0.14 * inch, title, fontsize=14, fontweight="bold", color="#222222", va="top")
    figure.text(left, 1 - 0.47 * inch, subtitle(evaluations), fontsize=9, color=TEXT, va="top")


def subtitle(evaluations: Sequence[Evaluation]) -> str:
    """How many trials are drawn, how many are not and why, and how cost and speed were measured."""
    counts = Counter(evaluation.status for evaluation in evaluations)
    complete = counts.pop(TrialStatus.COMPLETE, 0)
    absent = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    trials = f"{complete} of {len(evaluations)} trials drawn" + (f"; not drawn: {absent}" if absent else "")
    costs = [evaluation.cost for evaluation in evaluations if evaluation.cost is not None]
    return " · ".join([trials, *cost_conditions(costs)])


def _legend(figure: Figure, objectives: Sequence[Objective]) -> None:
    from matplotlib.lines import Line2D

    def entry(face: str, edge: str, label: str, *, line: Literal["-", ""] = "") -> Line2D:
        return Line2D(
            [], [], marker="o", markersize=7, markerfacecolor=face, markeredgecolor=edge,
            color=LINE, linestyle=line, linewidth=1.6, label=label,
        )  # fmt: skip

    handles = [entry(LINE, "white", "front of this panel", line="-")]
    if len(objectives) > 2:
        handles.append(entry("white", MEMBER, f"only on the front of all {len(objectives)} objectives"))
    handles.append(entry(PALE, "white", "dominated"))
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9, labelcolor=TEXT
    )
