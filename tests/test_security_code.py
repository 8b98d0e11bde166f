"""Files that users exchange must not run code: job files, spaces, checkpoints, recorded sweeps."""

from __future__ import annotations

import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from job_files import TINY_SPACE, write_tiny_sweep, write_tiny_training

from segsweep.errors import DataError, InvalidInput, SegsweepError
from segsweep.jobs.check import check_paths
from segsweep.jobs.finished_sweep import open_sweep
from segsweep.jobs.load import load_job
from segsweep.jobs.submit import _entrypoint
from segsweep.jobs.trial_models import load_trial_model
from segsweep.training.checkpoint import load_checkpoint

PACKAGE = Path(__file__).parents[1] / "platform" / "segsweep"

# What would run if a value were evaluated, formatted, expanded by a shell or constructed from a tag.
HOSTILE = (
    "__import__('os').mkdir('{mark}')",
    "!!python/object/apply:os.mkdir ['{mark}']",
    "$(mkdir {mark})",
    "`mkdir {mark}`",
    "; mkdir {mark} ;",
    "{{0.__class__.__init__.__globals__}}",
)


class _Touch:
    """Pickles to a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "key", ["name", "space", "data.source", "recipe.lr", "sweep.trials", "fixed.x", "constraints"]
)
def test_no_value_of_a_job_runs_code(hostile: str, key: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = write_tiny_sweep(tmp_path)
    value = hostile.format(mark=mark)
    if key == "constraints":
        path.write_text(
            f"{path.read_text()}constraints:\n  - {{name: a, why: b, require: {_quoted(value)}}}\n"
        )
        overrides = []
    else:
        overrides = [f"{key}={value}"]
    try:
        load_job(path, overrides=overrides)
        problems = check_paths([path])[path] if not overrides else ()
        assert problems or overrides
    except SegsweepError:
        pass  # refused, which is as good
    assert not mark.exists()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize("hostile", HOSTILE[:2])
def test_no_value_of_a_space_runs_code(hostile: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "space.yaml"
    tagged = hostile.format(mark=mark)
    value = tagged if tagged.startswith("!!") else _quoted(tagged)
    constraint = f"constraints:\n  - {{name: a, why: b, require: {value}}}\n"
    path.write_text(TINY_SPACE + constraint)
    assert check_paths([path])[path] != ()
    assert not mark.exists()


def test_no_value_of_a_submitted_job_reaches_the_clusters_shell(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    values = [hostile.format(mark=mark) for hostile in HOSTILE]
    command = _entrypoint("a job.yaml", overrides=[f"x={value}" for value in values], resume="$(false)")
    shown = subprocess.run(
        command.replace("python -m segsweep.cli", "printf '%s\\n'", 1),
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines()[:2] == ["run", "a job.yaml"]
    assert [line for line in shown.stdout.splitlines() if line.startswith("x=")] == [f"x={v}" for v in values]
    assert not mark.exists()


def _hostile_checkpoint(folder: Path) -> tuple[Path, Path]:
    mark, path = folder / "mark", folder / "checkpoint.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"format": 1, "weights": _Touch(mark)}, path)
    return path, mark


def test_a_hostile_checkpoint_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    """The other tests of this file prove something only because of this one."""
    path, mark = _hostile_checkpoint(tmp_path)
    torch.load(path, weights_only=False)
    assert mark.is_dir()


def test_checkpoints_are_read_without_unpickling(tmp_path: Path) -> None:
    path, mark = _hostile_checkpoint(tmp_path)
    with pytest.raises(DataError, match="checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(_Touch(mark)))
    with pytest.raises(DataError):
        load_checkpoint(path)
    assert not mark.exists()


def test_models_of_a_sweep_are_read_without_unpickling(tmp_path: Path) -> None:
    path, mark = _hostile_checkpoint(tmp_path / "models")
    path.rename(tmp_path / "models" / "0000-abc.pt")
    with pytest.raises(SegsweepError):
        load_trial_model(tmp_path, "0000-abc")
    assert not mark.exists()


def test_initial_weights_are_read_without_unpickling(tmp_path: Path) -> None:
    _, mark = _hostile_checkpoint(tmp_path)
    path = write_tiny_training(tmp_path, ("name: tiny", "name: tiny\nweights: checkpoint.pt"))
    assert check_paths([path])[path] != ()
    assert not mark.exists()


def test_a_recorded_sweep_is_read_as_plain_json_and_yaml(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "journal.jsonl").write_bytes(pickle.dumps(_Touch(mark)) + b"\n")
    (sweep / "job.json").write_bytes(pickle.dumps(_Touch(mark)))
    (sweep / "space.yaml").write_text(f"!!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises((DataError, InvalidInput, UnicodeDecodeError)):
        open_sweep(sweep)
    assert not mark.exists()


def test_nothing_in_the_package_evaluates_text_or_loads_pickles_of_files() -> None:
    """Except the pipe between a host and its own trials, which no file feeds."""
    dangerous = re.compile(
        r"(?<![\w.])(?:eval|exec)\(|pickle\.loads?\(|Unpickler\(|weights_only=False|yaml\.(?:load|unsafe_load)\(|"
        r"YAML\(\)|typ=\"unsafe\"|shell=True|os\.system\("
    )
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if dangerous.search(line) and not line.lstrip().startswith(("#", "``"))
    }
    assert found <= {"distributed/fork_protocol.py", "data/sources/plain_pickle.py"}


def test_the_mlflow_ui_listens_on_this_machine_unless_it_asks_for_a_password(tmp_path: Path) -> None:
    from segsweep.tracking.server import server_command

    command = server_command(f"sqlite:///{tmp_path}/mlflow.db", port=_free_port())
    assert command[command.index("--host") + 1] == "127.0.0.1"
    with pytest.raises(SegsweepError, match=r"0\.0\.0\.0"):
        server_command(f"sqlite:///{tmp_path}/mlflow.db", host="0.0.0.0", port=_free_port())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_sweep_on_this_machine_starts_ray_with_token_authentication(tmp_path: Path) -> None:
    code = (
        "from ray._raylet import AuthenticationMode, get_authentication_mode\n"
        "from segsweep.distributed.ray_session import ray_session\n"
        "with ray_session(num_cpus=1):\n"
        "    print(get_authentication_mode() == AuthenticationMode.TOKEN)\n"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**variables, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "True"
    token = (tmp_path / ".ray" / "auth_token").read_text()
    assert len(token) >= 32 and token not in ran.stdout + ran.stderr
