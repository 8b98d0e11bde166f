"""``segsweep train`` from the shell: interrupted after an epoch, then resumed to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_process import Command, Ran, run_segsweep
from job_files import write_tiny_training
from mlflow.tracking import MlflowClient

from segsweep.training.checkpoint import load_checkpoint

EPOCHS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainings")
    write_tiny_training(folder, ("epochs: 2", f"epochs: {EPOCHS}"))
    return folder


@pytest.fixture(scope="module")
def interrupted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A training that got Ctrl-C after its first epoch."""
    arguments = ("train", "tiny_training.yaml", "--json", "--set", "out=out")
    command = Command(*arguments, folder=folder, logs=tmp_path_factory.mktemp("logs"))
    try:
        command.wait_until(lambda: any(folder.glob("out/trainings/*/checkpoint.pt")))
        command.press_ctrl_c()
        return command.wait()
    finally:
        command.destroy()


@pytest.fixture(scope="module")
def resumed(interrupted: Ran, folder: Path) -> Ran:
    """The same training, resumed to its end."""
    arguments = ("train", "tiny_training.yaml", "--json", "--set", "out=out", "--resume", "latest")
    return run_segsweep(*arguments, folder=folder)


def test_ctrl_c_ends_with_130_and_the_command_that_goes_on(interrupted: Ran, folder: Path) -> None:
    (training,) = (folder / "out" / "trainings").iterdir()
    assert (interrupted.code, interrupted.out) == (130, ""), interrupted.err
    assert f"interrupted; go on with: --resume {training.name}" in interrupted.err
    assert "Traceback" not in interrupted.err


def test_the_document_of_a_training(resumed: Ran) -> None:
    assert resumed.code == 0, resumed.err
    document = resumed.document()
    assert document.keys() == {
        *("run_id", "method", "point", "miou", "cost", "scores"),
        *("checkpoint", "folder", "workers", "mlflow"),
    }
    assert [score["epoch"] for score in document["scores"]] == list(range(1, EPOCHS + 1))
    assert document["miou"] == document["scores"][-1]["miou"]
    assert document["workers"] == 1 and document["cost"]["num_params"] > 0


def test_every_epoch_is_told_on_standard_error(resumed: Ran) -> None:
    told = [line.split()[1] for line in resumed.err.splitlines() if line.startswith("epoch ")]
    assert told == [str(epoch) for epoch in range(1, EPOCHS + 1)]


def test_the_checkpoint_is_that_of_the_last_epoch(resumed: Ran, folder: Path) -> None:
    assert load_checkpoint(folder / resumed.document()["checkpoint"])["epoch"] == EPOCHS


def test_mlflow_has_the_interrupted_and_the_finished_run(resumed: Ran) -> None:
    document = resumed.document()
    link = document["mlflow"]
    client = MlflowClient(tracking_uri=link["tracking_uri"])
    runs = {run.info.run_id: run for run in client.search_runs([link["experiment_id"]])}
    last = runs.pop(link["parent_run_id"])
    assert last.info.status == "FINISHED"
    history = client.get_metric_history(last.info.run_id, "val_miou")
    assert {item.step: item.value for item in history} == {
        score["epoch"]: score["miou"] for score in document["scores"]
    }
    assert last.data.metrics["miou"] == document["miou"]
    assert last.data.metrics["macs"] == document["cost"]["macs"]
    assert all(run.info.status == "KILLED" for run in runs.values())
