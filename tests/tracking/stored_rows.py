"""Everything that an MLflow store holds of one experiment, read with MLflow's own client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from segsweep.records import Evaluation, TrialStatus
from segsweep.tracking.store import open_client
from segsweep.tracking.tracker import Tracker

Row = tuple[str, int, int, float]  # metric, step, timestamp in ms, value
STATUSES = {TrialStatus.COMPLETE: "FINISHED", TrialStatus.FAILED: "FAILED"}


class Stored:
    """The active runs of an experiment with every row of every metric.

    Args:
        uri: Address of the store.
        experiment: Name of the experiment.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        client = open_client(uri)
        self.experiment = client.get_experiment_by_name(experiment)
        self.runs = list(client.search_runs([self.experiment.experiment_id], max_results=5000))
        self.rows: dict[str, list[Row]] = {
            run.info.run_id: sorted(
                (row.key, row.step, row.timestamp, row.value)
                for key in run.data.metrics
                for row in client.get_metric_history(run.info.run_id, key)
            )
            for run in self.runs
        }

    def of_kind(self, kind: str) -> list[Any]:
        """Runs by their tag."""
        return [run for run in self.runs if run.data.tags["segsweep.run_kind"] == kind]

    def trial(self, trial_id: str) -> Any:
        """The one run of a trial."""
        (run,) = [run for run in self.of_kind("trial") if run.data.tags["segsweep.trial_id"] == trial_id]
        return run

    def history(self, run: Any, key: str) -> list[tuple[int, float]]:
        """Steps and values of a metric, every row of it."""
        return [(step, value) for name, step, _, value in self.rows[run.info.run_id] if name == key]

    def doubled(self) -> list[tuple[str, str, int]]:
        """Run, metric and step of all that is recorded more than once."""
        return [
            (run.info.run_name, key, step)
            for run in self.runs
            for (key, step), count in Counter((row[0], row[1]) for row in self.rows[run.info.run_id]).items()
            if count > 1
        ]

    def contents(self) -> dict[str, Any]:
        """All of it but the random ids of runs, to be compared with another reading."""
        names = {run.info.run_id: run.info.run_name for run in self.runs}

        def named(text: str) -> str:
            for run_id, name in names.items():
                text = text.replace(run_id, name)
            return text

        runs = {
            run.info.run_name: {
                "rows": self.rows[run.info.run_id],
                "params": dict(run.data.params),
                "tags": {key: named(value) for key, value in run.data.tags.items()},
                "status": run.info.status,
                "times": (run.info.start_time, run.info.end_time),
            }
            for run in self.runs
        }
        assert len(runs) == len(self.runs), "two runs of one name"
        return {"runs": runs, "tags": {key: named(value) for key, value in self.experiment.tags.items()}}


def tell(tracker: Tracker, evaluations: Sequence[Evaluation], *, before: Sequence[Evaluation] = ()) -> None:
    """The events of trials, one trial after the other, as a sweep's driver tells them."""
    done = list(before)
    for evaluation in evaluations:
        tracker.trial_started(evaluation.trial_id, evaluation.number, evaluation.point, evaluation.source)
        assert evaluation.cost is not None
        tracker.trial_cost(evaluation.trial_id, evaluation.cost)
        for score in evaluation.scores:
            tracker.trial_score(evaluation.trial_id, score)
        tracker.trial_finished(evaluation)
        done.append(evaluation)
        tracker.front_updated(done)


def assert_holds_once(stored: Stored, evaluations: Sequence[Evaluation]) -> None:
    """Every trial has one run, and every metric of it is there at every step exactly once."""
    assert stored.doubled() == []
    assert len(stored.of_kind("trial")) == len(evaluations)
    for evaluation in evaluations:
        run = stored.trial(evaluation.trial_id)
        scores = evaluation.scores
        assert stored.history(run, "val_miou") == [(score.epoch, score.miou) for score in scores]
        assert stored.history(run, "train_loss") == [(score.epoch, score.train_loss) for score in scores]
        assert evaluation.cost is not None
        assert stored.history(run, "macs") == [(0, float(evaluation.cost.macs))]
        assert stored.history(run, "num_params") == [(0, float(evaluation.cost.num_params))]
        assert stored.history(run, "miou") == ([(0, evaluation.miou)] if evaluation.miou is not None else [])
        assert run.info.status == STATUSES.get(evaluation.status, "KILLED")
