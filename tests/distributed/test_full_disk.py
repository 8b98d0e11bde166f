"""A disk that fills up in a sweep: a clear end, whole records, and a resume that completes them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from segsweep.distributed.controller import Budget, SweepController, SweepListener
from segsweep.jobs.run_sweep import TrackerListener
from segsweep.records import DEFAULT_OBJECTIVES, CostReport, Evaluation, Score, TrialStatus
from segsweep.search.journal import Journal
from segsweep.search.load import load_space
from segsweep.search.promotion import RungRule
from segsweep.search.study import Study
from segsweep.tracking.background import BackgroundTracker
from segsweep.tracking.durable import durable_tracker
from segsweep.tracking.server import free_port
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.store import open_client
from segsweep.tracking.tracker import SweepInfo

SPACE = """
method: eseg
source: "a test"
axes:
  neck.channels: {choice: [16, 32, 48, 64, 80, 96]}
  neck.top_level: {int: [5, 9]}
"""
TRIALS, EPOCHS = 12, 4


def new_controller(folder: Path, listener: SweepListener) -> SweepController:
    (folder / "space.yaml").write_text(SPACE)
    study = Study(load_space(folder / "space.yaml"), seed=3)
    rule = RungRule(rungs=[], eta=3.0)
    journal = Journal(folder / "journal.jsonl")
    return SweepController(study, rule, journal, budget=Budget(trials=TRIALS), listeners=[listener])


def play(controller: SweepController) -> None:
    """Trials from closed forms, one after the other."""
    while (stub := controller.next_trial()) is not None:
        channels = int(stub.point["neck.channels"])
        cost = CostReport(
            num_params=channels,
            macs=channels**2,
            size=(64, 64),
            num_classes=3,
            images_per_second=1e4 / channels,
        )
        scores = tuple(
            Score(epoch=e, fidelity=e / EPOCHS, miou=e * channels / 1000, train_loss=1 / e, seconds=float(e))
            for e in range(1, EPOCHS + 1)
        )
        controller.observe(stub.number, [{"event": "cost", "cost": cost.to_json()}])
        for score in scores:
            controller.observe(stub.number, [{"event": "score", "score": score.to_json()}])
        controller.finish(
            Evaluation(
                trial_id=stub.trial_id,
                number=stub.number,
                point=stub.point,
                status=TrialStatus.COMPLETE,
                cost=cost,
                scores=scores,
            )
        )


def listener_of(uri: str, folder: Path) -> tuple[BackgroundTracker, TrackerListener]:
    tracker = durable_tracker(uri, experiment="full", spool=folder / SPOOL)
    info = SweepInfo(sweep_id="full", name="full", method="eseg", objectives=DEFAULT_OBJECTIVES)
    return tracker, TrackerListener(tracker, info)


FULL = """
import resource, sys
from pathlib import Path
from segsweep.errors import DataError
from test_full_disk import listener_of, new_controller, play
folder = Path(sys.argv[1])
tracker, listener = listener_of(sys.argv[2], folder)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
controller = new_controller(folder, listener)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))  # no file may grow beyond it: the disk is full
try:
    play(controller)
except DataError as error:
    print(error)
print(tracker.close().problem)
"""


def test_a_full_disk_ends_the_sweep_clearly_and_a_resume_completes_every_record(
    tmp_path: Path,
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), away],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "journal.jsonl: cannot write the journal" in ended.stdout
    assert "free space" in ended.stdout
    assert f"{tmp_path / SPOOL} cannot be written" in ended.stdout
    for name in ("journal.jsonl", SPOOL):
        *lines, torn = (tmp_path / name).read_bytes().split(b"\n")
        assert all(isinstance(json.loads(line), dict) for line in lines)
        if name == SPOOL:
            assert torn == b""
    before = Journal(tmp_path / "journal.jsonl").read()
    assert 0 < sum(event["type"] == "finish" for event in before) < TRIALS

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker, listener = listener_of(uri, tmp_path)
    controller = new_controller(tmp_path, listener)
    controller.restore(before)
    play(controller)
    tracker.sweep_finished(controller.evaluations, {})
    assert tracker.close().problem == ""

    client = open_client(uri)
    experiment = client.get_experiment_by_name("full").experiment_id
    trials = client.search_runs([experiment], "tags.`segsweep.run_kind` = 'trial'")
    assert Counter(run.data.tags["segsweep.trial_id"] for run in trials) == Counter(
        evaluation.trial_id for evaluation in controller.evaluations
    )
    for run in trials:
        steps = [row.step for row in client.get_metric_history(run.info.run_id, "val_miou")]
        assert sorted(steps) == list(range(1, EPOCHS + 1))
