"""A chain run for real: teacher, pseudo labels, student; stopped half-way and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from job_files import write_tiny_training
from mlflow.tracking import MlflowClient

from segsweep.data.shards import open_shards
from segsweep.errors import DataError, InvalidJob
from segsweep.jobs.load import load_job
from segsweep.jobs.run_chain import ChainResult, run_chain_job
from segsweep.jobs.spec import ChainJob

DATA = "{source: synthetic, size: [64, 128], options: {train: 8, val: 4, height: 64, width: 128}}"
CHAIN = f"""\
kind: chain
name: tiny-chain
steps:
  teacher: {{job: tiny_training.yaml, set: {{recipe.epochs: 1, speed: null}}}}
  pseudo:
    kind: pseudo_labels
    teacher: ${{steps.teacher.run}}
    data: {DATA}
    threshold: THRESHOLD
    scales: [1.0]
  student:
    job: tiny_training.yaml
    set:
      weights: ${{steps.teacher.checkpoint}}
      pseudo_labels: {{shards: "${{steps.pseudo.shards}}", share: 0.5}}
      recipe: {{epochs: 1, lr: 1.0e-9, ema_decay: null}}
      speed: null
"""


def chain(folder: Path, threshold: float) -> ChainJob:
    (folder / "chain.yaml").write_text(CHAIN.replace("THRESHOLD", str(threshold)))
    job = load_job(folder / "chain.yaml", overrides=[f"out={folder / 'out'}"])
    assert isinstance(job, ChainJob)
    return job


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    write_tiny_training(folder)
    return folder


@pytest.fixture(scope="module")
def stopped(ray_two_cpus: None, folder: Path) -> list[str]:
    """What was told until the second step failed: no pixel is that sure after one epoch."""
    told: list[str] = []
    with pytest.raises(DataError, match="sure of no pixel"):
        run_chain_job(chain(folder, 0.99), chain_id="mine", say=told.append)
    return told


@pytest.fixture(scope="module")
def teacher_file(folder: Path, stopped: list[str]) -> tuple[Path, int]:
    path = folder / "out" / "trainings" / "mine-teacher" / "checkpoint.pt"
    return path, path.stat().st_mtime_ns


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(teacher_file: tuple[Path, int], folder: Path, told: list[str]) -> ChainResult:
    """The chain with the step that failed mended, gone on with."""
    return run_chain_job(chain(folder, 0.0), resume="latest", say=told.append)


def test_a_failure_says_how_to_go_on(stopped: list[str]) -> None:
    assert stopped[0] == "step 1 of 3, teacher"
    assert stopped[-1] == "the chain stopped in step pseudo; go on with: --resume mine"


def test_finished_steps_are_not_run_again(
    result: ChainResult, teacher_file: tuple[Path, int], told: list[str]
) -> None:
    path, written = teacher_file
    assert path.stat().st_mtime_ns == written
    assert [step.again for step in result.steps] == [True, False, False]
    assert told[0] == "step 1 of 3, teacher: finished before"


def test_a_step_that_was_changed_since_it_began_begins_anew(result: ChainResult) -> None:
    assert [step.run_id for step in result.steps] == ["mine-teacher", "mine-pseudo-2", "mine-student"]


def test_each_step_used_what_the_one_before_it_made(result: ChainResult) -> None:
    teacher, pseudo, student = result.steps
    provenance = open_shards(Path(pseudo.outputs["shards"])).index.provenance
    assert provenance is not None and provenance["checkpoint"] == teacher.outputs["checkpoint"]
    job = json.loads((Path(student.outputs["run"]) / "job.json").read_text())["job"]
    assert job["weights"]["path"] == teacher.outputs["checkpoint"]
    assert job["pseudo_labels"] == {"shards": pseudo.outputs["shards"], "share": 0.5}
    assert json.loads(json.dumps(result.to_json()))["steps"][2]["result"]["miou"] == student.result["miou"]


def test_the_student_began_with_the_teachers_averaged_weights(result: ChainResult) -> None:
    """At a learning rate of nearly 0 it still has them."""
    teacher, _, student = (step.outputs for step in result.steps)
    before = torch.load(teacher["checkpoint"], weights_only=True)["average"]
    after = torch.load(student["checkpoint"], weights_only=True)["model"]
    for name, value in before.items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-4)


def test_what_fitted_is_listed_in_the_folder_in_mlflow_and_in_one_line(
    result: ChainResult, told: list[str]
) -> None:
    student = result.steps[2]
    listing = (Path(student.outputs["run"]) / "weights.txt").read_text()
    link = student.result["mlflow"]
    client = MlflowClient(tracking_uri=link["tracking_uri"])
    files = {file.path for file in client.list_artifacts(link["parent_run_id"])}
    assert "weights.txt" in files and "0 missing in the file" in listing
    (line,) = [line for line in told if line.startswith("student: weights ")]
    assert "(segsweep): " in line and "tensors loaded into the model, 0 missing" in line
    assert not (Path(student.outputs["run"]) / "initial_weights.pt").exists()


def test_the_mixture_is_told(result: ChainResult, told: list[str]) -> None:
    mixture = "student: training on 8 labelled and 8 pseudo-labelled images, 50 % of each batch of the latter"
    assert mixture in told


def test_a_step_that_is_finished_may_not_change(result: ChainResult, folder: Path) -> None:
    with pytest.raises(InvalidJob, match=r"steps\.pseudo\.values\.threshold: was 0\.0 when it began"):
        run_chain_job(chain(folder, 0.5), resume="mine")
    again = run_chain_job(chain(folder, 0.0), resume="mine")
    assert all(step.again for step in again.steps) and again.to_json() == result.to_json()
