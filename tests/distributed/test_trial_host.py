"""Trials in forked children: warm starts, rungs, and crashes that stay in the child."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from segsweep.cost.measure import SpeedConditions
from segsweep.distributed.controller import stub_of
from segsweep.distributed.trial_host import TrialHost
from segsweep.records import Evaluation, Point, TrialStatus
from segsweep.search.load import load_space
from segsweep.training.recipe import Recipe
from segsweep.trial import TrialTask

SPACE = """
method: eseg
source: "a test"
axes:
  backbone.name: {choice: [efficientnet_tiny, efficientnet_mini]}
  neck.channels: {choice: [8, 16]}
  neck.repeats: {choice: [1]}
  neck.top_level: {int: [5, 6]}
  recipe.lr: {float: [0.001, 1.0e+30], log: true}
constraints:
  - {name: budget, require: "cost.num_params <= 250000", why: "the test wants an infeasible one"}
"""
POINT = {
    "backbone.name": "efficientnet_tiny",
    "neck.channels": 8,
    "neck.repeats": 1,
    "neck.top_level": 5,
    "recipe.lr": 0.05,
}


@pytest.fixture
def task(tmp_path: Path, tiny_shards: Path) -> TrialTask:
    (tmp_path / "space.yaml").write_text(SPACE)
    return TrialTask(
        space=load_space(tmp_path / "space.yaml"),
        recipe=Recipe(epochs=3, batch_size=4, ema_decay=None),
        shards=tiny_shards,
        scratch=tmp_path / "scratch",
        rung_epochs=frozenset({1}),
        speed=SpeedConditions(warmup=1, min_samples=2, min_seconds=0.0),
        threads=1,
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialHost]:
    host = TrialHost(tmp_path_factory.mktemp("host") / "host.log")
    yield host
    host.close()


def _begin(host: TrialHost, task: TrialTask, folder: Path, number: int = 0, **values: object) -> None:
    stub = stub_of(number, Point({**POINT, **values}), "test")  # type: ignore[dict-item]
    host.begin(stub, pickle.dumps(task), log=folder / f"{number}.log")


def _to_end(host: TrialHost) -> tuple[Evaluation, list[dict]]:  # type: ignore[type-arg]
    events: list[dict] = []  # type: ignore[type-arg]
    while not events or events[-1]["event"] != "evaluation":
        events += host.next_events()
    return Evaluation.from_json(events[-1]["evaluation"]), events


def test_a_trial_reports_its_cost_before_its_first_step_and_completes(host, task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    _begin(host, task, tmp_path)
    evaluation, events = _to_end(host)
    kinds = [event.get("name", event["event"]) for event in events]
    assert kinds.index("cost") < kinds.index("first_step")
    assert evaluation.status is TrialStatus.COMPLETE, evaluation.reason
    assert [score.epoch for score in evaluation.scores] == [1, 2, 3]
    assert evaluation.cost is not None and evaluation.cost.images_per_second is not None


def test_a_trial_stopped_at_a_rung_leaves_the_host_to_the_next(host, task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    _begin(host, task, tmp_path)
    assert host.next_events()[-1]["score"]["is_rung"]
    _begin(host, task, tmp_path, number=1, **{"neck.channels": 16})  # begin stops the one that waits
    evaluation, _ = _to_end(host)
    assert (evaluation.number, evaluation.status) == (1, TrialStatus.COMPLETE)


def test_a_design_over_a_constraint_is_infeasible_and_never_trained(host, task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    _begin(host, task, tmp_path, **{"backbone.name": "efficientnet_mini"})
    evaluation, events = _to_end(host)
    assert evaluation.status is TrialStatus.INFEASIBLE
    assert "cost.num_params <= 250000" in evaluation.reason
    assert "first_step" not in [event.get("name") for event in events]


def test_a_diverging_trial_fails_with_its_reason_and_keeps_its_cost(host, task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    _begin(host, task, tmp_path, **{"recipe.lr": 1e30})
    evaluation, _ = _to_end(host)
    assert evaluation.status is TrialStatus.FAILED
    assert evaluation.reason.startswith("TrainingDiverged: the training loss is nan")
    assert evaluation.cost is not None and evaluation.cost.macs > 0


def test_a_trial_that_is_killed_fails_alone(host, task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    _begin(host, task, tmp_path)
    host.next_events()  # it waits at its rung now
    (child,) = psutil.Process(host._process.pid).children()
    os.kill(child.pid, signal.SIGKILL)
    evaluation, _ = _to_end(host)
    assert evaluation.status is TrialStatus.FAILED
    assert "killed by signal 9" in evaluation.reason and "0.log" in evaluation.reason
    assert len(evaluation.scores) == 1
    _begin(host, task, tmp_path, number=1)
    evaluation, _ = _to_end(host)
    assert evaluation.status is TrialStatus.COMPLETE, evaluation.reason


def test_the_speed_of_a_design_is_measured_once_per_device(host, task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    costs = []
    for number in range(2):
        _begin(host, task, tmp_path, number=number)
        costs.append(_to_end(host)[0].cost)
    assert costs[0] == costs[1]


def test_closing_the_host_leaves_no_process_behind(task, tmp_path) -> None:  # type: ignore[no-untyped-def]
    host = TrialHost(tmp_path / "host.log")
    _begin(host, task, tmp_path)
    host.next_events()
    (child,) = psutil.Process(host._process.pid).children()
    host.close()
    gone, alive = psutil.wait_procs([child], timeout=10)
    assert gone and not alive
