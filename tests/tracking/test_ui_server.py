"""``segsweep ui`` before a browser opens: store, address, link and password."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_process import SEGSWEEP

from segsweep.errors import EnvironmentProblem
from segsweep.jobs import ui
from segsweep.jobs.recorded_store import newest_store
from segsweep.jobs.ui import plan_ui
from segsweep.records import DEFAULT_OBJECTIVES
from segsweep.tracking.basic_auth import PASSWORD_VARIABLE, prepare_basic_auth
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.server import free_port
from segsweep.tracking.tracker import SweepInfo

PASSWORD = "correct horse battery"


@pytest.fixture
def out(empty_database: Path, tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    return tmp_path


def _job(out: Path, name: str, uri: str | None, *, age_s: int) -> None:
    folder = out / "sweeps" / name
    folder.mkdir(parents=True)
    path = folder / "job.json"
    path.write_text(json.dumps({"job": {"name": name, "tracking": {"uri": uri}}}))
    os.utime(path, (10**9 - age_s, 10**9 - age_s))


def test_the_store_is_that_of_the_newest_job(tmp_path: Path) -> None:
    assert newest_store(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    _job(tmp_path, "new", "http://mlflow.example.org:5000", age_s=1)
    _job(tmp_path, "old", None, age_s=2)
    assert newest_store(tmp_path) == "http://mlflow.example.org:5000"


def test_a_damaged_job_is_passed_over(tmp_path: Path) -> None:
    _job(tmp_path, "old", "sqlite:////elsewhere/mlflow.db", age_s=2)
    _job(tmp_path, "new", None, age_s=1)
    (tmp_path / "sweeps" / "new" / "job.json").write_text("{")
    assert newest_store(tmp_path) == "sqlite:////elsewhere/mlflow.db"


def test_a_place_without_records_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"nothing was recorded there yet; run .segsweep demo"):
        plan_ui(out=tmp_path, port=free_port())


def test_the_link_is_the_view_of_the_newest_sweep(out: Path) -> None:
    uri = f"sqlite:///{out}/mlflow.db"
    for name in ("first", "second"):
        tracker = MlflowTracker(uri, experiment=name)
        tracker.start_sweep(SweepInfo(sweep_id=name, name=name, method="eseg", objectives=DEFAULT_OBJECTIVES))
        experiment = tracker.close().experiment_id
    port = free_port()
    assert plan_ui(out=out, port=port).link == (
        f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs"
        "?viewStateShareKey=pareto-fronts&compareRunsMode=CHART&workflowType=machine_learning"
    )


def test_without_a_port_the_next_free_one_is_taken_and_told(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(ui, "DEFAULT_PORT", port)
        monkeypatch.setattr(ui, "next_free_port", lambda host: _next(host, port))
        plan = plan_ui(out=out)
    assert plan.base != f"http://127.0.0.1:{port}"
    assert f"port        {port} is in use" in "\n".join(plan.notes)


def _next(host: str, first: int) -> int:
    from segsweep.tracking.server import next_free_port

    return next_free_port(host, first)


def test_a_short_password_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    with pytest.raises(EnvironmentProblem, match="at least 12"):
        prepare_basic_auth(tmp_path / "auth")


def test_a_generated_password_stays_and_only_its_owner_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    first = prepare_basic_auth(tmp_path / "auth")
    assert first.password_file is not None and len(first.password) >= 24
    assert prepare_basic_auth(tmp_path / "auth").password == first.password
    for path in (tmp_path / "auth").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert (tmp_path / "auth").stat().st_mode & 0o777 == 0o700
    assert first.password not in repr(first)


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A server that asks for a password."""

    base: str
    out: Path
    log: Path


@pytest.fixture(scope="module")
def guarded(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    out = tmp_path_factory.mktemp("guarded")
    (out / "mlflow.db").write_bytes(empty_database.read_bytes())
    port, log = free_port(), out / "log.txt"
    command = [SEGSWEEP, "ui", "--out", str(out), "--host", "0.0.0.0", "--port", str(port), "--auth"]
    environment = os.environ | {PASSWORD_VARIABLE: PASSWORD}
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=stream, text=True
        ) as server,
    ):
        try:
            assert server.stdout is not None
            link = server.stdout.readline().strip()
            assert link.startswith(f"http://127.0.0.1:{port}/"), log.read_text()
            yield Guarded(base=f"http://127.0.0.1:{port}", out=out, log=log)
        finally:
            server.terminate()
            server.wait(30)


def _code(url: str, *, password: str | None = None, data: bytes | None = None, **headers: str) -> int:
    if password is not None:
        headers["Authorization"] = f"Basic {b64encode(f'admin:{password}'.encode()).decode()}"
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nobody_gets_in_without_the_password(guarded: Guarded) -> None:
    search = f"{guarded.base}/api/2.0/mlflow/experiments/search?max_results=1"
    for url in (f"{guarded.base}/", search, f"{guarded.base}/get-artifact?path=x&run_uuid=y"):
        assert _code(url) == 401
        assert _code(url, password="wrong password") == 401
    assert _code(search, password=PASSWORD) == 200


def test_only_known_names_and_origins_are_served(guarded: Guarded) -> None:
    search, port = f"{guarded.base}/ajax-api/2.0/mlflow/runs/search", guarded.base.rsplit(":", 1)[1]
    body = json.dumps({"experiment_ids": ["0"], "max_results": 1}).encode()
    own = f"{socket.gethostname()}:{port}"
    # the pages of the server itself, opened under this machine's name, must be able to ask for runs
    assert _code(search, password=PASSWORD, data=body, Host=own, Origin=f"http://{own}") == 200
    assert _code(search, password=PASSWORD, data=body, Origin="http://evil.example.com") == 403
    assert _code(f"{guarded.base}/", password=PASSWORD, Host="evil.example.com") == 403


def test_the_password_is_nowhere_on_disk_or_screen(guarded: Guarded) -> None:
    for path in [guarded.log, *(guarded.out / "mlflow-auth").iterdir()]:
        assert PASSWORD.encode() not in path.read_bytes(), path
    assert "login       admin, your password" in guarded.log.read_text()


def test_another_password_than_that_of_the_first_start_is_told(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "another password")
    plan = plan_ui(out=guarded.out, port=free_port(), auth=True)
    with pytest.raises(EnvironmentProblem, match=r"another password since the first start.*users\.db"):
        ui._check_password(dataclasses.replace(plan, base=guarded.base))
