"""``segsweep sync``: which runs it finds, what it prints, and when it ends with an error."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segsweep.cli import app
from segsweep.errors import InvalidInput
from segsweep.jobs.sync import spools_of, sync_runs
from segsweep.records import TrialStatus
from segsweep.tracking import drain, durable
from segsweep.tracking.durable import durable_run_logger
from segsweep.tracking.server import free_port
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.store import open_client


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (drain, durable):
        monkeypatch.setattr(module, "BACKOFF_S", 0.001)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ``out`` folder with two trainings and an evaluation; their server was never there."""
    out = tmp_path_factory.mktemp("recorded") / "runs"
    away = f"http://127.0.0.1:{free_port()}"
    for spool in (
        out / "trainings" / "first" / SPOOL,
        out / "trainings" / "second" / SPOOL,
        out / "trainings" / "second" / "evaluations" / f"original-val.{SPOOL}",
    ):
        logger = durable_run_logger(away, experiment="x", spool=spool)
        logger.start_run(spool.parent.name, params={}, tags={}, artifacts={})
        logger.log(1, {"val_miou": 0.5})
        logger.finish(TrialStatus.COMPLETE)
        logger.close(timeout_s=0.0)
    return out


@pytest.fixture
def out(recorded: Path, tmp_path: Path) -> Path:
    return shutil.copytree(recorded, tmp_path / "runs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that the tests share; each uses an experiment of the same runs, told again."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


def test_runs_are_found_by_id_by_folder_and_all_of_them(out: Path) -> None:
    first, second = (out / "trainings" / name for name in ("first", "second"))
    evaluation = second / "evaluations" / f"original-val.{SPOOL}"
    assert spools_of(["first"], out=out) == [first / SPOOL]
    assert spools_of([second], out=out) == [second / SPOOL, evaluation]
    assert spools_of([], out=out) == [first / SPOOL, second / SPOOL, evaluation]
    assert spools_of([], out=out / "nothing") == []


def test_all_runs_that_are_not_there_are_told_at_once_with_those_that_are(out: Path) -> None:
    (out / "sweeps" / "old").mkdir(parents=True)
    with pytest.raises(InvalidInput) as caught:
        spools_of(["third", "old", "first"], out=out)
    third, old = (str(problem) for problem in caught.value.problems)
    assert third.startswith("third: no such run")
    assert "old, first, second" in third
    assert old.endswith(f"holds no {SPOOL}: nothing to write")


def test_what_waits_is_told_and_ends_with_an_error(out: Path) -> None:
    result = CliRunner().invoke(app, ["sync", "first", "--out", str(out)])
    assert result.exit_code == 1
    assert "first: 0 of 4 records written, 4 wait" in result.stdout
    assert f"run `segsweep sync {out / 'trainings' / 'first'}`" in result.stdout
    assert result.stdout.endswith("does not answer (Connection refused)\n")


def test_one_json_document_says_what_was_written_where(out: Path, store: str) -> None:
    for written in (4, 0):
        result = CliRunner().invoke(app, ["sync", "--out", str(out), "--uri", store, "--json"])
        assert result.exit_code == 0, result.output
        runs = json.loads(result.stdout)["runs"]
        assert [run["run"] for run in runs] == ["first", "second", "second original-val"]
        assert {(run["records"], run["written"], run["waiting"]) for run in runs} == {(4, written, 0)}
    client = open_client(store)
    recorded = client.search_runs([runs[0]["mlflow"]["experiment_id"]])
    assert {run.info.run_id for run in recorded} == {run["mlflow"]["parent_run_id"] for run in runs}
    assert {run.info.status for run in recorded} == {"FINISHED"}


def test_a_damaged_record_of_one_run_does_not_hold_up_the_others(out: Path, store: str) -> None:
    (out / "trainings" / "first" / SPOOL).write_text("no spool\n")
    first, second, _ = sync_runs(out=out, tracking_uri=store)
    assert SPOOL in first.synced.problem
    assert (second.synced.waiting, second.synced.problem) == (0, "")


def test_what_mlflow_refuses_for_good_ends_with_an_error(tmp_path: Path, store: str) -> None:
    spool = tmp_path / "trainings" / "third" / SPOOL
    logger = durable_run_logger(store, experiment="y", spool=spool)
    logger.start_run("third", params={}, tags={}, artifacts={})
    logger.log(1, {"bad|name": 1.0})
    logger.close()
    result = CliRunner().invoke(app, ["sync", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "MLflow refused 1 entries" in result.stdout


def test_a_password_in_the_address_is_taken_and_never_shown(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    uri = f"http://me:s3cret@127.0.0.1:{free_port()}"
    result = CliRunner().invoke(app, ["sync", "first", "--out", str(out), "--uri", uri, "--json"])
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "s3cret"
    assert "s3cret" not in result.output
    assert not any("s3cret" in file.read_text() for file in out.rglob("*") if file.is_file())
