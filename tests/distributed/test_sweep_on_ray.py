"""A whole sweep on real Ray Tune actors, small enough for a test."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from segsweep.cost.measure import SpeedConditions
from segsweep.distributed.controller import Budget
from segsweep.distributed.sweep import JOURNAL, SweepOutcome, SweepPlan, run_sweep
from segsweep.errors import EnvironmentProblem
from segsweep.pareto.front import front_of
from segsweep.records import DEFAULT_OBJECTIVES, CostReport, Evaluation, Score, TrialStatus
from segsweep.search.load import load_space
from segsweep.training.recipe import Recipe
from segsweep.trial import TrialTask

SPACE = """
method: eseg
source: "a test"
axes:
  backbone.name: {choice: [efficientnet_tiny, efficientnet_mini]}
  neck.channels: {choice: [8, 16, 24]}
  neck.repeats: {choice: [1]}
  neck.top_level: {int: [5, 6]}
  recipe.lr: {choice: [0.02, 0.08, 1.0e+30]}
constraints:
  - {name: budget, require: "cost.num_params <= 260000", why: "the test wants infeasible trials"}
"""

pytestmark = pytest.mark.usefixtures("ray_two_cpus")


class Watcher:
    """Listener that keeps the order of events."""

    def __init__(self, *, interrupt_after: int | None = None) -> None:
        self.events: list[tuple[str, int]] = []
        self.running = self.most_running = 0
        self._interrupt_after = interrupt_after

    def trial_started(self, stub: Evaluation) -> None:
        self.events.append(("started", stub.number))
        self.running += 1
        self.most_running = max(self.most_running, self.running)

    def trial_cost(self, stub: Evaluation, cost: CostReport) -> None:
        self.events.append(("cost", stub.number))

    def trial_score(self, stub: Evaluation, score: Score) -> None:
        self.events.append(("score", stub.number))
        if self._interrupt_after == sum(kind == "score" for kind, _ in self.events):
            signal.raise_signal(signal.SIGINT)  # Ctrl-C

    def trial_finished(self, evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> None:
        self.events.append(("finished", evaluation.number))
        self.running -= 1


def _plan(folder: Path, shards: Path, *, workers: int = 1, trials: int = 6) -> SweepPlan:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.yaml").write_text(SPACE)
    task = TrialTask(
        space=load_space(folder / "space.yaml"),
        recipe=Recipe(epochs=3, batch_size=4, ema_decay=None),
        shards=shards,
        scratch=folder.parent / "machine",
        rung_epochs=frozenset({1}),
        speed=SpeedConditions(warmup=1, min_samples=2, min_seconds=0.0),
        threads=1,
    )
    return SweepPlan(
        folder=folder, task=task, budget=Budget(trials=trials), rungs=(1 / 3,), workers=workers, seed=1
    )


def _comparable(outcome: SweepOutcome) -> list[dict]:  # type: ignore[type-arg]
    documents = [item.to_json() for item in outcome.evaluations]
    for document in documents:
        document.pop("seconds")
        for score in document["scores"]:
            score.pop("seconds")
    return documents


def test_a_sweep_ends_every_trial_in_its_own_way(tiny_shards: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    outcome = run_sweep(_plan(tmp_path / "sweep", tiny_shards, trials=9), listeners=[watcher])
    by_status = {
        status: [item for item in outcome.evaluations if item.status is status] for status in TrialStatus
    }
    assert not outcome.interrupted
    assert sum(len(by_status[status]) for status in TrialStatus if status is not TrialStatus.INFEASIBLE) == 9
    assert all(len(items) >= 1 for items in by_status.values()), {k: len(v) for k, v in by_status.items()}
    assert all("260000" in item.reason and not item.scores for item in by_status[TrialStatus.INFEASIBLE])
    assert all("TrainingDiverged" in item.reason for item in by_status[TrialStatus.FAILED])
    assert all(item.fidelity == pytest.approx(1 / 3) for item in by_status[TrialStatus.STOPPED])
    assert all(item.cost is not None for item in outcome.evaluations)
    front = front_of(outcome.evaluations, DEFAULT_OBJECTIVES)
    assert front and all(item.status is TrialStatus.COMPLETE for item in front)
    assert watcher.most_running == 1
    points = [item.point for item in outcome.evaluations]
    assert len(set(points)) == len(points)


def test_ctrl_c_and_resume_give_the_sweep_that_an_uninterrupted_one_gives(
    tiny_shards: Path, tmp_path: Path
) -> None:
    whole = run_sweep(_plan(tmp_path / "whole", tiny_shards))
    cut = _plan(tmp_path / "cut", tiny_shards)
    first = run_sweep(cut, listeners=[Watcher(interrupt_after=4)])
    assert first.interrupted
    finished = [
        line
        for line in (cut.folder / JOURNAL).read_text().splitlines()
        if json.loads(line)["type"] == "finish"
    ]
    resumed = run_sweep(cut, resume=True)
    assert 0 < len(finished) < len(resumed.evaluations)
    assert _comparable(resumed) == _comparable(whole)


def test_two_trials_run_at_the_same_time(tiny_shards: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    outcome = run_sweep(_plan(tmp_path / "sweep", tiny_shards, workers=2, trials=4), listeners=[watcher])
    assert watcher.most_running == 2
    assert {number for kind, number in watcher.events if kind == "started"} == {
        item.number for item in outcome.evaluations
    }


def test_a_sweep_that_exists_is_not_overwritten(tiny_shards: Path, tmp_path: Path) -> None:
    plan = _plan(tmp_path / "sweep", tiny_shards)
    (plan.folder / JOURNAL).write_text('{"type": "ask", "number": 0, "point": {}, "source": "x"}\n')
    with pytest.raises(EnvironmentProblem, match="add --resume"):
        run_sweep(plan)


def test_an_error_in_the_driver_ends_the_sweep_with_that_error(tiny_shards: Path, tmp_path: Path) -> None:
    class Broken(Watcher):
        def trial_score(self, stub: Evaluation, score: Score) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run_sweep(_plan(tmp_path / "sweep", tiny_shards), listeners=[Broken()])


def test_resources_that_no_node_has_are_refused(tiny_shards: Path, tmp_path: Path) -> None:
    plan = dataclasses.replace(_plan(tmp_path / "sweep", tiny_shards), gpus_per_trial=1.0)
    with pytest.raises(EnvironmentProblem, match=r"1 x \(1 CPUs and 1 GPUs\) do not fit"):
        run_sweep(plan)
