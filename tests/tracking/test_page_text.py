"""The words of an experiment's page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from segsweep.records import CostReport, Evaluation, Objective, Point, Score, TrialStatus
from segsweep.tracking import page_text

OBJECTIVES = (
    Objective(metric="miou", direction="maximize"),
    Objective(metric="macs", direction="minimize"),
)


def trial(number: int, *, miou: float, gmacs: float, complete: bool = True) -> Evaluation:
    return Evaluation(
        trial_id=f"{number:04d}",
        number=number,
        point=Point({"neck.channels": 8 * number}),
        status=TrialStatus.COMPLETE if complete else TrialStatus.STOPPED,
        cost=CostReport(num_params=1, macs=round(gmacs * 1e9), size=(64, 64), num_classes=3, device="cpu-1"),
        scores=(Score(epoch=1, fidelity=1.0, miou=miou, train_loss=1.0, seconds=1.0),),
    )


# in decades of MACs t001 is nearest to the ideal corner: it lacks 0.05 of 0.30 mIoU and half a decade of two
EVALUATIONS = [
    trial(0, miou=0.40, gmacs=1.0),
    trial(1, miou=0.65, gmacs=3.0),
    trial(2, miou=0.70, gmacs=100.0),
    trial(3, miou=0.30, gmacs=50.0),
    trial(4, miou=0.99, gmacs=0.5, complete=False),
]


def test_best_and_knee_are_complete_trials_of_the_front() -> None:
    tags = page_text.sweep_tags(EVALUATIONS, OBJECTIVES)
    assert tags["segsweep.best"] == "t002: 70.00 mIoU (%), 100.000 GMACs per image"
    assert tags["segsweep.knee"] == "t001: 65.00 mIoU (%), 3.000 GMACs per image"
    assert tags["segsweep.trials"] == "5: 4 complete, 1 stopped"
    assert tags["segsweep.device"] == "cpu-1"


def test_the_front_as_a_table_is_best_first_without_dominated_trials() -> None:
    rows = page_text.front_table(EVALUATIONS, OBJECTIVES).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| t002", "| t001", "| t000"]
    assert "channels 16" in rows[0]


def test_without_a_complete_trial_there_is_no_best() -> None:
    stopped = [trial(0, miou=0.4, gmacs=1.0, complete=False)]
    assert "segsweep.best" not in page_text.sweep_tags(stopped, OBJECTIVES)
    assert "no front" in page_text.front_table(stopped, OBJECTIVES)


def run(params: dict[str, str], **tags: str) -> Any:
    return SimpleNamespace(data=SimpleNamespace(params=params, tags={"segsweep.device": "cpu-1", **tags}))


SAME = {"data": "camvid", "input_size": "240x320", "num_classes": "11", "epochs": "10"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ""),
        ({"input_size": "180x240"}, "not comparable: sweeps differ in input size (180x240, 240x320)"),
        ({"epochs": "16"}, "not comparable: sweeps differ in epochs (10, 16)"),
    ],
)
def test_sweeps_that_share_no_axis_are_named(change: dict[str, str], expected: str) -> None:
    assert page_text.differences([run(SAME), run({**SAME, **change})]) == expected


def test_speeds_of_two_devices_are_told_apart() -> None:
    other = run(SAME, **{"segsweep.device": "gpu-2"})
    assert "2 devices" in page_text.differences([run(SAME), other])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"segsweep.device": "cpu-1, gpu-2"}, "2 devices"),  # one sweep on a cluster of two kinds of machine
        ({"segsweep.speed_conditions": "cpu-1, threads 2, batch 1"}, ""),
        (
            {"segsweep.speed_conditions": "cpu-1, threads 4, batch 1"},
            "in 2 ways (threads 2, batch 1 / threads 4, batch 1)",
        ),
    ],
)
def test_speeds_count_together_only_if_measured_alike(tags: dict[str, str], expected: str) -> None:
    first = run(SAME, **{"segsweep.speed_conditions": "cpu-1, threads 2, batch 1"})
    warning = page_text.differences([first, run(SAME, **tags)])
    assert expected in warning and bool(expected) == bool(warning)


def test_a_sweep_that_was_killed_is_not_shown_as_running() -> None:
    interrupted = run(SAME, **{"segsweep.status": "interrupted"})
    interrupted.info = SimpleNamespace(run_name="s", run_id="r")
    interrupted.data.metrics = {}
    assert "| interrupted |" in page_text.sweep_table("1", [interrupted])
