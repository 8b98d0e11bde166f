"""Addresses of stores, and the command that shows one."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from segsweep.errors import EnvironmentProblem
from segsweep.tracking.server import free_port, server_command
from segsweep.tracking.store import ensure_experiment, open_client, resolve_uri


def test_a_relative_database_means_the_same_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "databricks", ""])
def test_other_stores_are_refused_with_what_is_allowed(uri: str) -> None:
    with pytest.raises(EnvironmentProblem, match=r"sqlite:///path/to/mlflow\.db"):
        resolve_uri(uri)


def test_a_folder_that_cannot_be_created_is_an_environment_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot create"):
        open_client(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_deleted_experiment_is_restored(store_uri: str) -> None:
    client = open_client(store_uri)
    first = ensure_experiment(client, store_uri, "a/b c")
    client.delete_experiment(first)
    assert ensure_experiment(client, store_uri, "a/b c") == first
    experiment = client.get_experiment(first)
    assert experiment.lifecycle_stage == "active"
    assert experiment.artifact_location.endswith("/mlflow-artifacts/a_b_c")


def test_the_command_runs_this_python_on_this_machine_only(tmp_path: Path) -> None:
    port = free_port()
    command = server_command(f"sqlite:///{tmp_path}/mlflow.db", port=port)
    assert command[0] == sys.executable
    assert command[2:5] == ["-m", "mlflow", "server"]
    options = dict(zip(command[5::2], command[6::2], strict=True))
    assert options["--backend-store-uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert options["--artifacts-destination"] == (tmp_path / "mlflow-artifacts").as_uri()
    assert (options["--host"], options["--port"]) == ("127.0.0.1", str(port))


def test_names_of_the_network_are_told_to_the_server(tmp_path: Path) -> None:
    command = server_command(
        f"sqlite:///{tmp_path}/mlflow.db",
        host="0.0.0.0",
        port=free_port(),
        auth=True,
        allowed_hosts=["mlflow.example.org"],
    )
    options = dict(zip(command[5::2], command[6::2], strict=True))
    assert options["--app-name"] == "basic-auth"
    assert {"localhost:*", "mlflow.example.org", "mlflow.example.org:*"} <= set(
        options["--allowed-hosts"].split(",")
    )
    assert "https://mlflow.example.org" in options["--cors-allowed-origins"].split(",")


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot listen on '192\.0\.2\.77'"):
        server_command(f"sqlite:///{tmp_path}/mlflow.db", host="192.0.2.77", port=free_port(), auth=True)


def test_a_taken_port_is_refused_with_a_free_one(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match=rf"port {port} .* in use; port \d+ is free"):
            server_command(f"sqlite:///{tmp_path}/mlflow.db", port=port)


def test_the_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="without a password"):
        server_command(f"sqlite:///{tmp_path}/mlflow.db", host="0.0.0.0", port=free_port())


def test_a_server_needs_no_server() -> None:
    with pytest.raises(EnvironmentProblem, match="open it in a browser"):
        server_command("http://127.0.0.1:5000", port=free_port())
