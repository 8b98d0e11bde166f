"""The saved views as MLflow stores them, decoded the way its UI does."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest

from segsweep.records import DEFAULT_OBJECTIVES
from segsweep.tracking import views

VIEWS = ("pareto-fronts", "all-trials", "sweep-progress")


def state_of(tag: str) -> dict[str, Any]:
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


@pytest.fixture
def tags() -> dict[str, str]:
    return views.view_tags(DEFAULT_OBJECTIVES, ["neck.channels", "neck.repeats"], created_ms=1)


def test_the_three_views_have_fixed_ids(tags: dict[str, str]) -> None:
    assert set(tags) == {f"mlflow.sharedViewState.{view}" for view in VIEWS}


def test_views_stay_below_the_tag_limit_of_older_servers_whatever_the_number_of_axes() -> None:
    axes = [f"stage.{index}.some.long.name.of.an.axis.{index * 7919 % 997}" for index in range(400)]
    for tag in views.view_tags(DEFAULT_OBJECTIVES, axes, created_ms=1).values():
        assert len(tag) <= 5000


def test_fronts_are_lines_over_a_metric(tags: dict[str, str]) -> None:
    cards = state_of(tags["mlflow.sharedViewState.pareto-fronts"])["compareRunCharts"]
    lines = {(card["metricKey"], card["selectedXAxisMetricKey"]) for card in cards if card["type"] == "LINE"}
    assert lines == {
        ("front/miou_pct_vs_gmacs", "front/gmacs"),
        ("front/miou_pct_vs_images_per_second", "front/images_per_second"),
    }
    assert {card["xAxisKey"] for card in cards if card["type"] == "LINE"} == {"metric"}


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
