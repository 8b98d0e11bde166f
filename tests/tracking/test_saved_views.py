"""The saved views as MLflow stores them, decoded the way its UI does."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest

from segsweep.records import DEFAULT_OBJECTIVES, Objective
from segsweep.tracking import views
from segsweep.tracking.baselines import Published
from segsweep.tracking.view_states import Axes, view_tags

VIEWS = ("pareto-fronts", "all-trials", "sweep-progress", "by-method")


def state_of(tag: str) -> dict[str, Any]:
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


@pytest.fixture
def tags() -> dict[str, str]:
    axes = Axes.of([["neck.channels", "neck.repeats"], ["neck.channels"]])
    return view_tags(DEFAULT_OBJECTIVES, axes, created_ms=1)


def test_the_four_views_have_fixed_ids(tags: dict[str, str]) -> None:
    assert set(tags) == {f"mlflow.sharedViewState.{view}" for view in VIEWS}


def test_views_stay_below_the_tag_limit_of_older_servers_whatever_the_number_of_axes() -> None:
    axes = [f"stage.{index}.some.long.name.of.an.axis.{index * 7919 % 997}" for index in range(400)]
    published = Published(
        beside=3, elsewhere={f"dataset_{index}": ("macs", "num_params") for index in range(6)}, names={}
    )
    for tag in view_tags(DEFAULT_OBJECTIVES, Axes.of([axes]), created_ms=1, published=published).values():
        assert len(tag) <= 5000


def test_fronts_are_lines_over_a_metric(tags: dict[str, str]) -> None:
    cards = state_of(tags["mlflow.sharedViewState.pareto-fronts"])["compareRunCharts"]
    lines = {(card["metricKey"], card["selectedXAxisMetricKey"]) for card in cards if card["type"] == "LINE"}
    assert lines == {
        ("mIoU percent over GMACs", "GMACs"),
        ("mIoU percent over images per s", "images per s"),
        ("mIoU percent over parameters in M", "parameters in M"),
        ("mIoU percent over median latency in ms", "median latency in ms"),
    }
    assert {card["xAxisKey"] for card in cards if card["type"] == "LINE"} == {"metric"}


def test_a_latency_objective_takes_the_place_of_the_median() -> None:
    objectives = (*DEFAULT_OBJECTIVES[:2], Objective(metric="latency_ms_p90", direction="minimize"))
    state = state_of(view_tags(objectives, Axes(), created_ms=1)["mlflow.sharedViewState.pareto-fronts"])
    drawn = {card["metricKey"] for card in state["compareRunCharts"] if card["type"] == "LINE"}
    assert "mIoU percent over p90 latency in ms" in drawn
    assert "mIoU percent over median latency in ms" not in drawn


def test_parallel_coordinates_leave_out_axes_that_some_trials_lack(tags: dict[str, str]) -> None:
    cards = state_of(tags["mlflow.sharedViewState.all-trials"])["compareRunCharts"]
    (parallel,) = [card for card in cards if card["type"] == "PARALLEL"]
    assert parallel["selectedParams"] == ["neck.channels"]
    assert parallel["selectedMetrics"][-1] == "miou_pct"  # it colours the lines


def test_writing_the_views_again_changes_nothing(tags: dict[str, str]) -> None:
    axes = Axes.of([["neck.channels", "neck.repeats"], ["neck.channels"]])
    assert view_tags(DEFAULT_OBJECTIVES, axes, created_ms=1) == tags


def test_every_card_has_a_section_and_its_own_id(tags: dict[str, str]) -> None:
    for tag in tags.values():
        state = state_of(tag)
        sections = {section["uuid"] for section in state["compareRunSections"]}
        cards = [card for card in state["compareRunCharts"] if not card["deleted"]]
        assert {card["metricSectionId"] for card in cards} == sections
        ids = [card["uuid"] for card in state["compareRunCharts"]]
        assert len(ids) == len(set(ids))


def test_the_link_holds_the_chart_mode_which_the_view_does_not() -> None:
    assert views.comparison_url("http://127.0.0.1:5000", "3") == (
        "http://127.0.0.1:5000/#/experiments/3/runs"
        "?viewStateShareKey=pareto-fronts&compareRunsMode=CHART&workflowType=machine_learning"
    )


def test_the_first_line_of_the_description_links_to_every_view() -> None:
    first = views.experiment_note("3", "| a |").splitlines()[0]
    for view in VIEWS:
        assert f"viewStateShareKey={view}&" in first


def test_what_a_person_wrote_in_the_description_stays() -> None:
    once = views.experiment_note("3", "| old |", before="My own words.")
    twice = views.experiment_note("3", "| new |", before=once)
    assert "My own words." in twice
    assert twice.count("My own words.") == 1
    assert "| old |" not in twice


def test_a_long_description_loses_its_last_lines_and_never_what_a_person_wrote() -> None:
    text = "\n".join(f"| sweep {index} | {'x' * 80} |" for index in range(200))
    note = views.experiment_note("3", text, before="My own words.")
    assert len(note) <= 5000
    assert "My own words." in note and "| sweep 0 |" in note and "| sweep 199 |" not in note
