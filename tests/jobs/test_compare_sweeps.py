"""Comparing sweeps on disk: what is grouped, refused, separated and written."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from compared_sweeps import trial, trials, write_sweep

from segsweep import api
from segsweep.errors import EnvironmentProblem, InvalidInput
from segsweep.jobs.comparability import contenders_of
from segsweep.jobs.compare import compare_opened, open_all
from segsweep.jobs.comparison_files import ComparisonResult
from segsweep.jobs.credentials import PASSWORD, USERNAME
from segsweep.jobs.finished_sweep import open_sweep
from segsweep.jobs.recommend import recommend
from segsweep.jobs.recorded_store import newest_store, recorded_in
from segsweep.jobs.sweep_report import report_on
from segsweep.jobs.ui import plan_ui
from segsweep.pareto.comparison_records import Comparison
from segsweep.pareto.hypervolume import hypervolume
from segsweep.records import TrialStatus
from segsweep.tracking.page_text import KNEE, sweep_tags
from segsweep.tracking.server import free_port
from segsweep.tracking.spool import SPOOL, Destination, Spool


def compared(out: Path, *sweeps: str, **options: Any) -> Comparison:
    settings: dict[str, Any] = {"reference": {}, **options}
    return compare_opened(open_all(sweeps, out=out), **settings)


def files_of(out: Path, *sweeps: str, **options: Any) -> ComparisonResult:
    return api.compare(sweeps, out=out, report=False, mlflow=False, **options)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    write_sweep(tmp_path, "eseg-a", trials(12, seed=0))
    write_sweep(tmp_path, "hfgd-a", trials(12, seed=1), space="hfgd_camvid")
    return tmp_path


def test_common_axes_and_one_reference(two: Path) -> None:
    found = compared(two, "eseg-a", "hfgd-a")
    assert [[o.metric for o in space.objectives] for space in found.spaces()] == [
        ["miou", "macs"],
        ["miou", "images_per_second"],
        ["miou", "macs", "images_per_second"],
    ]
    everything = [e for item in found.contenders for run in item.runs for e in run.evaluations]
    largest = max(e.metrics()["macs"] for e in everything)
    assert found.joint is not None
    assert found.joint.reference == {
        "miou": 0.0,
        "macs": pytest.approx(1.1 * largest),
        "images_per_second": 0.0,
    }


def test_hypervolumes_are_those_of_the_sweeps_at_the_common_corner(two: Path) -> None:
    found = compared(two, "eseg-a", "hfgd-a", metrics=["macs"], reference={"macs": 1e9})
    for contender, standing in zip(found.contenders, found.panels[0].standings, strict=True):
        rows = [[e.metrics()["miou"], e.metrics()["macs"]] for e in contender.runs[0].evaluations]
        assert standing.hypervolume == pytest.approx(hypervolume(rows, [0.0, 1e9], [True, False]))
    assert any("leaves out front members" in note for note in found.notes)


def test_the_corner_that_all_jobs_fix_is_taken_and_others_are_not(tmp_path: Path) -> None:
    fixed = {"macs": 5e9, "miou": 0.1}
    write_sweep(tmp_path, "eseg-a", trials(9, seed=0), sweep={"reference": fixed})
    write_sweep(
        tmp_path,
        "hfgd-a",
        trials(9, seed=1),
        space="hfgd_camvid",
        sweep={"reference": {**fixed, "miou": 0.2}},
    )
    reference = compared(tmp_path, "eseg-a", "hfgd-a", metrics=["macs"]).panels[0].reference
    assert reference == {"miou": 0.0, "macs": 5e9}


def test_sweeps_that_differ_only_in_their_seed_are_one_contender(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        write_sweep(tmp_path, f"eseg-{seed}", trials(9, seed=seed), seed=seed)
    write_sweep(tmp_path, "long-0", trials(9, seed=5), recipe={"epochs": 10, "optimizer": "sgd"})
    names = ["eseg-2", "long-0", "eseg-0", "eseg-1"]
    found = contenders_of(open_all(names, out=tmp_path))
    assert [[run.seed for run in item.runs] for item in found] == [[0, 1, 2], [0]]
    assert [item.label for item in found] == ["eseg", "long"]  # one method, one space: the jobs' names


def test_seeds_give_statistics_and_the_median_surface(tmp_path: Path) -> None:
    for seed in range(3):
        write_sweep(tmp_path, f"eseg-{seed}", trials(9, seed=seed), seed=seed)
        write_sweep(tmp_path, f"hfgd-{seed}", trials(9, seed=seed, gain=0.1), space="hfgd_camvid", seed=seed)
    found = compared(tmp_path, *(f"{name}-{seed}" for name in ("eseg", "hfgd") for seed in range(3)))
    pairing = found.panels[0].pairings[0]
    assert pairing.hypervolume_test is not None
    assert pairing.best_test is not None
    assert pairing.best_test.test == "Wilcoxon signed-rank"  # the same seeds on both sides
    assert pairing.best_test.difference == pytest.approx(-0.1)  # the very same trials, lifted by 0.1
    assert pairing.best_test.interval == pytest.approx((-0.1, -0.1))
    eseg, hfgd = found.panels[0].standings
    assert len(eseg.hypervolumes) == 3
    assert [x for x, _ in eseg.surface] == [x for x, _ in hfgd.surface]
    for (_, low), (_, high) in zip(eseg.surface, hfgd.surface, strict=True):
        assert high - low == pytest.approx(0.1)


def test_a_single_seed_is_said_and_tested_by_nothing(two: Path) -> None:
    found = compared(two, "eseg-a", "hfgd-a")
    assert found.panels[0].pairings[0].hypervolume_test is None
    assert any(note.startswith("One seed of eseg, hfgd") for note in found.notes)


def test_speeds_of_different_devices_never_share_an_axis(tmp_path: Path) -> None:
    write_sweep(tmp_path, "eseg-a", trials(9, seed=0))
    write_sweep(tmp_path, "hfgd-a", trials(9, seed=1, device="bbbb2222"), space="hfgd_camvid")
    found = compared(tmp_path, "eseg-a", "hfgd-a")
    told = [(space.objectives[1].metric, space.conditions) for space in found.panels]
    assert told == [
        ("macs", ""),
        ("images_per_second", "device aaaa1111, 1 thread, batch 1"),
        ("images_per_second", "device bbbb2222, 1 thread, batch 1"),
    ]
    for space, owner in zip(found.panels[1:], ("eseg", "hfgd"), strict=True):
        assert [standing.label for standing in space.standings] == [owner]
    assert found.joint is None  # MACs are all that is left beside mIoU
    assert any("Speeds were measured under different conditions" in note for note in found.notes)


@pytest.mark.parametrize("change", [{"threads": 2}, {"batch_size": 8}])
def test_threads_and_batch_size_are_conditions_of_speed_too(tmp_path: Path, change: dict[str, int]) -> None:
    write_sweep(tmp_path, "eseg-a", trials(9, seed=0))
    write_sweep(tmp_path, "hfgd-a", trials(9, seed=1, **change), space="hfgd_camvid")
    found = compared(tmp_path, "eseg-a", "hfgd-a", metrics=["images_per_second"])
    assert len(found.panels) == 2


def test_different_protocols_are_refused_with_every_difference(two: Path) -> None:
    data = {"source": "cityscapes", "root": None, "size": [180, 240], "options": {}}
    other = trials(9, seed=2, size=(90, 120), num_classes=19)
    write_sweep(two, "far-a", other, data=data, recipe={"epochs": 40})
    with pytest.raises(InvalidInput) as caught:
        compared(two, "eseg-a", "far-a")
    told = str(caught.value)
    for words in (
        "data is cityscapes, that of eseg-a is camvid",
        "size is 90x120, that of eseg-a is 180x240",
        "number of classes is 19, that of eseg-a is 11",
        "number of epochs is 40, that of eseg-a is 10",
    ):
        assert words in told
    assert told.count("--allow-different") == len(caught.value.problems) == 4
    allowed = compared(two, "eseg-a", "far-a", allow_different=True)
    assert sum(note.startswith("Different by permission") for note in allowed.notes) == 4


def test_other_images_under_the_same_name_are_refused_and_unknown_ones_are_told(tmp_path: Path) -> None:
    write_sweep(tmp_path, "eseg-a", trials(9, seed=0), data_digest="d1")
    write_sweep(tmp_path, "hfgd-a", trials(9, seed=1), space="hfgd_camvid", data_digest="d2")
    write_sweep(tmp_path, "old-a", trials(9, seed=1), space="hfgd_camvid", data_digest="")
    with pytest.raises(InvalidInput, match="content of the prepared data"):
        compared(tmp_path, "eseg-a", "hfgd-a")
    found = compared(tmp_path, "eseg-a", "old-a")
    assert any("old-a did not record a digest" in note for note in found.notes)


def test_unfinished_sweeps_and_unequal_budgets_are_told(tmp_path: Path) -> None:
    write_sweep(tmp_path, "eseg-a", trials(9, seed=0), sweep={"trials": 20})
    write_sweep(tmp_path, "hfgd-a", trials(12, seed=1), space="hfgd_camvid")
    notes = compared(tmp_path, "eseg-a", "hfgd-a").notes
    assert any(note == "eseg-a is not finished: 9 trials (9 complete) of 20." for note in notes)
    assert any("different numbers of designs (eseg 9, hfgd 12)" in note for note in notes)


def test_mistakes_are_all_told_at_once(two: Path) -> None:
    stopped = trial(1, 0.9, 1e6, 1e3, status=TrialStatus.STOPPED)
    write_sweep(two, "none-a", [stopped])
    with pytest.raises(InvalidInput) as caught:
        compared(two, "eseg-a", "eseg-a", "absent", "none-a")
    told = [str(problem) for problem in caught.value.problems]
    assert any("absent" in line and "it holds" in line for line in told)
    assert any("eseg-a" in line and "given twice" in line for line in told)
    assert any("none-a" in line and "no complete trial, only 1 trials (1 stopped)" in line for line in told)
    with pytest.raises(InvalidInput, match="two or more"):
        compared(two, "eseg-a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": ["miou"]}, "is no cost; allowed: macs"),
        ({"metrics": ["speed"]}, "is no cost; allowed: macs"),
        ({"metrics": ["macs", "num_params", "latency_ms_p50", "images_per_second"]}, "at most 3"),
        ({"metrics": ["latency_ms_p99"]}, "no complete trial of eseg-a, hfgd-a has it"),
        ({"reference": {"num_params": 1e6}}, "is no axis of this comparison; allowed: miou, macs"),
    ],
)
def test_wrong_metrics_and_references_are_refused(two: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        compared(two, "eseg-a", "hfgd-a", **options)


def test_a_metric_that_was_no_objective_can_be_compared(two: Path) -> None:
    found = compared(two, "eseg-a", "hfgd-a", metrics=["num_params"])
    assert [space.objectives[1].metric for space in found.spaces()] == ["num_params"]


def test_stopped_trials_never_take_part(two: Path) -> None:
    best = trial(99, 0.99, 1e6, 1e4, status=TrialStatus.STOPPED)
    write_sweep(two, "senformer-a", [*trials(6, seed=3), best], space="senformer_camvid")
    found = compared(two, "eseg-a", "senformer-a")
    for space in found.spaces():
        assert all(m.evaluation.number != 99 for item in space.standings for m in item.trials)


def test_the_files_say_what_was_found(two: Path) -> None:
    result = files_of(two, "eseg-a", "hfgd-a")
    assert set(result.files) == {"comparison.png", "comparison.md", "comparison.json", "front.csv"}
    assert all(path.parent == two / "comparisons" / result.folder.name for path in result.files.values())
    document = json.loads(result.files["comparison.json"].read_text())
    space = result.comparison.panels[0]
    assert document["panels"][0]["standings"][0]["hypervolume"] == space.standings[0].hypervolume
    assert [lead["sentence"] for lead in document["panels"][0]["leads"]]
    assert result.comparison.contenders[0].label in result.files["comparison.md"].read_text()
    with result.files["front.csv"].open() as file:
        rows = list(csv.DictReader(file))
    fronts = {
        (member.sweep_id, member.evaluation.trial_id): member.evaluation
        for any_space in result.comparison.spaces()
        for standing in any_space.standings
        for member in standing.front
    }
    assert {(row["sweep_id"], row["trial_id"]) for row in rows} == set(fronts)
    for row in rows:
        evaluation = fronts[row["sweep_id"], row["trial_id"]]
        assert float(row["miou"]) == evaluation.miou
        assert int(row["point.neck.channels"]) == evaluation.point["neck.channels"]
    knees = {m.evaluation.trial_id for m in space.standings[0].knees}
    told = {
        row["trial_id"] for row in rows if "GMACs per image" in row["knee_of"] and row["contender"] == "eseg"
    }
    assert knees <= told


def test_the_same_comparison_takes_the_same_folder_and_another_axis_takes_another(two: Path) -> None:
    first, again = files_of(two, "eseg-a", "hfgd-a"), files_of(two, "hfgd-a", "eseg-a")
    other = files_of(two, "eseg-a", "hfgd-a", metrics=["macs"])
    assert first.folder.name.rsplit("-", 1)[1] == again.folder.name.rsplit("-", 1)[1]
    assert files_of(two, "eseg-a", "hfgd-a").folder == first.folder
    assert other.folder != first.folder


def test_a_sweep_has_one_knee_wherever_it_is_named(two: Path) -> None:
    found = compared(two, "eseg-a", "hfgd-a")
    for name, standing in zip(
        ("eseg-a", "hfgd-a"), found.joint.standings if found.joint else (), strict=True
    ):
        sweep = open_sweep(name, out=two)
        (knee,) = standing.knees
        assert sweep_tags(sweep.evaluations, sweep.objectives)[KNEE].startswith(
            f"t{knee.evaluation.number:03d}:"
        )
        answer = recommend([sweep.folder], objective="knee", interval=False)
        assert answer.chosen is not None
        assert answer.chosen.trial_id == knee.evaluation.trial_id


def test_what_networks_are_kept_tells_no_searches_apart_and_the_sampler_does(tmp_path: Path) -> None:
    for seed, (sampler, kept) in enumerate((("tpe", "front"), ("tpe", "none"), ("random", "front"))):
        settings = {"sampler": sampler, "keep_models": kept}
        write_sweep(tmp_path, f"eseg-{seed}", [trial(0, 0.5, 1e8, 9.0)], seed=seed, sweep=settings)
    names = [f"eseg-{seed}" for seed in range(3)]
    found = contenders_of(open_all(names, out=tmp_path))
    assert [[run.seed for run in item.runs] for item in found] == [[0, 1], [2]]
    # a design scores alike whoever proposed it
    page = report_on(names, out=tmp_path).report.read_text()
    assert '"designs":[[0,1,2]]' in page.replace(" ", "")


def test_seeds_measured_on_two_machines_do_not_halve_each_others_volume(tmp_path: Path) -> None:
    for seed, device in enumerate(("aaaa1111", "bbbb2222")):
        write_sweep(tmp_path, f"eseg-{seed}", trials(9, seed=seed, device=device), seed=seed)
    write_sweep(tmp_path, "hfgd-0", trials(9, seed=5), space="hfgd_camvid")
    found = compared(tmp_path, "eseg-0", "eseg-1", "hfgd-0", metrics=["macs", "images_per_second"])
    macs, *speeds = found.panels
    assert [len(item.hypervolumes) for item in macs.standings] == [2, 1]
    for panel in speeds:
        eseg = next(item for item in panel.standings if item.label == "eseg")
        (volume,) = eseg.hypervolumes
        assert volume > 0
        assert {member.sweep_id for member in eseg.trials} == {f"eseg-{speeds.index(panel)}"}


def test_the_store_is_the_one_that_the_sweep_was_recorded_in(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = open_sweep("eseg-a", out=two)
    (two / "sweeps" / "hfgd-a" / "job.json").touch()
    assert recorded_in(sweep).tracking_uri == newest_store(two) == f"sqlite:///{two.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@mlflow.example.org:5000")
    monkeypatch.setenv(USERNAME, "")
    monkeypatch.setenv(PASSWORD, "")
    assert recorded_in(sweep).tracking_uri == newest_store(two) == "http://mlflow.example.org:5000"
    there = Destination(tracking_uri="http://other.example.org:80", experiment="e")
    spool = Spool(sweep.folder / SPOOL, kind="sweep", destination=there)
    spool.append({"at": 1, "do": "close"})
    spool.close()
    assert recorded_in(sweep).tracking_uri == there.tracking_uri
    assert newest_store(two) == "http://mlflow.example.org:5000"  # of hfgd-a, which is newer


def test_a_comparison_is_recorded_where_the_environment_says(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody answers there
    result = api.compare(["eseg-a", "hfgd-a"], out=two, report=False, metrics=["macs"])
    assert result.mlflow is not None
    assert "127.0.0.1:9" in result.mlflow.problem
    assert not (two / "mlflow.db").exists()


def test_a_password_in_an_address_is_used_and_never_shown(
    two: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from segsweep.cli_compare import compare as command

    monkeypatch.setenv(USERNAME, "")
    monkeypatch.setenv(PASSWORD, "")
    uri = "http://me:hunter2@127.0.0.1:9"  # nobody answers there
    command(["eseg-a", "hfgd-a"], out=two, report=False, metric=["macs"], uri=uri)
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("me", "hunter2")
    told = capsys.readouterr().out
    assert "127.0.0.1:9" in told
    assert "hunter2" not in told
    with pytest.raises(EnvironmentProblem) as caught:
        plan_ui(out=two, uri=uri, port=free_port())
    assert "hunter2" not in str(caught.value)
