"""What a run recorded on disk reaches MLflow exactly once, whatever happened to process or store."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_sweep import recorded_sweep
from stored_rows import Stored, assert_holds_once, tell

from segsweep.errors import DataError
from segsweep.records import DEFAULT_OBJECTIVES, TrialStatus
from segsweep.tracking import drain, pump
from segsweep.tracking.durable import durable_run_logger, durable_tracker, sync_spool
from segsweep.tracking.failures import EntriesRefused
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.server import free_port
from segsweep.tracking.spool import SPOOL, read_records
from segsweep.tracking.store import open_client
from segsweep.tracking.tracker import SweepInfo

EXPERIMENT = "eseg-camvid"
INFO = SweepInfo(
    sweep_id="eseg-1",
    name="eseg-1",
    method="eseg",
    objectives=DEFAULT_OBJECTIVES,
    params={"seed": 7},
    artifacts={"space.yaml": "method: eseg\n"},
)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "BACKOFF_S", 0.001)
    monkeypatch.setattr(drain, "PAUSE_S", 0.01)
    monkeypatch.setattr(drain, "LINGER_S", 0.01)
    monkeypatch.setattr("segsweep.tracking.durable.BACKOFF_S", 0.001)


def record_sweep(uri: str, spool: Path, *, trials: int = 6) -> None:
    evaluations = recorded_sweep(trials, seed=4)
    figure = spool.with_name("pareto.png")
    figure.write_bytes(b"\x89PNG")
    tracker = durable_tracker(uri, experiment=EXPERIMENT, spool=spool)
    tracker.start_sweep(INFO)
    tell(tracker, evaluations)
    tracker.sweep_finished(evaluations, {"pareto.png": figure})
    tracker.close()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "sweeps" / "eseg-1"
    folder.mkdir(parents=True)
    return folder


def test_a_crash_between_a_write_and_its_note_changes_nothing(
    store_uri: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "BATCH", 7)
    spool = run_folder / SPOOL
    record_sweep(store_uri, spool, trials=3)
    state = spool.with_name("mlflow-spool.state.json")
    before = Stored(store_uri, EXPERIMENT).contents()
    document = json.loads(state.read_text())
    ((key, saved),) = document["stores"].items()
    ends = [end for _, end in read_records(spool, 0, limit=10**6)]
    for end in [
        0,
        *ends[4:-1:10],
        ends[-2],
    ]:  # as if the process had died before it noted what it had written
        document["stores"][key] = {**saved, "offset": end}
        state.write_text(json.dumps(document))
        synced = sync_spool(spool)
        assert (synced.waiting, synced.problem) == (0, "")
        assert synced.written > 0
        assert Stored(store_uri, EXPERIMENT).contents() == before


def test_a_lost_or_damaged_note_changes_nothing(store_uri: str, run_folder: Path) -> None:
    spool = run_folder / SPOOL
    record_sweep(store_uri, spool, trials=2)
    before = Stored(store_uri, EXPERIMENT).contents()
    for damage in ("{}", "not json", json.dumps({"spool": "another", "stores": {}})):
        spool.with_name("mlflow-spool.state.json").write_text(damage)
        assert sync_spool(spool).problem == ""
        assert Stored(store_uri, EXPERIMENT).contents() == before


def test_nothing_is_told_twice_when_all_is_there(store_uri: str, run_folder: Path) -> None:
    record_sweep(store_uri, run_folder / SPOOL, trials=2)
    synced = sync_spool(run_folder / SPOOL)
    assert (synced.written, synced.waiting, synced.problem) == (0, 0, "")
    assert "pareto-fronts" in synced.link.url


KILLED_DRIVER = """
import os, signal, sys
from pathlib import Path
from recorded_sweep import recorded_sweep
from stored_rows import tell
from test_sync_spool import EXPERIMENT, INFO
from segsweep.tracking import drain
from segsweep.tracking.durable import durable_tracker
drain.LINGER_S = float(sys.argv[3])
evaluations = recorded_sweep(6, seed=4)
tracker = durable_tracker(sys.argv[1], experiment=EXPERIMENT, spool=Path(sys.argv[2]))
tracker.start_sweep(INFO)
tell(tracker, evaluations[:3])
running = evaluations[3]
tracker.trial_started(running.trial_id, running.number, running.point, running.source)
tracker.trial_score(running.trial_id, running.scores[0])
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_driver(uri: str, spool: Path) -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_DRIVER, uri, str(spool), "0"],
        env={"PYTHONPATH": here, "PATH": "/usr/bin:/bin"},
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def test_a_killed_driver_loses_nothing_and_is_marked_as_interrupted(store_uri: str, run_folder: Path) -> None:
    spool = run_folder / SPOOL
    kill_a_driver(store_uri, spool)
    evaluations = recorded_sweep(6, seed=4)
    assert sync_spool(spool).problem == ""
    stored = Stored(store_uri, EXPERIMENT)
    assert stored.doubled() == []
    for evaluation in evaluations[:3]:
        run = stored.trial(evaluation.trial_id)
        assert stored.history(run, "val_miou") == [(score.epoch, score.miou) for score in evaluation.scores]
    running = stored.trial(evaluations[3].trial_id)
    assert stored.history(running, "val_miou") == [(1, evaluations[3].scores[0].miou)]
    (parent,) = stored.of_kind("sweep")
    for run in (running, parent):
        assert (run.info.status, run.data.tags["segsweep.status"]) == ("KILLED", "interrupted")
    assert sync_spool(spool).written == 0
    assert Stored(store_uri, EXPERIMENT).contents() == stored.contents()


@pytest.mark.parametrize("synced_between", [True, False])
def test_a_resumed_sweep_goes_on_in_the_same_runs(
    store_uri: str, run_folder: Path, synced_between: bool
) -> None:
    spool = run_folder / SPOOL
    kill_a_driver(store_uri, spool)
    if synced_between:
        sync_spool(spool)
    evaluations = recorded_sweep(6, seed=4)
    tracker = durable_tracker(store_uri, experiment=EXPERIMENT, spool=spool)
    tracker.start_sweep(INFO)
    tell(tracker, evaluations[3:], before=evaluations[:3])
    tracker.sweep_finished(evaluations, {})
    assert tracker.close().problem == ""
    stored = Stored(store_uri, EXPERIMENT)
    assert_holds_once(stored, evaluations)
    (parent,) = stored.of_kind("sweep")
    assert parent.info.status == "FINISHED"
    assert [step for step, _ in stored.history(parent, "hypervolume")] == list(range(1, 7))
    assert len(stored.of_kind("front")) == 1


def test_trials_that_ended_before_the_spool_began_are_there_too(store_uri: str, run_folder: Path) -> None:
    evaluations = recorded_sweep(5, seed=4)
    tracker = durable_tracker(store_uri, experiment=EXPERIMENT, spool=run_folder / SPOOL)
    tracker.start_sweep(INFO)
    tell(tracker, evaluations[3:], before=evaluations[:3])  # the first three are only in the journal
    tracker.sweep_finished(evaluations, {})
    assert tracker.close().problem == ""
    stored = Stored(store_uri, EXPERIMENT)
    assert_holds_once(stored, evaluations)
    (parent,) = stored.of_kind("sweep")
    assert len(stored.history(parent, "hypervolume")) == 5


def test_a_run_of_a_store_that_is_away_is_written_later(store_uri: str, run_folder: Path) -> None:
    spool = run_folder / SPOOL
    weights = run_folder / "weights.txt"
    weights.write_text("w")
    away = f"http://127.0.0.1:{free_port()}"
    logger = durable_run_logger(away, experiment=EXPERIMENT, spool=spool)
    logger.start_run("r", params={"lr": 0.1}, tags={}, artifacts={"job.json": "{}"})
    for epoch in range(1, 4):
        logger.log(epoch, {"val_miou": epoch / 10, "extra": 2.0 * epoch, "loss": float("nan")})
    logger.attach({"weights/best": weights})
    logger.finish(TrialStatus.COMPLETE)
    link = logger.close()
    assert link.waiting == 7
    assert sync_spool(spool, attempts=1).waiting == 7  # still away

    for _ in range(2):  # the second time with every record told again
        synced = sync_spool(spool, tracking_uri=store_uri, again=True)
        assert (synced.waiting, synced.problem) == (0, "")
        stored = Stored(store_uri, EXPERIMENT)
        (run,) = stored.runs
        assert stored.doubled() == []
        assert stored.history(run, "extra") == [(1, 2.0), (2, 4.0), (3, 6.0)]
        assert [step for step, value in stored.history(run, "loss") if math.isnan(value)] == [1, 2, 3]
        assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1"})


def test_a_moved_folder_still_brings_its_files(store_uri: str, run_folder: Path) -> None:
    figure = run_folder / "pareto.png"
    figure.write_bytes(b"\x89PNG")
    away = f"http://127.0.0.1:{free_port()}"
    logger = durable_run_logger(away, experiment=EXPERIMENT, spool=run_folder / SPOOL)
    logger.start_run("r", params={}, tags={}, artifacts={})
    logger.attach({"pareto.png": figure, "gone.png": run_folder / "gone.png"})
    logger.close()
    moved = run_folder.rename(run_folder.with_name("moved"))
    synced = sync_spool(moved / SPOOL, tracking_uri=store_uri)
    assert "gone.png" in synced.problem  # what no longer exists is told, and holds up nothing
    assert synced.waiting == 0
    (run,) = Stored(store_uri, EXPERIMENT).runs
    assert [file.path for file in open_client(store_uri).list_artifacts(run.info.run_id)] == ["pareto.png"]


def test_entries_that_mlflow_refuses_cost_only_themselves(store_uri: str, run_folder: Path) -> None:
    logger = durable_run_logger(store_uri, experiment=EXPERIMENT, spool=run_folder / SPOOL)
    logger.start_run("r", params={}, tags={}, artifacts={})
    logger.log(1, {"good": 1.0, "bad|name": 2.0, "also good": 3.0})
    logger.log(2, {"good": 2.0})
    logger.finish(TrialStatus.COMPLETE)
    link = logger.close()
    assert (link.lost, link.waiting) == (1, 0)
    assert "MLflow refused 1 entries: metrics bad|name" in link.problem
    stored = Stored(store_uri, EXPERIMENT)
    (run,) = stored.runs
    assert stored.history(run, "good") == [(1, 1.0), (2, 2.0)]
    assert stored.history(run, "also good") == [(1, 3.0)]
    assert run.info.status == "FINISHED"


def test_a_run_that_someone_deleted_holds_up_nothing(store_uri: str, run_folder: Path) -> None:
    spool = run_folder / SPOOL
    logger = durable_run_logger(store_uri, experiment=EXPERIMENT, spool=spool)
    logger.start_run("r", params={}, tags={}, artifacts={})
    logger.log(1, {"good": 1.0})
    logger.close()
    client = open_client(store_uri)
    (run,) = Stored(store_uri, EXPERIMENT).runs
    writer = RunWriter.reopen(client, run, stepped=())
    client.delete_run(run.info.run_id)
    writer.metrics({"good": 2.0, "other": 2.0}, step=2, timestamp_ms=1)
    with pytest.raises(EntriesRefused, match="deleted") as refused:
        writer.flush()
    assert (refused.value.count, writer.pending) == (2, 0)


def test_a_spool_that_is_written_now_is_left_to_its_process(store_uri: str, run_folder: Path) -> None:
    spool = run_folder / SPOOL
    logger = durable_run_logger(store_uri, experiment=EXPERIMENT, spool=spool)
    logger.start_run("r", params={}, tags={}, artifacts={})
    synced = sync_spool(spool)
    assert "its own process" in synced.problem
    assert logger.close().problem == ""


def test_a_file_that_is_no_spool_is_refused_with_its_name(run_folder: Path) -> None:
    (run_folder / SPOOL).write_text('{"spool": "x", "version": 99, "kind": "run"}\n')
    with pytest.raises(DataError, match=SPOOL):
        sync_spool(run_folder / SPOOL)


def test_a_record_that_nobody_can_read_holds_up_nothing(store_uri: str, run_folder: Path) -> None:
    spool = run_folder / SPOOL
    evaluations = recorded_sweep(2, seed=4)
    away = f"http://127.0.0.1:{free_port()}"
    tracker = durable_tracker(away, experiment=EXPERIMENT, spool=spool)
    tracker.start_sweep(INFO)
    tell(tracker, evaluations)
    tracker.close()
    lines = spool.read_bytes().splitlines(keepends=True)
    poison = b'{"at":1,"do":"trial_finished","evaluation":{"trial_id":"x"}}\n'
    spool.write_bytes(b"".join([*lines[:3], poison, *lines[3:]]))
    for _ in range(2):  # the second time from a position after it
        synced = sync_spool(spool, tracking_uri=store_uri, attempts=1)
        assert (synced.waiting, synced.refused) == (0, 1)
        with spool.open("ab") as file:
            file.write(lines[2])  # the start of another life
    assert {run.data.tags["segsweep.trial_id"] for run in Stored(store_uri, EXPERIMENT).of_kind("trial")} == {
        evaluation.trial_id for evaluation in evaluations
    }
