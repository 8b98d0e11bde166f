"""A sweep as MLflow holds it, read back with MLflow's own client."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from recorded_sweep import recorded_sweep
from stored_rows import tell

from segsweep.records import (
    DEFAULT_OBJECTIVES,
    CostReport,
    Evaluation,
    Objective,
    Point,
    Score,
    TrialStatus,
)
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.store import open_client
from segsweep.tracking.tracker import MlflowLink, SweepInfo
from segsweep.tracking.trial_runs import TrialRuns

EXPERIMENT = "eseg-camvid"


def sweep_info(**changes: Any) -> SweepInfo:
    values: dict[str, Any] = {
        "sweep_id": "eseg-1",
        "name": "eseg-1",
        "method": "eseg",
        "objectives": DEFAULT_OBJECTIVES,
        "params": {"seed": 7, "sampler": "tpe"},
        "artifacts": {"space.yaml": "method: eseg\n", "job.yaml": "kind: sweep\n", "environment.json": "{}"},
    }
    return SweepInfo(**{**values, **changes})


class Recorded:
    """What a store holds of one experiment."""

    def __init__(self, uri: str, link: MlflowLink) -> None:
        self.client = open_client(uri)
        self.experiment = self.client.get_experiment(link.experiment_id)
        runs = self.client.search_runs([link.experiment_id], max_results=1000)
        self.parents = [run for run in runs if run.data.tags["segsweep.run_kind"] == "sweep"]
        self.fronts = [run for run in runs if run.data.tags["segsweep.run_kind"] == "front"]
        self.trials = {
            run.data.tags["segsweep.trial_id"]: run
            for run in runs
            if run.data.tags["segsweep.run_kind"] == "trial"
        }
        self.number_of_trial_runs = len(runs) - len(self.parents) - len(self.fronts)

    def history(self, run: Any, key: str) -> list[tuple[int, float]]:
        rows = self.client.get_metric_history(run.info.run_id, key)
        return sorted((row.step, row.value) for row in rows)

    def artifacts(self, run: Any) -> set[str]:
        return {file.path for file in self.client.list_artifacts(run.info.run_id)}


@pytest.fixture(scope="module")
def sweep(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Evaluation], Recorded]:
    folder = tmp_path_factory.mktemp("store")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    figure = folder / "drawn.png"
    figure.write_bytes(b"\x89PNG")
    evaluations = recorded_sweep(20, seed=1)
    tracker = MlflowTracker(uri, experiment=EXPERIMENT)
    tracker.start_sweep(sweep_info())
    tell(tracker, evaluations)
    tracker.sweep_finished(evaluations, {"pareto/front": figure})
    return evaluations, Recorded(uri, tracker.close())


def dominates(left: Evaluation, right: Evaluation) -> bool:
    """By the definition, without the package's own front."""
    a, b = left.metrics(), right.metrics()
    gains = (a["miou"] - b["miou"], b["macs"] - a["macs"], a["images_per_second"] - b["images_per_second"])
    return min(gains) >= 0 and max(gains) > 0


def test_every_trial_is_a_child_of_the_one_sweep_run(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    (parent,) = store.parents
    assert set(store.trials) == {evaluation.trial_id for evaluation in evaluations}
    assert store.number_of_trial_runs == len(evaluations)
    assert {run.data.tags["mlflow.parentRunId"] for run in store.trials.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"


def test_params_of_a_trial_are_its_point(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    for evaluation in evaluations:
        expected = {axis: str(value) for axis, value in evaluation.point.items()}
        assert store.trials[evaluation.trial_id].data.params == expected


def test_only_complete_trials_have_a_final_miou(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    assert {evaluation.status for evaluation in evaluations} == set(TrialStatus)
    for evaluation in evaluations:
        metrics = store.trials[evaluation.trial_id].data.metrics
        if evaluation.status is TrialStatus.COMPLETE:
            assert metrics["miou"] == evaluation.scores[-1].miou
            assert metrics["miou_pct"] == pytest.approx(100 * evaluation.scores[-1].miou, abs=0.005)
        else:
            assert not {"miou", "miou_pct", "pareto_rank"} & set(metrics)


def test_best_and_final_miou_are_told_apart(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    for evaluation in evaluations:
        metrics = store.trials[evaluation.trial_id].data.metrics
        if not evaluation.scores:
            assert "best_val_miou_pct" not in metrics
            continue
        best = max(evaluation.scores, key=lambda score: score.miou)
        assert metrics["best_val_miou_pct"] == pytest.approx(100 * best.miou, abs=0.005)
        assert metrics["best_val_epoch"] == best.epoch
        assert ("miou_pct" in metrics) == (evaluation.status is TrialStatus.COMPLETE)


def test_every_trial_keeps_its_cost(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    for evaluation in evaluations:
        metrics = store.trials[evaluation.trial_id].data.metrics
        assert evaluation.cost is not None
        assert metrics["macs"] == evaluation.cost.macs
        assert metrics["flops"] == 2 * evaluation.cost.macs
        assert metrics["gmacs"] == pytest.approx(evaluation.cost.macs / 1e9, abs=0.0005)
        assert metrics["num_params"] == evaluation.cost.num_params
        assert metrics["images_per_second"] == pytest.approx(evaluation.cost.images_per_second, rel=1e-4)
        assert metrics["latency_ms_p50"] == pytest.approx(evaluation.cost.latency_ms_p50, rel=1e-4)


def test_validations_are_recorded_by_epoch(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    for evaluation in evaluations:
        run = store.trials[evaluation.trial_id]
        assert store.history(run, "val_miou") == [(score.epoch, score.miou) for score in evaluation.scores]
        losses = [(score.epoch, score.train_loss) for score in evaluation.scores]
        assert store.history(run, "train_loss") == losses


@pytest.mark.parametrize(
    ("status", "run_status"),
    [("complete", "FINISHED"), ("stopped", "KILLED"), ("infeasible", "KILLED"), ("failed", "FAILED")],
)
def test_endings_map_to_run_statuses(
    sweep: tuple[list[Evaluation], Recorded], status: str, run_status: str
) -> None:
    evaluations, store = sweep
    ended = [evaluation for evaluation in evaluations if evaluation.status == status]
    assert ended
    for evaluation in ended:
        run = store.trials[evaluation.trial_id]
        assert run.info.status == run_status
        assert run.data.tags["segsweep.status"] == status
        assert run.data.tags["segsweep.reason"] == evaluation.reason


def test_front_tags_agree_with_the_definition_of_dominance(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    complete = [evaluation for evaluation in evaluations if evaluation.status is TrialStatus.COMPLETE]
    for evaluation in evaluations:
        tags = store.trials[evaluation.trial_id].data.tags
        on_front = evaluation in complete and not any(dominates(other, evaluation) for other in complete)
        assert tags["pareto.front"] == ("true" if on_front else "false")
        assert (tags["pareto.rank"] == "0") == on_front


def test_rank_metric_is_the_last_rank_that_was_set(sweep: tuple[list[Evaluation], Recorded]) -> None:
    _, store = sweep
    ranked = [run for run in store.trials.values() if run.data.tags["pareto.rank"] != "none"]
    assert any(run.data.tags["pareto.rank"] == "1" for run in ranked)
    for run in ranked:
        assert run.data.metrics["pareto_rank"] == int(run.data.tags["pareto.rank"])


def test_progress_of_the_sweep_never_falls(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    (parent,) = store.parents
    volume = store.history(parent, "hypervolume")
    assert [step for step, _ in volume] == list(range(1, len(evaluations) + 1))
    assert all(before <= after for (_, before), (_, after) in pairwise(volume))
    size = store.history(parent, "front_size")[-1][1]
    assert size == sum(run.data.tags["pareto.front"] == "true" for run in store.trials.values())


def test_space_job_environment_and_figure_are_attached(sweep: tuple[list[Evaluation], Recorded]) -> None:
    _, store = sweep
    (parent,) = store.parents
    assert store.artifacts(parent) == {"space.yaml", "job.yaml", "environment.json", "pareto"}
    inside = [file.path for file in store.client.list_artifacts(parent.info.run_id, "pareto")]
    assert inside == ["pareto/front.png"]


def test_artifacts_lie_beside_the_database(sweep: tuple[list[Evaluation], Recorded]) -> None:
    _, store = sweep
    database = Path(store.client.tracking_uri.removeprefix("sqlite:///"))
    location = store.experiment.artifact_location
    assert location == (database.parent / "mlflow-artifacts" / EXPERIMENT).as_uri()


def test_front_run_draws_each_front_in_two_dimensions(sweep: tuple[list[Evaluation], Recorded]) -> None:
    evaluations, store = sweep
    (front,) = store.fronts
    assert front.data.tags["pareto.front"] == "true"
    complete = [e.metrics() for e in evaluations if e.status is TrialStatus.COMPLETE]
    for key, stored, sign, factor in (
        ("GMACs", "macs", 1, 1e-9),
        ("parameters in M", "num_params", 1, 1e-6),
        ("images per s", "images_per_second", -1, 1.0),
        ("median latency in ms", "latency_ms_p50", 1, 1.0),
    ):
        xs = [value for _, value in store.history(front, key)]
        ys = [value for _, value in store.history(front, f"mIoU percent over {key}")]
        members = [
            m
            for m in complete
            if not any(
                o["miou"] >= m["miou"] and sign * o[stored] <= sign * m[stored] and o is not m
                for o in complete
            )
        ]
        expected = sorted((factor * m[stored], 100 * m["miou"]) for m in members)
        assert list(zip(xs, ys, strict=True)) == [pytest.approx(point, rel=1e-4) for point in expected]


def test_hypervolume_of_two_trials_by_hand(store_uri: str) -> None:
    # corner (miou 0, macs 10): (0.5, 4) dominates 0.5 x 6; (0.6, 8) adds 0.1 x 2
    objectives = (
        Objective(metric="miou", direction="maximize"),
        Objective(metric="macs", direction="minimize"),
    )
    evaluations = [complete_trial(0, miou=0.5, macs=4), complete_trial(1, miou=0.6, macs=8)]
    tracker = MlflowTracker(store_uri, experiment=EXPERIMENT)
    tracker.start_sweep(sweep_info(objectives=objectives, reference={"macs": 10.0}))
    tell(tracker, evaluations)
    tracker.sweep_finished(evaluations, {})
    store = Recorded(store_uri, tracker.close())
    (parent,) = store.parents
    assert store.history(parent, "hypervolume") == [(1, pytest.approx(3.0)), (2, pytest.approx(3.2))]
    assert store.history(parent, "hypervolume_scaled")[-1] == (2, pytest.approx(0.32))
    assert json.loads(parent.data.tags["segsweep.hypervolume_reference"]) == {"miou": 0.0, "macs": 10.0}


def complete_trial(number: int, *, miou: float, macs: int) -> Evaluation:
    point = Point({"neck.channels": number})
    return Evaluation(
        trial_id=f"{number:04d}-{point.key}",
        number=number,
        point=point,
        status=TrialStatus.COMPLETE,
        cost=CostReport(num_params=10, macs=macs, size=(64, 64), num_classes=3),
        scores=(Score(epoch=1, fidelity=1.0, miou=miou, train_loss=1.0, seconds=1.0),),
    )


def test_sweeps_of_one_experiment_share_their_corner(store_uri: str) -> None:
    corners = []
    for sweep_id, dearest in (("first", 100), ("second", 70)):
        evaluations = [complete_trial(0, miou=0.5, macs=dearest)]
        tracker = MlflowTracker(store_uri, experiment=EXPERIMENT)
        objectives = (
            Objective(metric="miou", direction="maximize"),
            Objective(metric="macs", direction="minimize"),
        )
        tracker.start_sweep(sweep_info(sweep_id=sweep_id, name=sweep_id, objectives=objectives))
        tell(tracker, evaluations)
        link = tracker.close()
        run = open_client(store_uri).get_run(link.parent_run_id)
        corners.append(json.loads(run.data.tags["segsweep.hypervolume_reference"])["macs"])
    assert corners == [200.0, 200.0]  # twice the dearest of the first sweep


def test_resumed_sweep_goes_on_in_the_same_runs(store_uri: str) -> None:
    evaluations = recorded_sweep(6, seed=4)
    first = MlflowTracker(store_uri, experiment=EXPERIMENT)
    first.start_sweep(sweep_info())
    tell(first, evaluations[:3])
    running = evaluations[4]
    first.trial_started(running.trial_id, running.number, running.point, running.source)
    first.trial_score(running.trial_id, running.scores[0])
    interrupted = first.close()
    before = Recorded(store_uri, interrupted)
    assert before.parents[0].info.status == "KILLED"
    assert before.trials[running.trial_id].data.tags["segsweep.status"] == "interrupted"

    second = MlflowTracker(store_uri, experiment=EXPERIMENT)
    second.start_sweep(sweep_info(params={"seed": 7, "sampler": "tpe", "trials": 6}))
    for evaluation in evaluations[:3]:
        second.trial_finished(evaluation)
    tell(second, evaluations[3:], before=evaluations[:3])
    second.sweep_finished(evaluations, {})
    link = second.close()

    after = Recorded(store_uri, link)
    assert link.parent_run_id == interrupted.parent_run_id
    assert after.number_of_trial_runs == 6
    assert len(after.fronts) == 1
    assert after.parents[0].info.status == "FINISHED"
    assert after.parents[0].data.params["trials"] == "6"
    for trial_id, run in before.trials.items():
        assert after.trials[trial_id].info.run_id == run.info.run_id
    for evaluation in evaluations:
        scores = [(score.epoch, score.miou) for score in evaluation.scores]
        assert after.history(after.trials[evaluation.trial_id], "val_miou") == scores
    steps = [step for step, _ in after.history(after.parents[0], "hypervolume")]
    assert steps == list(range(1, 7))


def test_front_run_is_recreated_and_the_old_one_deleted(store_uri: str) -> None:
    evaluations = recorded_sweep(5, seed=2)
    names = []
    for count in (3, 5):
        tracker = MlflowTracker(store_uri, experiment=EXPERIMENT)
        tracker.start_sweep(sweep_info())
        tell(tracker, evaluations[:count])
        tracker.sweep_finished(evaluations[:count], {})
        (front,) = Recorded(store_uri, tracker.close()).fronts
        names.append(front.info.run_id)
    assert names[0] != names[1]
    assert open_client(store_uri).get_run(names[0]).info.lifecycle_stage == "deleted"


def test_changed_params_of_a_resumed_sweep_become_tags(store_uri: str) -> None:
    for trials in (10, 20):
        tracker = MlflowTracker(store_uri, experiment=EXPERIMENT)
        tracker.start_sweep(sweep_info(params={"trials": trials}))
        link = tracker.close()
    data = open_client(store_uri).get_run(link.parent_run_id).data
    assert data.params["trials"] == "10"
    assert data.tags["changed.trials"] == "20"


def test_sweep_finished_restores_trials_whose_events_were_lost(store_uri: str) -> None:
    evaluations = recorded_sweep(4, seed=5)
    tracker = MlflowTracker(store_uri, experiment=EXPERIMENT)
    tracker.start_sweep(sweep_info())
    tracker.sweep_finished(evaluations, {})
    store = Recorded(store_uri, tracker.close())
    assert set(store.trials) == {evaluation.trial_id for evaluation in evaluations}
    complete = [evaluation for evaluation in evaluations if evaluation.miou is not None]
    for evaluation in complete:
        assert store.trials[evaluation.trial_id].data.metrics["miou"] == evaluation.miou


def test_a_sweep_without_a_complete_trial_has_no_front_run(store_uri: str) -> None:
    failed = [e for e in recorded_sweep(20, seed=1) if e.status is TrialStatus.FAILED]
    tracker = MlflowTracker(store_uri, experiment=EXPERIMENT)
    tracker.start_sweep(sweep_info())
    tell(tracker, failed)
    tracker.sweep_finished(failed, {})
    store = Recorded(store_uri, tracker.close())
    assert store.fronts == []
    assert "hypervolume" not in store.parents[0].data.metrics
    assert store.parents[0].info.status == "FINISHED"


class LostAnswer:
    """A real client that does what it is told once, but fails to say so."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._answers = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_run(self, *args: Any, **kwargs: Any) -> Any:
        run = self._client.create_run(*args, **kwargs)
        self._answers += 1
        if self._answers == 1:
            raise TimeoutError("no answer")
        return run


def test_a_run_whose_creation_was_not_answered_is_not_created_again(store_uri: str) -> None:
    client = LostAnswer(open_client(store_uri))
    trials = TrialRuns(client, "0", info=sweep_info(), parent_run_id="p", color="#0072B2")
    (evaluation,) = recorded_sweep(1)
    with pytest.raises(TimeoutError):
        trials.finished(evaluation, at=1)
    trials.finished(evaluation, at=1)
    assert len(client.search_runs(["0"])) == 1
