"""The controller on recorded curves: no Ray, no training, the decisions of a sweep in milliseconds."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from segsweep.distributed.controller import Budget, SweepController
from segsweep.errors import DataError
from segsweep.records import CostReport, Evaluation, Score, TrialStatus
from segsweep.search.journal import Journal
from segsweep.search.load import load_space
from segsweep.search.promotion import RungRule
from segsweep.search.study import Study

SPACE = """
method: eseg
source: "a test"
axes:
  neck.channels: {choice: [16, 32, 48, 64, 80, 96]}
  neck.top_level: {int: [5, 9]}
  recipe.lr: {float: [0.001, 0.1], log: true}
"""
EPOCHS, RUNGS = 9, (1, 3)


def _controller(
    folder: Path, *, seed: int = 3, trials: int = 14, journal: str = "journal.jsonl"
) -> SweepController:
    (folder / "space.yaml").write_text(SPACE)
    study = Study(load_space(folder / "space.yaml"), seed=seed)
    rule = RungRule(rungs=[epoch / EPOCHS for epoch in RUNGS], eta=3.0)
    return SweepController(
        study, rule, Journal(folder / journal), budget=Budget(trials=trials), clock=lambda: 0.0
    )


class RecordedWorker:
    """Plays a trial from closed forms, epoch by epoch."""

    def __init__(self, stub: Evaluation) -> None:
        self.stub = stub
        channels, top = int(stub.point["neck.channels"]), int(stub.point["neck.top_level"])
        self.cost = CostReport(
            num_params=channels * 1000,
            macs=channels * channels * top,
            size=(64, 128),
            num_classes=8,
            images_per_second=1e4 / channels,
        )
        self.best = (
            0.3 + 0.04 * top + 0.002 * channels - 0.05 * abs(math.log10(float(stub.point["recipe.lr"])) + 2)
        )

    def epochs(self):  # type: ignore[no-untyped-def]
        yield [{"event": "cost", "cost": self.cost.to_json()}]
        for epoch in range(1, EPOCHS + 1):
            score = Score(
                epoch=epoch,
                fidelity=epoch / EPOCHS,
                miou=self.best * (1 - math.exp(-epoch / 3)),
                train_loss=1 / epoch,
                seconds=float(epoch),
                is_rung=epoch in RUNGS,
            )
            yield [{"event": "score", "score": score.to_json()}]


def _play(controller: SweepController, *, stop_after_events: int | None = None) -> None:
    """Run one trial at a time until the sweep ends, or is cut off after some events."""
    events = 0
    while (stub := controller.next_trial()) is not None:
        worker = RecordedWorker(stub)
        go = True
        for batch in worker.epochs():
            events += 1
            if events == stop_after_events:
                return
            go = controller.observe(stub.number, batch)
            if not go:
                break
        if go:
            scores = [Score(**b[0]["score"]) for b in worker.epochs() if b[0]["event"] == "score"]
            controller.finish(
                dataclasses.replace(
                    stub, status=TrialStatus.COMPLETE, reason="", cost=worker.cost, scores=tuple(scores)
                )
            )
        else:
            controller.stop(stub.number)


def test_a_sweep_trains_its_budget_and_stops_the_worse_trials_early(tmp_path: Path) -> None:
    controller = _controller(tmp_path)
    _play(controller)
    assert controller.finished
    statuses = [item.status for item in controller.evaluations]
    assert len(statuses) == 14
    assert statuses.count(TrialStatus.STOPPED) >= 5
    assert statuses.count(TrialStatus.COMPLETE) >= 1
    for item in controller.evaluations:
        assert (item.fidelity == 1.0) == (item.status is TrialStatus.COMPLETE)
        assert (item.miou is None) == (item.status is TrialStatus.STOPPED)


@pytest.mark.parametrize("cut", [1, 2, 7, 20, 33])
def test_a_sweep_cut_anywhere_and_resumed_equals_an_uninterrupted_one(tmp_path: Path, cut: int) -> None:
    whole = _controller(tmp_path, journal="whole.jsonl")
    _play(whole)
    _play(_controller(tmp_path), stop_after_events=cut)
    resumed = _controller(tmp_path)
    resumed.restore(Journal(tmp_path / "journal.jsonl").read())
    _play(resumed)
    assert [item.to_json() for item in resumed.evaluations] == [item.to_json() for item in whole.evaluations]


def test_a_journal_torn_in_its_last_line_loses_no_finished_trial(tmp_path: Path) -> None:
    _play(_controller(tmp_path), stop_after_events=25)
    path = tmp_path / "journal.jsonl"
    finished = [json.loads(line) for line in path.read_text().splitlines() if '"finish"' in line]
    path.write_bytes(path.read_bytes()[:-7])
    resumed = _controller(tmp_path)
    resumed.restore(Journal(path).read())
    assert [item.trial_id for item in resumed.evaluations] == [
        item["evaluation"]["trial_id"] for item in finished
    ]


def test_a_resume_with_another_seed_is_refused(tmp_path: Path) -> None:
    _play(_controller(tmp_path), stop_after_events=15)
    with pytest.raises(DataError, match="cannot resume: trial 0 was"):
        _controller(tmp_path, seed=4).restore(Journal(tmp_path / "journal.jsonl").read())


def test_a_trial_whose_worker_died_is_failed_and_the_sweep_goes_on(tmp_path: Path) -> None:
    controller = _controller(tmp_path, trials=3)
    stub = controller.next_trial()
    assert stub is not None
    controller.fail(stub.number, "its worker died")
    _play(controller)
    assert controller.evaluations[0].status is TrialStatus.FAILED
    assert len(controller.evaluations) == 3


def test_a_restarted_trial_reports_its_first_rung_only_once(tmp_path: Path) -> None:
    controller = _controller(tmp_path)
    stub = controller.next_trial()
    assert stub is not None
    events = list(RecordedWorker(stub).epochs())
    for batch in [*events[:3], *events[:3]]:  # Tune runs a trial again after its worker died
        assert controller.observe(stub.number, batch)
    journal = Journal(tmp_path / "journal.jsonl").read()
    assert [event["score"]["epoch"] for event in journal if event["type"] == "score"] == [1, 2]


def test_infeasible_trials_do_not_count_as_trained(tmp_path: Path) -> None:
    controller = _controller(tmp_path, trials=2)
    stub = controller.next_trial()
    assert stub is not None
    controller.finish(dataclasses.replace(stub, status=TrialStatus.INFEASIBLE, reason="over budget"))
    _play(controller)
    assert [item.status is TrialStatus.INFEASIBLE for item in controller.evaluations] == [True, False, False]
