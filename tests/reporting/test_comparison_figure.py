"""The figure of a comparison: what is drawn, in which colour and order."""

from __future__ import annotations

from pathlib import Path

import pytest
from compared_sweeps import trial, trials
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from segsweep.pareto.comparison import compare_fronts
from segsweep.pareto.comparison_records import Comparison, Contender, SearchRun
from segsweep.records import DEFAULT_OBJECTIVES, Evaluation
from segsweep.reporting import comparison_figure as drawing
from segsweep.reporting.comparison_figure import comparison_figure, contender_colors

MIOU, MACS, SPEED = DEFAULT_OBJECTIVES


def contender(label: str, method: str, *runs: list[Evaluation]) -> Contender:
    return Contender(
        label=label,
        method=method,
        runs=tuple(
            SearchRun(sweep_id=f"{label}-{seed}", seed=seed, evaluations=tuple(run))
            for seed, run in enumerate(runs)
        ),
    )


def comparison(*contenders: Contender, costs: int = 2) -> Comparison:
    panels = [compare_fronts(contenders, (MIOU, cost), given={}) for cost in (MACS, SPEED)[:costs]]
    return Comparison(
        contenders=contenders, panels=tuple(panels), joint=None, conditions=(("data", "camvid"),), notes=()
    )


@pytest.mark.parametrize("costs", [1, 2])
def test_one_panel_per_cost_and_no_blank_page(tmp_path: Path, costs: int) -> None:
    whole = comparison(
        contender("a", "eseg", trials(15, seed=0), trials(15, seed=1), trials(15, seed=2)),
        contender("b", "hfgd", trials(15, seed=3)),
        costs=costs,
    )
    path = comparison_figure(whole, tmp_path / "new" / "figure.png")
    with Image.open(path) as picture:
        assert round(picture.width / 1008) == costs
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 200


def test_contenders_have_the_colour_of_their_method_in_shades() -> None:
    one = [trial(1, 0.5, 1e9)]
    colors = contender_colors(
        comparison(
            contender("a", "eseg", one), contender("b", "hfgd", one), contender("c", "eseg", one), costs=1
        )
    )
    assert len(set(colors.values())) == 3
    alone = contender_colors(comparison(contender("x", "hfgd", one), costs=1))
    assert alone["x"] == colors["b"]


def test_each_staircase_passes_through_its_front_and_the_strip_shows_the_leader() -> None:
    a = contender("a", "eseg", [trial(1, 0.50, 1e9), trial(2, 0.60, 2e9)])
    b = contender("b", "hfgd", [trial(1, 0.55, 1.5e9), trial(2, 0.70, 4e9), trial(3, 0.2, 5e9)])
    whole = comparison(a, b, costs=1)
    axes = Figure().add_subplot()
    drawing._draw_panel(axes, whole.panels[0], drawing._styles(whole))
    colors = contender_colors(whole)
    lines = {to_hex(line.get_color()).upper(): line.get_xydata().round(6).tolist() for line in axes.lines}
    assert [1.0, 50.0] in lines[colors["a"]]
    assert [2.0, 60.0] in lines[colors["a"]]
    assert [1.5, 55.0] in lines[colors["b"]]
    assert [4.0, 70.0] in lines[colors["b"]]
    # a alone from 1, b ahead from 1.5, a from 2, b from 4 on
    strips = [to_hex(patch.get_facecolor()).upper() for patch in axes.patches if patch.get_height() < 0.5]
    assert strips == [colors[name] for name in ("a", "b", "a", "b")]


def test_trials_of_several_sweeps_carry_no_numbers() -> None:
    single = contender("a", "eseg", trials(8, seed=0))
    several = contender("a", "eseg", trials(8, seed=0), trials(8, seed=1))
    for item, numbered in ((single, True), (several, False)):
        whole = comparison(item, costs=1)
        axes = Figure().add_subplot()
        drawing._draw_panel(axes, whole.panels[0], drawing._styles(whole))
        assert any(text.get_text().startswith("#") for text in axes.texts) is numbered


def test_a_panel_without_trials_says_so(tmp_path: Path) -> None:
    whole = comparison(contender("a", "eseg", [trial(1, 0.5, 1e9)]), costs=2)
    assert whole.panels[1].standings == ()
    axes = Figure().add_subplot()
    drawing._draw_panel(axes, whole.panels[1], drawing._styles(whole))
    assert [text.get_text() for text in axes.texts] == ["no complete trial"]
    assert comparison_figure(whole, tmp_path / "figure.png").is_file()
