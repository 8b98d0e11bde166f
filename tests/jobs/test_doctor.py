"""``doctor``: every finding says what is there, and a bad one what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from segsweep.jobs.doctor import UI_PORT, Finding, examine
from segsweep.jobs.environment import PACKAGES, environment


def _by_name(out: Path) -> dict[str, Finding]:
    findings = examine(out)
    assert len({item.name for item in findings}) == len(findings)
    return {item.name: item for item in findings}


@contextmanager
def _taken(port: int) -> Iterator[None]:
    with closing(socket.socket()) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            pass  # something else has taken it: as good
        else:
            server.listen()
        yield


def test_every_package_is_found_in_its_installed_version(tmp_path: Path) -> None:
    found = _by_name(tmp_path)
    assert {name: found[name].found for name in PACKAGES} == {name: version(name) for name in PACKAGES}
    assert all(found[name].ok and not found[name].remedy for name in PACKAGES)


def test_torch_and_torchvision_go_together_here(tmp_path: Path) -> None:
    pair = _by_name(tmp_path)["torch beside torchvision"]
    assert pair.ok
    assert version("torch") in pair.found and version("torchvision") in pair.found
    assert pair.found.endswith(("matching", "operators defined"))


def test_a_folder_that_does_not_exist_yet_is_looked_at_above(tmp_path: Path) -> None:
    finding = _by_name(tmp_path / "not" / "yet")["runs folder"]
    assert str(tmp_path / "not" / "yet") in finding.found and "GB free" in finding.found
    assert not (tmp_path / "not").exists()


def test_a_folder_below_a_file_is_bad_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = _by_name(tmp_path / "file" / "runs")["runs folder"]
    assert not finding.ok
    assert "not writable" in finding.found and str(tmp_path / "file") in finding.found
    assert "--out" in finding.remedy


def test_a_taken_port_is_told_with_a_free_one(tmp_path: Path) -> None:
    with _taken(UI_PORT):
        finding = _by_name(tmp_path)["port of the MLflow UI"]
    assert finding.ok and finding.found == f"{UI_PORT} is in use"
    free = int(finding.remedy.removeprefix("segsweep ui --port "))
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", free))


@pytest.mark.parametrize("name", ["accelerators", "shared memory", "Ray's temporary folder"])
def test_what_ray_needs_is_looked_at(tmp_path: Path, name: str) -> None:
    finding = _by_name(tmp_path)[name]
    assert finding.found
    assert finding.ok or finding.remedy


def test_the_environment_of_a_run_names_versions_and_machine() -> None:
    found = environment()
    assert found.keys() == {"python", "platform", "cores", "packages", "device_card"}
    assert found["packages"]["torch"] == version("torch")
    assert found["cores"] >= 1 and found["device_card"]["id"]
