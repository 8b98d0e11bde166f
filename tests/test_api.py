"""The calls behind the command line, as a notebook makes them."""

from __future__ import annotations

import inspect
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from job_files import write_tiny_sweep, write_tiny_training
from rich.console import Console

import segsweep
from segsweep.cost.published import PaperRow
from segsweep.data.shards import ShardSet
from segsweep.errors import EnvironmentProblem, InvalidInput, InvalidJob
from segsweep.jobs.builtin import builtin_names
from segsweep.jobs.load import load_job
from segsweep.jobs.result import SweepResult, TrainResult
from segsweep.jobs.spec import SweepJob
from segsweep.records import CostReport, Evaluation, Point, TrialStatus

TINY_DEMO = (
    "sweep.trials=2",
    "sweep.cpus_per_trial=1",
    "sweep.gpus_per_trial=0",
    "sweep.rungs=[1]",
    "recipe.epochs=2",
    "data.size=[96, 192]",
    "data.options={train: 8, val: 4}",
    "speed={warmup: 1, min_samples: 2, min_seconds: 0.0}",
)


@pytest.fixture(scope="module")
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def result(ray_two_cpus: None, tmp_path_factory: pytest.TempPathFactory, screen: io.StringIO) -> SweepResult:
    """The demo, shrunk to two trials of seconds."""
    out = tmp_path_factory.mktemp("demo") / "runs"
    return segsweep.demo(out=out, overrides=TINY_DEMO, console=Console(file=screen))


@pytest.fixture(scope="module")
def training(ray_two_cpus: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list[str]]:
    """A training of two epochs, and what it told."""
    folder = tmp_path_factory.mktemp("training")
    told: list[str] = []
    job = write_tiny_training(folder)
    trained = segsweep.train(job, overrides=[f"out={folder / 'runs'}"], run_id="mine", say=told.append)
    return trained, told


@pytest.mark.parametrize("name", segsweep.__all__)
def test_every_call_is_documented_and_typed(name: str) -> None:
    call = getattr(segsweep, name)
    assert inspect.getdoc(call)
    signature = inspect.signature(call)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(item.annotation is not inspect.Parameter.empty for item in signature.parameters.values())


def test_the_package_offers_its_calls_and_nothing_unknown() -> None:
    assert set(segsweep.__all__) <= set(dir(segsweep))
    with pytest.raises(AttributeError, match="it offers check, check_data, "):
        segsweep.sweeep  # noqa: B018


def test_no_call_is_hidden_by_a_module_of_its_name() -> None:
    import segsweep.cost.measure  # the import system sets the attribute segsweep.cost

    assert [name for name in segsweep.__all__ if inspect.ismodule(getattr(segsweep, name))] == []


def test_a_sweep_gives_records(result: SweepResult) -> None:
    assert [type(item) for item in result.evaluations] == [Evaluation, Evaluation]
    assert sum(result.count(status) for status in TrialStatus) == 2
    assert result.front and set(result.front) <= set(result.evaluations)
    assert all(item.status is TrialStatus.COMPLETE for item in result.front)
    assert not result.interrupted and result.hypervolume > 0
    assert result.figure is not None and result.figure.is_file()


def test_a_sweep_is_an_arrow_table(result: SweepResult) -> None:
    table = result.table()
    assert table.column("trial_id").to_pylist() == [item.trial_id for item in result.evaluations]
    assert table.equals(pq.read_table(result.folder / "evaluations.parquet"))
    names = set(table.column_names)
    assert any("neck.channels" in name for name in names) and any("macs" in name for name in names)


def test_the_published_points_come_first(result: SweepResult) -> None:
    by_number = sorted(result.evaluations, key=lambda item: item.number)
    assert [item.source for item in by_number] == ["seed:tiny P3-P5 FPN", "seed:mini P2-P7 BiFPN"]


def test_a_sweep_shows_progress_where_it_is_asked_to(result: SweepResult, screen: io.StringIO) -> None:
    assert len([line for line in screen.getvalue().splitlines() if "GMACs" in line]) == 2


def test_the_document_of_a_sweep_is_json(result: SweepResult) -> None:
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["sweep_id"] == result.sweep_id == result.folder.name
    assert [entry["trial_id"] for entry in document["front"]] == [item.trial_id for item in result.front]


def test_a_training_gives_records_and_a_checkpoint(training: tuple[TrainResult, list[str]]) -> None:
    trained, told = training
    assert trained.run_id == trained.folder.name == "mine"
    assert [score.epoch for score in trained.scores] == [1, 2]
    assert trained.checkpoint.is_file()
    assert trained.mlflow.problem == ""
    assert isinstance(trained.cost, CostReport) and (trained.cost.images_per_second or 0) > 0
    assert len([line for line in told if line.startswith("epoch ")]) == 2


def test_a_finished_training_is_not_trained_again(training: tuple[TrainResult, list[str]]) -> None:
    trained, _ = training
    out = trained.folder.parents[1]
    before = trained.checkpoint.stat().st_mtime_ns
    again = segsweep.train(out.parent / "tiny_training.yaml", overrides=[f"out={out}"], resume="mine")
    assert again.scores == trained.scores
    assert again.checkpoint.stat().st_mtime_ns == before


def test_a_resumed_training_must_be_the_same(training: tuple[TrainResult, list[str]]) -> None:
    out = training[0].folder.parents[1]
    settings = [f"out={out}", "recipe.lr=0.5"]
    with pytest.raises(InvalidJob, match=r"recipe\.lr: was 0\.08 when it began, is 0\.5 now"):
        segsweep.train(out.parent / "tiny_training.yaml", overrides=settings, resume="mine")


def test_a_job_object_takes_no_overrides(tmp_path: Path) -> None:
    job = load_job(write_tiny_sweep(tmp_path))
    assert isinstance(job, SweepJob)
    with pytest.raises(InvalidJob, match="change the job itself"):
        segsweep.sweep(job, overrides=["sweep.trials=1"])


def test_points_are_records(tmp_path: Path) -> None:
    write_tiny_sweep(tmp_path)
    points = segsweep.points(tmp_path / "tiny_space.yaml", n=24)
    assert all(isinstance(point, Point) for point in points)
    assert len(set(points)) == 24  # 3 x 2 x 2 x 2: the whole space


def test_cost_is_a_record() -> None:
    report = segsweep.cost("eseg", preset="eseg-s")
    assert isinstance(report, CostReport)
    assert (report.num_params, report.images_per_second) == (6_866_691, None)


def test_cost_grows_with_the_image_as_convolutions_do() -> None:
    small, large = (segsweep.cost("eseg", preset="eseg-s", size=size) for size in ((512, 1024), (1024, 2048)))
    assert large.macs / small.macs == pytest.approx(4, rel=0.01)
    assert large.num_params == small.num_params


def test_paper_gives_rows_and_refuses_other_methods() -> None:
    assert all(isinstance(row, PaperRow) for row in segsweep.paper("eseg"))
    with pytest.raises(InvalidInput, match="found 'nope', allowed: "):
        segsweep.paper("nope")


def test_prepare_tells_its_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    shards = segsweep.prepare(
        "synthetic",
        out=tmp_path / "shards",
        size=(32, 64),
        options={"train": 3, "val": 1},
        progress=lambda done, total: told.append((done, total)),
    )
    assert isinstance(shards, ShardSet) and shards.counts == {"train": 3, "val": 1}
    assert told[-1] == (4, 4) and told == sorted(told)


def test_check_looks_at_the_built_in_files_by_default() -> None:
    found = segsweep.check()
    names = {path.stem for path in found}
    assert names == {*builtin_names("search_spaces"), *builtin_names("jobs")}


def test_the_ui_shows_the_store_of_an_out_folder(tmp_path: Path) -> None:
    command = segsweep.ui_command(out=tmp_path, port=_free_port())
    assert f"sqlite:///{tmp_path / 'mlflow.db'}" in command
    with pytest.raises(EnvironmentProblem, match="without a password"):
        segsweep.ui_command(out=tmp_path, host="0.0.0.0")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
