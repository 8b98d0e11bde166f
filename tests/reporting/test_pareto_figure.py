"""The Pareto figure: what is drawn where, and that labels can be read."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from segsweep.records import (
    DEFAULT_OBJECTIVES,
    CostReport,
    Evaluation,
    Objective,
    Point,
    Score,
    TrialStatus,
)
from segsweep.reporting.figures import pareto_figure, staircase, subtitle
from segsweep.reporting.label_placement import Label, place_labels
from segsweep.tracking.fronts import panels

MACS, SPEED = panels(DEFAULT_OBJECTIVES)


def evaluation(number: int, *, miou: float, macs: int, speed: float, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {
        "trial_id": str(number),
        "number": number,
        "point": Point({"neck.channels": number}),
        "status": TrialStatus.COMPLETE,
        "cost": CostReport(
            num_params=10**6, macs=macs, size=(64, 64), num_classes=3, images_per_second=speed, batch_size=2
        ),
        "scores": (Score(epoch=1, fidelity=1.0, miou=miou, train_loss=1.0, seconds=1.0),),
    }
    return Evaluation(**{**values, **changes})


def sweep(trials: int) -> list[Evaluation]:
    draw = random.Random(0)
    return [
        evaluation(
            n, miou=draw.uniform(0.3, 0.8), macs=draw.randint(10**9, 10**11), speed=draw.uniform(5, 90)
        )
        for n in range(trials)
    ]


def test_with_a_cost_the_best_value_holds_until_the_next_member() -> None:
    assert staircase([(1, 50), (4, 60)], MACS) == [(1, 50), (4, 50), (4, 60)]


def test_with_a_benefit_the_best_value_holds_down_to_the_member_before() -> None:
    assert staircase([(1, 60), (4, 50)], SPEED) == [(1, 60), (1, 50), (4, 50)]


def test_nothing_that_was_measured_lies_beyond_the_staircase() -> None:
    from segsweep.tracking.fronts import front_line

    trials = sweep(60)
    corners = staircase(front_line(trials, MACS), MACS)
    for trial in trials:
        x, y = trial.metrics()["macs"] / 1e9, 100 * trial.metrics()["miou"]
        reachable = [height for cost, height in corners if cost <= x + 1e-9]
        assert reachable
        assert y <= max(reachable) + 1e-9


def test_subtitle_counts_what_is_not_drawn() -> None:
    trials = [
        evaluation(0, miou=0.5, macs=1, speed=1.0),
        evaluation(1, miou=0.5, macs=1, speed=1.0, status=TrialStatus.STOPPED),
        evaluation(2, miou=0.5, macs=1, speed=1.0, status=TrialStatus.FAILED),
    ]
    assert subtitle(trials) == (
        "1 of 3 trials drawn; not drawn: 1 failed, 1 stopped · input 64x64 · speed at batch 2"
    )


@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_a_readable_picture_for_any_number_of_trials(tmp_path: Path, count: int) -> None:
    path = pareto_figure(sweep(count), DEFAULT_OBJECTIVES, "title", tmp_path / "new" / "pareto.png")
    with Image.open(path) as picture:
        width, height = picture.size
        assert width > 1.5 * height  # two panels side by side
        assert width >= 1600
        assert len(picture.convert("L").getcolors() or []) > 20  # not a blank page


@pytest.mark.parametrize("number_of_objectives", [1, 2, 3])
def test_one_panel_per_cost(tmp_path: Path, number_of_objectives: int) -> None:
    objectives = DEFAULT_OBJECTIVES[:number_of_objectives]
    path = pareto_figure(sweep(5), objectives, "title", tmp_path / "pareto.png")
    with Image.open(path) as picture:
        assert round(picture.width / 1008) == max(1, number_of_objectives - 1)


def test_objectives_may_point_down(tmp_path: Path) -> None:
    objectives = (
        Objective(metric="latency_ms_p50", direction="minimize"),
        Objective(metric="macs", direction="minimize"),
    )
    assert pareto_figure(sweep(5), objectives, "title", tmp_path / "pareto.png").is_file()


def test_labels_cover_neither_each_other_nor_points() -> None:
    figure = Figure(figsize=(4, 3), dpi=100)
    axes = figure.add_subplot()
    draw = random.Random(1)
    points = [(draw.random(), draw.random()) for _ in range(25)]
    axes.scatter(*zip(*points, strict=True))
    labels = [Label(x=x, y=y, text=f"#{index}") for index, (x, y) in enumerate(points)]
    written = place_labels(axes, labels, points=points, color="black")
    assert len(written) > 10
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(written)
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert not any(box.contains(*axes.transData.transform(point)) for point in points)


def test_a_label_without_a_free_place_is_left_out() -> None:
    axes = Figure(figsize=(2, 2), dpi=100).add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    crowd = [(0.5 + 0.02 * dx, 0.5 + 0.02 * dy) for dx in range(-20, 21) for dy in range(-20, 21)]
    assert place_labels(axes, [Label(x=0.5, y=0.5, text="#0")], points=crowd, color="black") == []
    assert len(axes.texts) == 0


def test_importing_the_figures_does_not_import_matplotlib() -> None:
    code = (
        "import segsweep.reporting.figures, sys; "
        "assert not {'matplotlib', 'mlflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
