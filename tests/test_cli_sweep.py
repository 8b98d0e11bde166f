"""``segsweep sweep`` from the shell to the MLflow store: whole, interrupted, killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cli_process import Command, Ran, run_segsweep
from job_files import write_tiny_sweep
from mlflow.tracking import MlflowClient

TRIALS = 6
FILES = {
    "journal.jsonl",
    "job.json",
    "space.yaml",
    "evaluations.parquet",
    "front.md",
    "pareto.png",
    "report.html",
}
RUN_STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "infeasible": "KILLED"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory with a job of six trials, each well below a second."""
    folder = tmp_path_factory.mktemp("sweeps")
    write_tiny_sweep(folder, ("trials: 3", f"trials: {TRIALS}"))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Ran:
    """A sweep that nothing disturbed."""
    return run_segsweep("sweep", "tiny_sweep.yaml", "--json", "--set", "out=whole", folder=folder)


@dataclass(frozen=True, kw_only=True)
class Disturbed:
    """A sweep that was interrupted, resumed, killed, and resumed to its end."""

    interrupted: Ran
    resumed: Ran
    left_processes: list[str]
    finished: list[list[dict[str, Any]]]  # evaluations in the journal after each of the three
    tags_when_interrupted: dict[str, dict[str, str]]  # MLflow run -> tags


@pytest.fixture(scope="module")
def disturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disturbed]:
    logs = tmp_path_factory.mktemp("logs")
    arguments = ("sweep", "tiny_sweep.yaml", "--json", "--set", "out=cut")
    finished: list[list[dict[str, Any]]] = []

    first = Command(*arguments, folder=folder, logs=logs)
    second: Command | None = None
    try:
        first.wait_until(lambda: len(_finished(folder / "cut")) >= 1)
        first.press_ctrl_c()
        interrupted = first.wait()
        finished.append(_finished(folder / "cut"))
        document = interrupted.document()
        tags = {run.info.run_id: dict(run.data.tags) for run in _runs(document["mlflow"])}
        resume = (*arguments, "--resume", document["sweep_id"])

        second = Command(*resume, folder=folder, logs=logs)
        second.wait_until(lambda: len(_finished(folder / "cut")) > len(finished[0]))
        second.kill()
        second.wait()
        finished.append(_finished(folder / "cut"))
        left = second.left_processes()
    finally:
        for command in (first, second):
            if command is not None:
                command.destroy()
    resumed = run_segsweep(*resume, folder=folder)
    finished.append(_finished(folder / "cut"))
    yield Disturbed(
        interrupted=interrupted,
        resumed=resumed,
        left_processes=left,
        finished=finished,
        tags_when_interrupted=tags,
    )


def _finished(out: Path) -> list[dict[str, Any]]:
    """Evaluations that are on disk; a line that is being written does not count."""
    lines = [
        line for path in out.glob("sweeps/*/journal.jsonl") for line in path.read_text().split("\n")[:-1]
    ]
    events = [json.loads(line) for line in lines]
    return [event["evaluation"] for event in events if event["type"] == "finish"]


def _runs(link: dict[str, str], kind: str | None = None) -> list[Any]:
    client = MlflowClient(tracking_uri=link["tracking_uri"])
    runs = client.search_runs([link["experiment_id"]], max_results=1000)
    return [run for run in runs if kind is None or run.data.tags.get("segsweep.run_kind") == kind]


def _trial_runs(document: dict[str, Any]) -> dict[str, Any]:
    """The child runs of a sweep's parent by trial id; every trial has exactly one."""
    link = document["mlflow"]
    runs = [
        run for run in _runs(link, "trial") if run.data.tags["mlflow.parentRunId"] == link["parent_run_id"]
    ]
    by_trial = {run.data.tags["segsweep.trial_id"]: run for run in runs}
    assert len(by_trial) == len(runs)
    return by_trial


def test_the_document_has_the_promised_keys(whole: Ran) -> None:
    assert whole.code == 0, whole.err
    document = whole.document()
    assert document.keys() == {
        *("sweep_id", "trials", "front", "hypervolume", "mlflow"),
        *("reference", "interrupted", "exhausted", "failures", "folder", "figure"),
    }
    assert document["trials"].keys() == {"complete", "stopped", "failed", "infeasible"}
    assert document["mlflow"].keys() == {"tracking_uri", "experiment_id", "parent_run_id", "url", "problem"}
    for entry in document["front"]:
        assert entry.keys() == {"trial_id", "point", "miou", "macs", "num_params", "images_per_second"}


def test_the_document_tells_what_happened(whole: Ran) -> None:
    document = whole.document()
    assert sum(document["trials"].values()) == TRIALS
    assert document["trials"]["complete"] >= len(document["front"]) >= 1
    assert document["trials"]["stopped"] >= 1  # half of the trials at the rung
    assert document["failures"] == [] and not document["interrupted"] and not document["exhausted"]
    assert document["mlflow"]["problem"] == ""
    assert document["mlflow"]["experiment_id"] in document["mlflow"]["url"]
    assert document["hypervolume"] > 0
    for entry in document["front"]:
        assert 0 < entry["miou"] < 1 and entry["images_per_second"] > 0
        assert isinstance(entry["macs"], int) and isinstance(entry["num_params"], int)


def test_progress_goes_to_standard_error_with_one_line_per_trial(whole: Ran) -> None:
    json.loads(whole.out)
    lines = [line for line in whole.err.splitlines() if " GMACs" in line]
    assert sorted(int(line.split()[0]) for line in lines) == list(range(TRIALS))
    assert "Traceback" not in whole.err


def test_everything_is_written_below_out_and_nowhere_else(whole: Ran, folder: Path) -> None:
    place = folder / whole.document()["folder"]
    assert place.parent == folder / "whole" / "sweeps"
    assert {path.name for path in place.iterdir()} >= FILES
    assert (place / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert pq.read_table(place / "evaluations.parquet").num_rows == TRIALS
    written = {path.name for path in folder.iterdir()}
    assert written <= {"tiny_sweep.yaml", "tiny_space.yaml", "whole", "cut"}


def test_mlflow_holds_the_sweep_and_its_trials(whole: Ran, folder: Path) -> None:
    document = whole.document()
    link = document["mlflow"]
    client = MlflowClient(tracking_uri=link["tracking_uri"])
    parent = client.get_run(link["parent_run_id"])
    assert (parent.info.status, parent.data.tags["segsweep.sweep_id"]) == ("FINISHED", document["sweep_id"])
    artifacts = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert artifacts >= {"space.yaml", "job.json", "environment.json", "pareto.png"}

    trials = _trial_runs(document)
    journal = {item["trial_id"]: item for item in _finished(folder / "whole")}
    assert trials.keys() == journal.keys()
    front = {entry["trial_id"] for entry in document["front"]}
    for trial_id, run in trials.items():
        record = journal[trial_id]
        assert run.info.status == RUN_STATUS[record["status"]]
        assert run.data.tags["segsweep.status"] == record["status"]
        assert run.data.tags["pareto.front"] == ("true" if trial_id in front else "false")
        assert run.data.params == {axis: str(value) for axis, value in record["point"].items()}
        assert run.data.metrics["macs"] == record["cost"]["macs"]
        assert run.data.metrics["num_params"] == record["cost"]["num_params"]
        assert run.data.metrics["images_per_second"] > 0 and run.data.metrics["latency_ms_p50"] > 0
        assert ("miou" in run.data.metrics) == (record["status"] == "complete")
        for name, key in (("val_miou", "miou"), ("train_loss", "train_loss")):
            history = client.get_metric_history(run.info.run_id, name)
            assert [(item.step, item.value) for item in history] == [
                (score["epoch"], score[key]) for score in record["scores"]
            ]


def test_resuming_a_finished_sweep_changes_nothing(whole: Ran, folder: Path) -> None:
    document = whole.document()
    journal = folder / document["folder"] / "journal.jsonl"
    before = journal.read_bytes(), _recorded(document)
    again = run_segsweep(
        *("sweep", "tiny_sweep.yaml", "--json", "--set", "out=whole", "--resume", document["sweep_id"]),
        folder=folder,
    )
    assert again.code == 0, again.err
    assert again.document() == document
    assert (journal.read_bytes(), _recorded(document)) == before


def _recorded(document: dict[str, Any]) -> dict[str, Any]:
    """What MLflow holds by run; the run that only draws the front is drawn anew, so its id may change."""
    recorded = {}
    for run in _runs(document["mlflow"]):
        tags = run.data.tags
        name = "front" if tags["segsweep.run_kind"] == "front" else run.info.run_id
        assert name not in recorded
        recorded[name] = run.info.status, run.data.params, run.data.metrics, tags.get("pareto.rank")
    return recorded


def test_a_resume_with_another_recipe_is_refused(whole: Ran, folder: Path) -> None:
    ran = run_segsweep(
        *("sweep", "tiny_sweep.yaml", "--json", "--resume", whole.document()["sweep_id"]),
        *("--set", "out=whole", "--set", "recipe.lr=0.01", "--set", "sweep.seed=1"),
        folder=folder,
    )
    assert (ran.code, ran.out) == (2, "")
    assert "recipe.lr: was 0.08 when it began, is 0.01 now" in ran.err
    assert "sweep.seed: was 0 when it began, is 1 now" in ran.err


def test_ctrl_c_ends_with_130_and_the_command_that_goes_on(disturbed: Disturbed) -> None:
    ran = disturbed.interrupted
    document = ran.document()
    assert ran.code == 130
    assert document["interrupted"] is True
    assert f"interrupted; go on with: --resume {document['sweep_id']}" in ran.err
    assert "Traceback" not in ran.err
    assert 1 <= sum(document["trials"].values()) == len(disturbed.finished[0]) < TRIALS


def test_mlflow_shows_an_interrupted_sweep_as_interrupted(disturbed: Disturbed) -> None:
    parent = disturbed.interrupted.document()["mlflow"]["parent_run_id"]
    assert disturbed.tags_when_interrupted[parent]["segsweep.status"] == "interrupted"
    statuses = {
        tags["segsweep.status"]
        for tags in disturbed.tags_when_interrupted.values()
        if tags.get("segsweep.run_kind") == "trial"
    }
    assert "running" not in statuses


def test_a_killed_driver_leaves_no_process_behind(disturbed: Disturbed) -> None:
    assert disturbed.left_processes == []


def test_no_finished_trial_is_lost_or_trained_again(disturbed: Disturbed) -> None:
    interrupted, killed, ended = disturbed.finished
    assert len(interrupted) < len(killed) < len(ended) == TRIALS
    assert ended[: len(killed)] == killed and killed[: len(interrupted)] == interrupted


def test_a_disturbed_sweep_ends_like_an_undisturbed_one(disturbed: Disturbed, whole: Ran) -> None:
    assert disturbed.resumed.code == 0, disturbed.resumed.err
    resumed, expected = disturbed.resumed.document(), whole.document()
    assert resumed["sweep_id"] == disturbed.interrupted.document()["sweep_id"]
    assert not resumed["interrupted"]
    assert resumed["trials"] == expected["trials"]
    assert resumed["hypervolume"] == expected["hypervolume"]
    for entry in [*resumed["front"], *expected["front"]]:
        del entry["images_per_second"]  # measured anew in each out folder
    assert resumed["front"] == expected["front"]


def test_mlflow_has_one_ended_run_per_trial_of_a_disturbed_sweep(disturbed: Disturbed) -> None:
    document = disturbed.resumed.document()
    trials = _trial_runs(document)
    statuses = {item["trial_id"]: item["status"] for item in disturbed.finished[-1]}
    assert {trial_id: run.data.tags["segsweep.status"] for trial_id, run in trials.items()} == statuses
    assert all(run.info.status == RUN_STATUS[statuses[trial_id]] for trial_id, run in trials.items())
    (parent,) = _runs(document["mlflow"], "sweep")
    assert (parent.info.status, parent.data.tags["segsweep.status"]) == ("FINISHED", "complete")
