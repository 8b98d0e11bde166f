"""Published figures beside a sweep: which are shown, where they stand, and that they are marked."""

from __future__ import annotations

import pytest

from segsweep.jobs.builtin import builtin_folder
from segsweep.search.load import load_space
from segsweep.search.space import SearchSpace
from segsweep.tracking.baselines import (
    LIMIT,
    Baseline,
    Published,
    from_text,
    published_baselines,
    to_text,
    write_baselines,
)
from segsweep.tracking.store import ensure_experiment, open_client
from segsweep.tracking.trial_runs import search


@pytest.fixture(scope="module")
def eseg() -> SearchSpace:
    return load_space(builtin_folder("search_spaces") / "eseg.yaml")


def test_figures_of_the_sweeps_own_data_set_come_first(eseg: SearchSpace) -> None:
    for data in ("cityscapes", "ade20k"):
        assert {item.data for item in published_baselines([eseg], data=data)} == {data}


def test_of_other_data_the_set_with_most_costs_is_taken(eseg: SearchSpace) -> None:
    found = published_baselines([eseg], data="camvid")
    assert {item.data for item in found} == {"cityscapes"}
    assert len(found) == LIMIT


def test_figures_are_those_of_the_paper(eseg: SearchSpace) -> None:
    found = {item.name: item for item in published_baselines([eseg], data="cityscapes")}
    # ESeg, Table 4: ESeg-L has 82.6 % mIoU, 70.5 M parameters and 343 B FLOPs (multiply-accumulates)
    assert found["ESeg-L"].figures == {"miou": 0.826, "num_params": 70.5e6, "macs": 343e9}
    assert found["ESeg-L"].size == (1024, 2048)
    assert found["ESeg-L"].source == "ESeg, Tables 3 and 4"


def test_a_limit_keeps_what_no_other_design_beats(eseg: SearchSpace) -> None:
    # by hand from Tables 1, 2, 4 and 8: 17 G 76.0 %, 34.3 G 78.3 %, 34.5 G 80.1 %, 112 G 81.6 %, 343 G 82.6 %
    assert {"ESeg-Lite-S", "B1 P2-P5 BiFPN", "ESeg-S", "ESeg-M", "ESeg-L"} == {
        item.name for item in published_baselines([eseg], data="cityscapes", limit=5)
    }


def test_a_size_in_the_source_is_that_of_the_design() -> None:
    space = load_space(builtin_folder("search_spaces") / "senformer.yaml")
    sizes = {item.name: item.size for item in published_baselines([space], data="ade20k", limit=99)}
    assert sizes["SenFormer R50"] == (512, 512) and sizes["SenFormer Swin-L"] == (640, 640)


@pytest.mark.parametrize(
    ("data", "size", "beside"),
    [("cityscapes", (1024, 2048), True), ("cityscapes", (512, 1024), False), ("camvid", (1024, 2048), False)],
)
def test_only_equal_data_and_size_share_an_axis(
    eseg: SearchSpace, data: str, size: tuple[int, int], beside: bool
) -> None:
    (first, *_) = published_baselines([eseg], data="cityscapes")
    assert first.stands_beside(data, size) is beside


def test_the_artifact_reads_back(eseg: SearchSpace) -> None:
    found = published_baselines([eseg], data="cityscapes")
    assert from_text(to_text(found, data="camvid", size=(240, 320))) == (list(found), "camvid", (240, 320))


def _baseline(data: str) -> Baseline:
    return Baseline(
        name="X", method="eseg", source="A paper, Table 1", data=data, size=(64, 128),
        figures={"miou": 0.5, "macs": 2e9, "images_per_second": 99.0},
    )  # fmt: skip


def test_runs_are_written_once_and_say_that_nobody_measured_them(store_uri: str) -> None:
    client = open_client(store_uri)
    experiment = ensure_experiment(client, store_uri, "x")
    text = to_text([_baseline("camvid"), _baseline("ade20k")], data="camvid", size=(64, 128))
    for at in (1, 2):
        write_baselines(client, experiment, text, at=at)
    runs = {run.info.run_name: run for run in search(client, experiment, kind="published")}
    assert set(runs) == {"published: X", "published: X (ade20k)"}
    for run in runs.values():
        assert "not measured here" in run.data.tags["mlflow.note.content"]
        assert run.data.tags["segsweep.status"] == "not measured here"
        assert "A paper, Table 1" in run.data.tags["segsweep.reason"]
        assert "images_per_second" not in run.data.metrics  # of another machine: never on the axis
    assert runs["published: X"].data.metrics == {"miou_pct": 50.0, "gmacs": 2.0, "pareto_rank": -0.5}
    assert runs["published: X (ade20k)"].data.metrics == {
        "published ade20k mIoU percent": 50.0, "published ade20k GMACs": 2.0, "pareto_rank": 0.5,
    }  # fmt: skip
    shown = Published.of(runs.values())
    assert (shown.beside, shown.elsewhere) == (1, {"ade20k": ("macs",)})
    assert shown.names == {"ade20k": "ade20k at 64x128"}


def test_a_run_whose_writer_died_keeps_its_own_axes(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client(store_uri)
    experiment = ensure_experiment(client, store_uri, "x")
    text = to_text([_baseline("ade20k")], data="camvid", size=(64, 128))

    def killed(*_: object, **__: object) -> None:
        raise ConnectionResetError("the server died")

    with monkeypatch.context() as patched:
        patched.setattr("segsweep.tracking.baselines.RunWriter.reopen", killed)
        with pytest.raises(ConnectionResetError):
            write_baselines(client, experiment, text, at=1)
    write_baselines(client, experiment, text, at=2)
    (run,) = search(client, experiment, kind="published")
    assert "miou_pct" not in run.data.metrics  # no dot beside the trials of another data set
    assert run.data.metrics["published ade20k mIoU percent"] == 50.0
