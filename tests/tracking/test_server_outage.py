"""A real server that dies, hangs and comes back in the middle of a sweep; nothing is lost or doubled.

``SEGSWEEP_OUTAGE_S=60 pytest tests/tracking/test_server_outage.py`` makes the outage a minute long.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_process import MlflowProcess
from recorded_sweep import recorded_sweep
from stored_rows import Stored, assert_holds_once

from segsweep.records import DEFAULT_OBJECTIVES, TrialStatus
from segsweep.tracking import drain
from segsweep.tracking.durable import durable_run_logger, durable_tracker, sync_spool
from segsweep.tracking.server import free_port, server_command
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.tracker import SweepInfo

OUTAGE_S = float(os.environ.get("SEGSWEEP_OUTAGE_S", "2"))
INFO = SweepInfo(sweep_id="outage", name="outage", method="eseg", objectives=DEFAULT_OBJECTIVES)


@pytest.fixture(scope="module")
def database(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{shutil.copy(empty_database, tmp_path_factory.mktemp('served') / 'mlflow.db')}"


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowProcess]:
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    process = MlflowProcess(server_command(database, port=port), port=port, log=log)
    process.start()
    try:
        yield process
    finally:
        process.kill()


def test_a_server_that_dies_in_a_sweep_and_comes_back_has_every_metric_once(
    server: MlflowProcess, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LINGER_S", 0.05)
    monkeypatch.setattr(drain, "PAUSE_S", 0.5)
    evaluations = recorded_sweep(12, seed=3)
    tracker = durable_tracker(server.uri, experiment="outage", spool=tmp_path / SPOOL)
    tracker.start_sweep(INFO)
    slowest = 0.0
    for number, evaluation in enumerate(evaluations, start=1):
        if number == 5:
            server.kill()  # while the thread writes
            time.sleep(OUTAGE_S / 2)
        if number == 9:
            time.sleep(OUTAGE_S / 2)
            server.start()
        begin = time.perf_counter()
        tracker.trial_started(evaluation.trial_id, evaluation.number, evaluation.point, evaluation.source)
        assert evaluation.cost is not None
        tracker.trial_cost(evaluation.trial_id, evaluation.cost)
        for score in evaluation.scores:
            tracker.trial_score(evaluation.trial_id, score)
        tracker.trial_finished(evaluation)
        tracker.front_updated(evaluations[:number])
        slowest = max(slowest, time.perf_counter() - begin)
        time.sleep(0.1)  # the store gets a part of what is told so far
    tracker.sweep_finished(evaluations, {})
    link = tracker.close()
    assert (link.lost, link.waiting, link.problem) == (0, 0, "")
    assert slowest < 1.0  # the driver never waited for the server
    stored = Stored(database, "outage")
    assert_holds_once(stored, evaluations)
    (parent,) = stored.of_kind("sweep")
    assert parent.info.status == "FINISHED"
    assert [step for step, _ in stored.history(parent, "hypervolume")] == list(range(1, 13))


def test_a_server_that_hangs_holds_up_nobody_and_gets_all_of_it_later(
    server: MlflowProcess, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LINGER_S", 0.05)
    logger = durable_run_logger(server.uri, experiment="hang", spool=tmp_path / SPOOL)
    logger.start_run("r", params={}, tags={}, artifacts={})
    logger.log(1, {"val_miou": 0.1})
    server.freeze()
    try:
        for epoch in range(2, 6):
            logger.log(epoch, {"val_miou": epoch / 10})
        logger.finish(TrialStatus.COMPLETE)
        begin = time.monotonic()
        link = logger.close(timeout_s=1.0)
        assert time.monotonic() - begin < 2.0
        assert link.waiting > 0
        assert f"segsweep sync {tmp_path}" in link.problem
    finally:
        server.thaw()
    end = time.monotonic() + 60
    while (synced := sync_spool(tmp_path / SPOOL)).problem and time.monotonic() < end:
        time.sleep(0.2)  # the thread is still in its last call
    assert (synced.waiting, synced.problem) == (0, "")
    stored = Stored(database, "hang")
    (run,) = stored.runs
    assert stored.history(run, "val_miou") == [(epoch, epoch / 10) for epoch in range(1, 6)]
    assert stored.doubled() == []
    assert run.info.status == "FINISHED"
