"""An MLflow server that keeps its records in a real PostgreSQL; skipped where that is not installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow_process import MlflowProcess
from recorded_sweep import recorded_sweep
from stored_rows import Stored, assert_holds_once, tell

from segsweep.records import DEFAULT_OBJECTIVES
from segsweep.tracking import drain
from segsweep.tracking.durable import durable_tracker, sync_spool
from segsweep.tracking.server import free_port
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.tracker import SweepInfo

INFO = SweepInfo(sweep_id="pg", name="pg", method="eseg", objectives=DEFAULT_OBJECTIVES)
USER = "postgres"  # PostgreSQL refuses to run as root


def _programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``; Debian keeps them out of the search path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(versions[-1]) if versions else None)
    return Path(found).resolve().parent if found else None


def _missing() -> str:
    if _programs() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'segsweep[postgres]')"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "runuser is needed to start PostgreSQL from root"
    return ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "all is there")


@dataclass(frozen=True)
class Postgres:
    """A database cluster of its own; listens on 127.0.0.1 with a password."""

    folder: Path
    port: int
    password: str = "not-a-secret"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as a user that it accepts."""
        programs = _programs()
        assert programs is not None
        command = [str(programs / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        subprocess.run(
            command,
            check=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            env=os.environ | {"PGPASSWORD": self.password},
        )

    def start(self) -> None:
        """Make the cluster and start it with an empty database ``mlflow``."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.getuid() == 0:
            shutil.chown(self.folder, USER)
            shutil.chown(secret, USER)
        data = str(self.folder / "data")
        self.run(
            "initdb",
            "-D",
            data,
            "-A",
            "scram-sha-256",
            "-U",
            "mlflow",
            f"--pwfile={secret}",
            "-N",
            "-E",
            "UTF8",
        )
        options = f"-c listen_addresses=127.0.0.1 -c fsync=off -p {self.port} -k {self.folder}"
        self.run("pg_ctl", "-D", data, "-o", options, "-l", str(self.folder / "log"), "-w", "start")
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    def stop(self) -> None:
        """Stop it at once."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    @property
    def uri(self) -> str:
        """Address for MLflow; ``+psycopg`` names the driver."""
        return f"postgresql+psycopg://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="segsweep-pg-"))  # pytest's own folder is closed to other users
    cluster = Postgres(folder, free_port())
    try:
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowProcess]:
    port = free_port()
    artifacts = tmp_path_factory.mktemp("artifacts")
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", postgres.uri, "--artifacts-destination", artifacts.as_uri()]
    command = [sys.executable, "-P", "-m", "mlflow", "server", *places, *options]
    process = MlflowProcess(command, port=port, log=artifacts.parent / "pg-server.log")
    process.start()
    try:
        yield process
    finally:
        process.kill()


def test_a_sweep_is_in_postgres_once_however_often_it_is_told(
    server: MlflowProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LINGER_S", 0.05)
    evaluations = recorded_sweep(8, seed=3)
    tracker = durable_tracker(server.uri, experiment="pg", spool=tmp_path / SPOOL)
    tracker.start_sweep(INFO)
    tell(tracker, evaluations)
    tracker.sweep_finished(evaluations, {})
    assert tracker.close().problem == ""
    stored = Stored(server.uri, "pg")
    assert_holds_once(stored, evaluations)
    assert sync_spool(tmp_path / SPOOL, again=True).problem == ""
    assert Stored(server.uri, "pg").contents() == stored.contents()
