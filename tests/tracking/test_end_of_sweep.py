"""The end of a sweep in MLflow: of an interrupted one, of one that MLflow does not take in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from recorded_sweep import recorded_sweep
from stored_rows import Stored, tell

from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus, objective_of
from segsweep.tracking import mlflow_tracker
from segsweep.tracking.durable import durable_tracker, sync_spool
from segsweep.tracking.failures import RecordRefused
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.store import open_client
from segsweep.tracking.tracker import SweepInfo

OBJECTIVES = (objective_of("miou"), objective_of("macs"))
NOTE = "mlflow.note.content"


def info(sweep_id: str = "s", **changes: Any) -> SweepInfo:
    return SweepInfo(sweep_id=sweep_id, name=sweep_id, method="eseg", objectives=OBJECTIVES, **changes)


def started(uri: str, evaluations: list[Evaluation], sweep_id: str = "s") -> MlflowTracker:
    tracker = MlflowTracker(uri, experiment="x")
    tracker.start_sweep(info(sweep_id))
    tell(tracker, evaluations)
    return tracker


def complete(number: int, *, miou: float, macs: int) -> Evaluation:
    return Evaluation(
        trial_id=f"{number:04d}",
        number=number,
        point=Point({"neck.channels": number}),
        status=TrialStatus.COMPLETE,
        cost=CostReport(num_params=1, macs=macs, size=(64, 64), num_classes=3),
        scores=(Score(epoch=1, fidelity=1.0, miou=miou, train_loss=1.0, seconds=1.0),),
    )


def page(uri: str) -> str:
    return str(open_client(uri).get_experiment_by_name("x").tags[NOTE])


@pytest.mark.parametrize("told", [True, False], ids=["with its report", "closed without a word"])
def test_an_interrupted_sweep_shows_its_front_and_says_so(store_uri: str, tmp_path: Path, told: bool) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    evaluations = recorded_sweep(5, seed=1)
    tracker = started(store_uri, evaluations)
    if told:
        tracker.sweep_finished(evaluations, {"report.html": report}, interrupted=True)
    tracker.close()
    stored = Stored(store_uri, "x")
    (parent,) = stored.of_kind("sweep")
    assert (parent.info.status, parent.data.tags["segsweep.status"]) == ("KILLED", "interrupted")
    assert parent.data.tags["segsweep.trials"] == "5: 4 complete, 1 stopped"
    assert "t00" in parent.data.tags["segsweep.best"]
    assert len(stored.of_kind("front")) == 1
    assert ("/artifacts/report.html" in parent.data.tags[NOTE]) is told
    assert "5: 4 complete, 1 stopped, interrupted |" in page(store_uri)
    assert "running" not in page(store_uri)


def test_a_killed_sweep_is_shown_with_what_its_first_life_found(store_uri: str, tmp_path: Path) -> None:
    spool = tmp_path / SPOOL
    evaluations = recorded_sweep(5, seed=1)
    first = durable_tracker(store_uri, experiment="x", spool=spool)
    first.start_sweep(info())
    tell(first, evaluations[:3])
    first.sweep_finished(evaluations[:3], {}, interrupted=True)
    first.close()
    second = durable_tracker(store_uri, experiment="x", spool=spool)
    second.start_sweep(info())
    second.close()  # before any trial of its own ended
    assert sync_spool(spool).problem == ""
    (parent,) = Stored(store_uri, "x").of_kind("sweep")
    assert parent.data.tags["segsweep.trials"] == "3: 3 complete"
    assert parent.data.metrics["front_size"] >= 1


def test_refused_extras_neither_undo_the_end_nor_hold_up_each_other(
    store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise MlflowException("too long", error_code=INVALID_PARAMETER_VALUE)

    evaluations = recorded_sweep(3, seed=1)
    tracker = started(store_uri, evaluations)
    monkeypatch.setattr(mlflow_tracker.comparison, "write_front_run", refused)
    monkeypatch.setattr(mlflow_tracker, "attach", refused)
    with pytest.raises(RecordRefused, match=r"too long.*too long"):
        tracker.sweep_finished(evaluations, {"report.html": tmp_path / "report.html"})
    tracker.close()
    (parent,) = Stored(store_uri, "x").of_kind("sweep")
    assert (parent.info.status, parent.data.tags["segsweep.status"]) == ("FINISHED", "complete")
    assert "| trial |" in parent.data.tags[NOTE]  # came after what was refused
    assert "3: 3 complete |" in page(store_uri)


def test_front_members_beyond_the_shared_corner_are_told_on_the_first_line(store_uri: str) -> None:
    cheap, dear = (
        [complete(0, miou=0.5, macs=4)],
        [complete(0, miou=0.6, macs=5), complete(1, miou=0.9, macs=8)],
    )
    for sweep_id, evaluations in (("cheap", cheap), ("dear", dear)):
        tracker = started(store_uri, evaluations, sweep_id)
        tracker.sweep_finished(evaluations, {})
        tracker.close()
    runs = {run.info.run_name: run for run in Stored(store_uri, "x").of_kind("sweep")}
    assert runs["cheap"].data.tags["segsweep.beyond_corner"] == ""
    assert runs["dear"].data.tags["segsweep.beyond_corner"] == "1 of 2"  # the corner is 2 x 4
    first_line = page(store_uri).splitlines()[0]
    assert "hypervolume leaves out 1 of 2 front members of dear" in first_line
