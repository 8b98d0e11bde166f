"""Passwords in job files: where they go, where they must never be seen."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_files import write_tiny_sweep, write_tiny_training

from segsweep.cli import main
from segsweep.errors import EnvironmentProblem, InvalidInput, InvalidJob
from segsweep.jobs.credentials import PASSWORD, USERNAME, take_credentials
from segsweep.jobs.environment import environment
from segsweep.jobs.load import load_job
from segsweep.redaction import has_password, without_passwords
from segsweep.tracking.run_logger import MlflowRunLogger
from segsweep.tracking.store import resolve_uri

SECRET = "swordfish-71c2"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (USERNAME, PASSWORD):
        monkeypatch.setenv(name, "")  # so that the test's own are taken back at its end


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://me:pw@host:5000/x", "http://me:***@host:5000/x"),
        ("postgresql+psycopg://me:p@ss:w0rd@db/mlflow", "postgresql+psycopg://me:***@db/mlflow"),
        (
            "see 'https://a:b@c' and s3://key:secret@bucket/p",
            "see 'https://a:***@c' and s3://key:***@bucket/p",
        ),
        ("http://:pw@host", "http://:***@host"),
        ("s3://bucket/p?secret_key=abc&region=eu", "s3://bucket/p?secret_key=***&region=eu"),
        ("http://h/?token=abc", "http://h/?token=***"),
    ],
)
def test_passwords_in_addresses_are_hidden(text: str, hidden: str) -> None:
    assert has_password(text)
    assert without_passwords(text) == hidden
    assert without_passwords(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/a",
        "sqlite:////data/mlflow.db",
        "s3://bucket/a@b:c",
        "me@host: see http://x/y",
        "a: b@c",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert not has_password(text)
    assert without_passwords(text) == text


@given(
    password=st.text(st.characters(exclude_characters="/'\" ", exclude_categories=["C", "Z"]), min_size=8),
    before=st.text(max_size=20),
)
def test_no_password_survives_whatever_characters_it_has(password: str, before: str) -> None:
    shown = without_passwords(f"{before} http://me:{password}@host:5000/path")
    assert shown.endswith(" http://me:***@host:5000/path")


def test_mlflows_credentials_move_to_mlflows_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take_credentials("https://me:p%40ss@host:5000/ml") == "https://host:5000/ml"
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("me", "p@ss")
    for other in ("http://host:5000", "sqlite:////a/b.db", ""):
        assert take_credentials(other) == other


def test_a_loaded_job_holds_no_password_wherever_it_was_written(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path)
    for overrides, text in (
        ([f"tracking.uri=http://me:{SECRET}@host:5000"], ""),
        ([], f"tracking: {{uri: 'http://me:{SECRET}@host:5000'}}\n"),
    ):
        path.write_text(path.read_text() + text)
        job = load_job(path, overrides=overrides)
        assert job.tracking.uri == "http://host:5000"  # type: ignore[union-attr]
        assert SECRET not in job.model_dump_json()
        assert os.environ[PASSWORD] == SECRET


@pytest.mark.parametrize("key", ["data.root", "out", "tracking.uri"])
def test_any_other_address_with_a_password_is_refused_without_repeating_it(key: str, tmp_path: Path) -> None:
    path = write_tiny_training(tmp_path)
    with pytest.raises(InvalidJob) as refused:
        load_job(path, overrides=[f"{key}=s3://key:{SECRET}@bucket/data"])
    assert f"--set {key}=s3://key:***@bucket/data: found a password in an address" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_refused_store_is_named_without_its_password() -> None:
    with pytest.raises(EnvironmentProblem, match=r"postgresql://me:\*\*\*@db/x") as refused:
        resolve_uri(f"postgresql://me:{SECRET}@db/x")
    assert SECRET not in str(refused.value)


def test_the_command_line_prints_no_password_even_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tiny_training(tmp_path)
    arguments = ["segsweep", "train", str(path), "--set", f"nonsense=http://me:{SECRET}@host"]
    monkeypatch.setattr(sys, "argv", arguments)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="2"):
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    shown = capsys.readouterr()
    assert "nonsense" in shown.err
    assert SECRET not in shown.err + shown.out


def test_what_mlflow_records_of_a_job_has_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSWEEP_TEST_SECRET", SECRET)
    path = write_tiny_training(tmp_path)
    path.write_text(f"{path.read_text()}tracking: {{uri: 'http://me:{SECRET}@host:5000'}}\n")
    job = load_job(path)
    path.unlink()
    logger = MlflowRunLogger(f"sqlite:///{tmp_path}/mlflow.db", experiment="tiny")
    artifacts = {"job.json": job.model_dump_json(), "environment.json": json.dumps(environment())}
    logger.start_run("tiny", params={"uri": job.tracking.uri}, tags={}, artifacts=artifacts)  # type: ignore[union-attr, dict-item]
    logger.close()
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        recorded = store.execute("select value from params where key = 'uri'").fetchall()
    assert recorded == [("http://host:5000",)]
    files = [item for item in tmp_path.rglob("*") if item.is_file()]
    assert {"job.json", "environment.json"} <= {item.name for item in files}
    assert [item for item in files if SECRET.encode() in item.read_bytes()] == []


def test_a_password_in_any_value_of_a_job_is_told_with_its_place(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("name: tiny", "name: tiny\nfixed: {weights: 'http://a:b@host/w.pt'}"))
    with pytest.raises(InvalidInput, match=r"tiny_sweep\.yaml:3 fixed\.weights: found a password"):
        load_job(path)
