"""The child runs of a sweep: one per trial, found again by its tag when a sweep is resumed."""

from __future__ import annotations

from typing import Any

from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus
from segsweep.tracking.colors import pale
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.tracker import SweepInfo
from segsweep.tracking.units import rounded

SWEEP_ID = "segsweep.sweep_id"
TRIAL_ID = "segsweep.trial_id"
RUN_KIND = "segsweep.run_kind"
STATUS = "segsweep.status"
REASON = "segsweep.reason"
COLOR = "mlflow.runColor"

RUN_STATUS = {
    TrialStatus.COMPLETE: "FINISHED",
    TrialStatus.STOPPED: "KILLED",
    TrialStatus.INFEASIBLE: "KILLED",
    TrialStatus.FAILED: "FAILED",
}
_STEPPED = ("val_miou", "train_loss")
_MEASURED = ("images_per_second", "latency_ms_p50", "latency_ms_p90", "latency_ms_p99")
BEST = "best_val_miou_pct"  # over all validations, at whatever fidelity; the final value is in miou_pct
BEST_EPOCH = "best_val_epoch"


def search(client: Any, experiment_id: str, *, kind: str, sweep_id: str | None = None) -> list[Any]:
    """All active runs of a kind, oldest first."""
    clauses = [f"tags.`{RUN_KIND}` = '{kind}'"]
    if sweep_id is not None:
        clauses.append(f"tags.`{SWEEP_ID}` = '{sweep_id}'")
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=" and ".join(clauses),
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found.extend(page)
        token = page.token
        if not token:
            return found


class TrialRuns:
    """Writes trials; the caller gives the time of each event in ms since the epoch."""

    def __init__(
        self,
        client: Any,
        experiment_id: str,
        *,
        info: SweepInfo,
        parent_run_id: str,
        color: str,
        label: str | None = None,
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._info = info
        self._parent_run_id = parent_run_id
        self._color = color
        self._label = label or info.method
        self._ranks: dict[str, int] = {}
        self._creating: set[str] = set()
        self._writers = {
            run.data.tags[TRIAL_ID]: RunWriter.reopen(client, run, stepped=_STEPPED)
            for run in search(client, experiment_id, kind="trial", sweep_id=info.sweep_id)
            if TRIAL_ID in run.data.tags
        }
        for trial_id, writer in self._writers.items():  # a rank that is recorded is not sent again
            if writer.tag("pareto.rank").isdecimal():
                self._ranks[trial_id] = int(writer.tag("pareto.rank"))

    def started(self, trial_id: str, *, number: int, point: Point, source: str, at: int) -> None:
        """Open the trial's run, or the one that it had before the sweep was interrupted."""
        writer = self._writer(trial_id, number=number, source=source, at=at)
        writer.reopen_status()
        writer.params(point)
        writer.tags({STATUS: "running", "segsweep.source": source})

    def cost(self, trial_id: str, cost: CostReport, *, at: int) -> None:
        """Record exact cost and, where measured, speed."""
        self._writer(trial_id, at=at).metrics(_cost_metrics(cost), step=0, timestamp_ms=at)

    def score(self, trial_id: str, score: Score, *, at: int) -> None:
        """Record one validation with its epoch as the step."""
        values = {"val_miou": score.miou, "train_loss": score.train_loss}
        self._writer(trial_id, at=at).metrics(values, step=score.epoch, timestamp_ms=at)

    def finished(self, evaluation: Evaluation, *, at: int) -> None:
        """Record how the trial ended, with everything that an earlier call may have lost."""
        writer = self._writer(evaluation.trial_id, number=evaluation.number, source=evaluation.source, at=at)
        writer.params(evaluation.point)
        if evaluation.cost is not None:
            self.cost(evaluation.trial_id, evaluation.cost, at=at)
        for score in evaluation.scores:
            self.score(evaluation.trial_id, score, at=at)
        final = {"fidelity": evaluation.fidelity, "trial_seconds": evaluation.seconds}
        if evaluation.miou is not None:  # only of a complete trial: a low-fidelity mIoU is not a result
            final.update({"miou": evaluation.miou, **dict([rounded("miou", evaluation.miou)])})
        final.update(_best(evaluation))
        writer.metrics(final, step=0, timestamp_ms=at)
        writer.tags(
            {
                STATUS: str(evaluation.status),
                REASON: evaluation.reason,
                "segsweep.source": evaluation.source,
                "segsweep.point": evaluation.point.key,
            }
        )
        writer.terminate(RUN_STATUS[evaluation.status], timestamp_ms=at)

    def ranked(self, ranks: dict[str, int], *, step: int, at: int) -> None:
        """Set front membership, rank and colour of every trial; what did not change is not sent.

        ``step`` must grow: of two values at one step MLflow shows the larger, not the later.
        """
        for trial_id, writer in self._writers.items():
            rank = ranks.get(trial_id)
            member = rank == 0
            writer.tags(
                {
                    "pareto.front": "true" if member else "false",
                    "pareto.rank": "none" if rank is None else str(rank),
                    COLOR: self._color if member else pale(self._color),
                }
            )
            if rank is not None and self._ranks.get(trial_id) != rank:
                self._ranks[trial_id] = rank
                writer.metrics({"pareto_rank": rank}, step=step, timestamp_ms=at)

    def abandon(self, reason: str, *, at: int) -> None:
        """End the runs that are still open: their trials never told how they ended."""
        for writer in self._writers.values():
            if writer.status == "RUNNING":
                writer.tags({STATUS: "interrupted", REASON: reason})
                writer.terminate("KILLED", timestamp_ms=at)

    def flush(self) -> None:
        """Write what is collected: one call per run that has something new."""
        for writer in self._writers.values():
            writer.flush()

    def _writer(self, trial_id: str, *, number: int | None = None, source: str = "", at: int) -> RunWriter:
        if trial_id not in self._writers:
            # a creation whose answer was lost may have happened: look before creating it again
            run = self._found(trial_id) if trial_id in self._creating else None
            self._creating.add(trial_id)
            run = run or self._create(trial_id, number=number, source=source, at=at)
            self._creating.discard(trial_id)
            self._writers[trial_id] = RunWriter.reopen(self._client, run, stepped=_STEPPED)
        return self._writers[trial_id]

    def _found(self, trial_id: str) -> Any:
        runs = search(self._client, self._experiment_id, kind="trial", sweep_id=self._info.sweep_id)
        return next((run for run in runs if run.data.tags.get(TRIAL_ID) == trial_id), None)

    def _create(self, trial_id: str, *, number: int | None, source: str, at: int) -> Any:
        # method and number first: the UI cuts long names at the end; colour and parent tell the sweep
        name = f"{self._label}-t{number:03d}" if number is not None else f"{self._label}-{trial_id}"
        kind, _, seed = source.partition(":")
        tags = {
            "mlflow.parentRunId": self._parent_run_id,
            RUN_KIND: "trial",
            SWEEP_ID: self._info.sweep_id,
            TRIAL_ID: trial_id,
            STATUS: "running",
            "segsweep.method": self._info.method,
            "pareto.front": "false",
            "pareto.rank": "none",
            COLOR: pale(self._color),
        }
        return self._client.create_run(
            self._experiment_id,
            start_time=at,
            tags=tags,
            run_name=f"{name} {seed}" if kind == "seed" and seed else name,
        )


def _best(evaluation: Evaluation) -> dict[str, float]:
    """The best validation of a trial and its epoch; nothing of a trial that was never validated."""
    if not evaluation.scores:
        return {}
    best = max(evaluation.scores, key=lambda score: score.miou)
    return {BEST: rounded("miou", best.miou)[1], BEST_EPOCH: float(best.epoch)}


def _cost_metrics(cost: CostReport) -> dict[str, float]:
    names = (
        "macs",
        "flops",
        "num_params",
        "images_per_second",
        "latency_ms_p50",
        "latency_ms_p90",
        "latency_ms_p99",
    )
    values = {name: getattr(cost, name) for name in names}
    stored = {name: float(value) for name, value in values.items() if value is not None}
    readable = dict(rounded(name, value) for name, value in stored.items() if name in ("macs", "num_params"))
    # speed is no more exact than that, and MLflow's table prints every digit
    speed = {name: float(f"{value:.5g}") for name, value in stored.items() if name in _MEASURED}
    return {**stored, **speed, **readable}
