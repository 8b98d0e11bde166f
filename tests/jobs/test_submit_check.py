"""What is found wrong with a job before anything is sent to a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_files import write_tiny_sweep, write_tiny_training

from segsweep.errors import EnvironmentProblem, InvalidInput
from segsweep.jobs.common import tracking_uri
from segsweep.jobs.load import load_job
from segsweep.jobs.spec import SweepJob
from segsweep.jobs.submit import submit_job

NOBODY = "http://127.0.0.1:9"  # where nothing listens: whatever is refused earlier was found here


def _problems(job: str, folder: Path, **options: object) -> str:
    with pytest.raises(InvalidInput) as refused:
        submit_job(folder / job, working_dir=folder, address=NOBODY, **options)  # type: ignore[arg-type]
    return str(refused.value)


def test_a_good_job_gets_as_far_as_the_cluster(tmp_path: Path) -> None:
    write_tiny_sweep(tmp_path)
    said: list[str] = []
    with pytest.raises(EnvironmentProblem, match="nothing answers at http://127"):
        submit_job(tmp_path / "tiny_sweep.yaml", working_dir=tmp_path, address=NOBODY, say=said.append)
    assert said[-1].startswith(f"{tmp_path}: 2 files, ")


def test_mistakes_of_the_job_are_told_all_at_once(tmp_path: Path) -> None:
    write_tiny_sweep(tmp_path, ("trials: 3", "trials: 0"), ("epochs: 2", "epochs: 2, colour: blue"))
    told = _problems("tiny_sweep.yaml", tmp_path)
    assert "sweep.trials" in told and "unknown key 'colour'" in told


def test_files_that_would_not_go_along_are_told(tmp_path: Path) -> None:
    write_tiny_sweep(tmp_path)
    (tmp_path / ".gitignore").write_text("tiny_space.yaml\n")
    told = _problems("tiny_sweep.yaml", tmp_path)
    assert "tiny_space.yaml does not go along" in told
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InvalidInput, match=r"tiny_sweep\.yaml does not go along with .*elsewhere"):
        submit_job(tmp_path / "tiny_sweep.yaml", working_dir=tmp_path / "elsewhere", address=NOBODY)


def test_data_inside_the_working_directory_are_told_to_stay(tmp_path: Path) -> None:
    write_tiny_training(tmp_path, ("source: synthetic", "source: camvid\n  root: data/camvid"))
    (tmp_path / "tiny_training.yaml").write_text(
        (tmp_path / "tiny_training.yaml").read_text().replace("  options: {train: 8, val: 4, ", "  # {")
    )
    told = _problems("tiny_training.yaml", tmp_path)
    assert f"data.root: {tmp_path}/data/camvid stays here" in told
    assert "--set data.root=/data/camvid" in told


CHAIN = """\
kind: chain
name: tiny-chain
steps:
  search: {job: parts/tiny_sweep.yaml}
  first: {job: parts/tiny_training.yaml}
  second: {job: parts/tiny_training.yaml, set: {name: second}}
  prepared: {kind: prepare, data: {source: camvid, root: data/camvid}}
"""


def _chain(folder: Path) -> Path:
    (folder / "parts").mkdir()
    write_tiny_sweep(folder / "parts")
    write_tiny_training(folder / "parts")
    (folder / "chain.yaml").write_text(CHAIN.replace("data/camvid", "/data/camvid"))
    return folder / "chain.yaml"


def test_a_chain_whose_files_all_go_along_gets_as_far_as_the_cluster(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="nothing answers"):
        submit_job(_chain(tmp_path), working_dir=tmp_path, address=NOBODY)


def test_files_and_data_of_a_chains_steps_that_would_not_go_along_are_told_once(tmp_path: Path) -> None:
    _chain(tmp_path).write_text(CHAIN)
    (tmp_path / ".gitignore").write_text("tiny_space.yaml\ntiny_training.yaml\n")
    told = _problems("chain.yaml", tmp_path).splitlines()
    assert len(told) == 3
    assert "steps.search: " in told[0] and "tiny_space.yaml does not go along" in told[0]
    assert "steps.first: " in told[1] and "tiny_training.yaml does not go along" in told[1]
    assert f"steps.prepared data.root: {tmp_path}/data/camvid stays here" in told[2]
    assert told[2].endswith("--set steps.prepared.data.root=/data/camvid")


def test_a_step_with_a_file_of_its_own_is_told_to_replace_its_data(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("kind: prepare\nname: p\ndata: {source: camvid, root: data/camvid}\n")
    (tmp_path / "chain.yaml").write_text("kind: chain\nname: c\nsteps: {p: part.yaml}\n")
    told = _problems("chain.yaml", tmp_path)
    assert told.endswith("for example `set: {data.root: /data/camvid}`")
    remedy = "kind: chain\nname: c\nsteps: {p: {job: part.yaml, set: {data.root: /data/camvid}}}\n"
    (tmp_path / "chain.yaml").write_text(remedy)
    with pytest.raises(EnvironmentProblem, match="nothing answers"):
        submit_job(tmp_path / "chain.yaml", working_dir=tmp_path, address=NOBODY)


def test_a_password_in_the_file_of_a_step_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # reading the job sets them: undone afterwards
    _chain(tmp_path)
    part = tmp_path / "parts" / "tiny_sweep.yaml"
    part.write_text(f"{part.read_text()}tracking: {{uri: 'http://me:swordfish@host:5000'}}\n")
    told = _problems("chain.yaml", tmp_path)
    assert told.startswith(f"{part}: found a password") and "swordfish" not in told


def test_data_and_out_of_the_cluster_need_not_be_here(tmp_path: Path) -> None:
    write_tiny_training(tmp_path, ("source: synthetic", "source: camvid\n  root: /data/camvid"))
    path = tmp_path / "tiny_training.yaml"
    path.write_text(path.read_text().replace("  options: {train: 8, val: 4, ", "  # {"))
    with pytest.raises(EnvironmentProblem, match="nothing answers"):
        submit_job(path, overrides=["out=/proc/storage"], working_dir=tmp_path, address=NOBODY)


def test_a_password_is_neither_packed_nor_put_into_the_command(tmp_path: Path) -> None:
    write_tiny_sweep(tmp_path)
    set_ = ["tracking.uri=http://me:swordfish@host:5000"]
    told = _problems("tiny_sweep.yaml", tmp_path, overrides=set_)
    assert "--set tracking.uri: found a password" in told and "swordfish" not in told
    job = tmp_path / "tiny_sweep.yaml"
    job.write_text(f"{job.read_text()}tracking: {{uri: 'http://me:swordfish@host:5000'}}\n")
    told = _problems("tiny_sweep.yaml", tmp_path)
    assert "MLFLOW_TRACKING_PASSWORD" in told and "swordfish" not in told


def test_what_the_heads_own_machine_would_decide_is_noted(tmp_path: Path) -> None:
    write_tiny_training(tmp_path, ("workers: 1, gpus_per_worker: 0", "workers: 1"))
    said: list[str] = []
    with pytest.raises(EnvironmentProblem):
        submit_job(tmp_path / "tiny_training.yaml", working_dir=tmp_path, address=NOBODY, say=said.append)
    assert said[0].startswith("note: scaling.gpus_per_worker is not set")


def test_a_job_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    assert "no such job file; give a path in the working directory, or one of: " in _problems(
        "x.yaml", tmp_path
    )


def test_results_of_a_submitted_job_do_not_lie_in_rays_copy_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_sweep(tmp_path)
    assert load_job(path).out == Path("segsweep-runs")  # on a laptop: where one runs
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # as Ray sets it for a submitted job
    assert load_job(path).out == tmp_path / "home" / "segsweep-runs"
    monkeypatch.setenv("SEGSWEEP_STORAGE", "/data/segsweep")
    assert load_job(path).out == Path("/data/segsweep/segsweep-runs")
    assert load_job(path, overrides=["out=/elsewhere"]).out == Path("/elsewhere")


def test_jobs_record_in_the_clusters_mlflow_unless_they_name_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_sweep(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    job, named = load_job(path), load_job(path, overrides=["tracking.uri=http://other:5000"])
    assert isinstance(job, SweepJob) and isinstance(named, SweepJob)
    assert tracking_uri(job) == "http://127.0.0.1:5000"
    assert tracking_uri(named) == "http://other:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri(job).startswith("sqlite:///")
