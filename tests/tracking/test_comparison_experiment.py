"""A comparison as MLflow holds it, read back with MLflow's own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compared_sweeps import trials, write_sweep

from segsweep import api
from segsweep.jobs.comparison_files import ComparisonResult
from segsweep.tracking.store import open_client
from segsweep.tracking.views import FRONT_RUN_RANK, NOTE_TAG, RANK, VIEW_TAG


class Recorded:
    """The experiment of one comparison, written twice."""

    def __init__(self, folder: Path, uri: str) -> None:
        for seed in range(2):
            write_sweep(folder, f"eseg-{seed}", trials(6, seed=seed), seed=seed)
        write_sweep(folder, "hfgd-0", trials(6, seed=5), space="hfgd_camvid")
        self.uri = uri
        for _ in range(2):
            self.result: ComparisonResult = api.compare(
                ["eseg-0", "eseg-1", "hfgd-0"], out=folder, report=False, uri=uri
            )
        link = self.result.mlflow
        assert link is not None
        assert link.problem == ""
        self.link = link
        self.client = open_client(uri)
        self.experiment = self.client.get_experiment(link.experiment_id)
        self.runs = self.client.search_runs([link.experiment_id])

    def of_kind(self, kind: str) -> list[Any]:
        return [run for run in self.runs if run.data.tags["segsweep.run_kind"] == kind]

    def line(self, run: Any, x_key: str, y_key: str) -> list[tuple[float, float]]:
        xs, ys = (
            {row.step: row.value for row in self.client.get_metric_history(run.info.run_id, key)}
            for key in (x_key, y_key)
        )
        return [(xs[step], ys[step]) for step in sorted(xs)]


@pytest.fixture(scope="module")
def recorded(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("compared")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    return Recorded(folder, f"sqlite:///{folder / 'mlflow.db'}")


def test_one_line_per_contender_on_common_axes(recorded: Recorded) -> None:
    fronts = {run.info.run_name: run for run in recorded.of_kind("front")}
    assert set(fronts) == {"Pareto front: eseg", "Pareto front: hfgd"}
    panel = recorded.result.comparison.panels[0]
    for standing in panel.standings:
        found = recorded.line(fronts[f"Pareto front: {standing.label}"], "GMACs", "mIoU percent over GMACs")
        expected = sorted((x / 1e9, 100 * y) for x, y in standing.surface)
        assert found == [pytest.approx(corner) for corner in expected]


def test_the_views_show_the_fronts_first(recorded: Recorded) -> None:
    assert f"{VIEW_TAG}pareto-fronts" in recorded.experiment.tags
    assert all(run.data.metrics[RANK] == FRONT_RUN_RANK for run in recorded.of_kind("front"))
    assert len({run.data.tags["mlflow.runColor"] for run in recorded.of_kind("front")}) == 2
    assert recorded.link.url.endswith("workflowType=machine_learning")
    assert recorded.link.experiment_id in recorded.link.url


def test_the_members_of_the_fronts_are_runs_with_their_designs(recorded: Recorded) -> None:
    expected = {
        (member.sweep_id, member.evaluation.trial_id): member.evaluation
        for space in recorded.result.comparison.spaces()
        for standing in space.standings
        for member in standing.front
    }
    found = {
        (run.data.tags["segsweep.sweep_id"], run.data.tags["segsweep.trial_id"]): run
        for run in recorded.of_kind("trial")
    }
    assert set(found) == set(expected)
    for key, run in found.items():
        assert run.data.params == {axis: str(value) for axis, value in expected[key].point.items()}
        assert run.data.metrics["miou_pct"] == pytest.approx(100 * (expected[key].miou or 0), abs=0.01)
        assert run.data.metrics["gmacs"] == pytest.approx(expected[key].metrics()["macs"] / 1e9, abs=1e-3)


def test_a_comparison_made_again_replaces_itself(recorded: Recorded) -> None:
    assert len(recorded.of_kind("comparison")) == 1
    assert len(recorded.of_kind("front")) == 2
    trials = [run.info.run_name for run in recorded.of_kind("trial")]
    assert len(trials) == len(set(trials)) > 0


def test_the_run_has_the_numbers_the_table_and_the_files(recorded: Recorded) -> None:
    (run,) = recorded.of_kind("comparison")
    space = recorded.result.comparison.headline
    for standing in space.standings:
        assert run.data.metrics[f"compare/hypervolume {standing.label}"] == pytest.approx(
            standing.hypervolume
        )
    pairing = space.pairings[0]
    assert run.data.metrics["compare/coverage eseg over hfgd"] == pytest.approx(pairing.coverage[0])
    assert run.data.metrics["compare/epsilon hfgd over eseg"] == pytest.approx(pairing.epsilon[1])
    assert run.data.params["sweeps"] == "eseg-0, eseg-1, hfgd-0"
    assert run.data.params["size"] == "180x240"
    files = {file.path for file in recorded.client.list_artifacts(run.info.run_id)}
    assert files == {
        "comparison.png",
        "comparison.md",
        "comparison.json",
        "front.csv",
        "fronts.json",
    }
    path = recorded.client.download_artifacts(run.info.run_id, "fronts.json")
    table = json.loads(Path(path).read_text())
    assert table["columns"][:3] == ["contender", "sweep", "trial"]
    assert len(table["data"]) == sum(len(standing.front) for standing in space.standings)


def test_the_description_starts_with_links_and_says_who_is_ahead(recorded: Recorded) -> None:
    lines = recorded.experiment.tags[NOTE_TAG].splitlines()
    assert "pareto-fronts" in lines[0]
    assert any("dominates the largest volume" in line for line in lines)
    assert len(recorded.experiment.tags[NOTE_TAG]) <= 5000


def test_a_store_that_is_away_costs_nothing_but_the_record(tmp_path: Path) -> None:
    write_sweep(tmp_path, "eseg-0", trials(6, seed=0))
    write_sweep(tmp_path, "hfgd-0", trials(6, seed=5), space="hfgd_camvid")
    result = api.compare(["eseg-0", "hfgd-0"], out=tmp_path, report=False, uri="http://127.0.0.1:9")
    assert result.mlflow is not None
    assert "the comparison is not in MLflow" in result.mlflow.problem
    assert result.files["comparison.png"].is_file()
