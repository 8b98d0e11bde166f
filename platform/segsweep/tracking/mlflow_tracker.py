"""A sweep in MLflow: parent run = sweep, child run = trial, and one ``front`` run that draws the fronts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from segsweep.pareto.front import front_of
from segsweep.records import CostReport, Evaluation, Point, Score
from segsweep.tracking import baselines, comparison, page_text, trial_runs, views
from segsweep.tracking.artifacts import attach
from segsweep.tracking.background import BackgroundRunLogger, BackgroundTracker
from segsweep.tracking.colors import method_color
from segsweep.tracking.failures import Refusals
from segsweep.tracking.fronts import FrontProgress, fixed_reference, ranks
from segsweep.tracking.run_logger import MlflowRunLogger
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.store import ensure_experiment, open_client, resolve_uri, ui_base
from segsweep.tracking.tracker import MlflowLink, ParamValue, SweepInfo
from segsweep.tracking.trial_runs import BEST, COLOR, RUN_KIND, STATUS, SWEEP_ID, TrialRuns
from segsweep.tracking.view_states import Axes

__all__ = ["BackgroundRunLogger", "BackgroundTracker", "MlflowRunLogger", "MlflowTracker"]

INTERRUPTED = "interrupted"
_STEPPED = ("hypervolume", "hypervolume_scaled", "front_size")


class MlflowTracker:
    """Writes a sweep with explicit run ids; every call may be repeated without harm.

    Calls collect what is to be written; ``flush``, ``trial_finished``, ``sweep_finished`` and ``close``
    write it. The first call connects, and the next one tries again if that failed. Wrap it in a
    ``BackgroundTracker`` wherever time matters.
    """

    def __init__(self, tracking_uri: str, *, experiment: str) -> None:
        self._uri = resolve_uri(tracking_uri)
        self._experiment = experiment
        self._experiment_id = ""
        self._client: Any = None
        self._info: SweepInfo | None = None
        self._parent: RunWriter | None = None
        self._trials: TrialRuns | None = None
        self._ended: dict[str, Evaluation] = {}
        self._progress: FrontProgress | None = None
        self._color = ""
        self._label = ""
        self._finished = False
        self._now: int | None = None

    def at(self, timestamp_ms: int | None) -> None:
        """State when the next events happened, if that was not just now."""
        self._now = timestamp_ms

    def recall(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn how trials ended whose events another process recorded, in order of their end."""
        told = {evaluation.trial_id: evaluation for evaluation in evaluations}
        later = {trial_id: item for trial_id, item in self._ended.items() if trial_id not in told}
        self._ended = told | later

    def start_sweep(self, info: SweepInfo) -> None:
        """Open the parent run; params, space, job and environment are attached once."""
        self._info = info
        parent = self._connected()[0]
        parent.flush()
        if not comparison.has_page(self._client, self._experiment_id):
            self._write_page(Axes())

    def trial_started(self, trial_id: str, number: int, point: Point, source: str) -> None:
        """Open the child run of a trial; its params are the point."""
        self._connected()[1].started(trial_id, number=number, point=point, source=source, at=self._time())

    def trial_cost(self, trial_id: str, cost: CostReport) -> None:
        """Record what the trial's model costs."""
        self._connected()[1].cost(trial_id, cost, at=self._time())

    def trial_score(self, trial_id: str, score: Score) -> None:
        """Record one validation of a trial."""
        self._connected()[1].score(trial_id, score, at=self._time())

    def trial_finished(self, evaluation: Evaluation) -> None:
        """Record how a trial ended and end its run."""
        self._ended[evaluation.trial_id] = evaluation
        self._connected()[1].finished(evaluation, at=self._time())

    def front_updated(self, evaluations: Sequence[Evaluation]) -> None:
        """Record membership, ranks, hypervolume and size of the front of all trials that ended so far."""
        self.recall(evaluations)
        parent, trials = self._connected()
        objectives = self._sweep().objectives
        trials.ranked(ranks(evaluations, objectives), step=len(evaluations), at=self._time())
        reference = self._reference(evaluations)
        if reference is None:
            return
        so_far = self._progress_before(evaluations, reference)
        for step, evaluation in enumerate(evaluations[len(so_far.trials) :], start=len(so_far.trials) + 1):
            so_far.add(evaluation)
            if not parent.has_metric("hypervolume", step):
                parent.metrics(so_far.metrics(), step=step, timestamp_ms=self._time())

    def sweep_finished(
        self, evaluations: Sequence[Evaluation], figures: Mapping[str, Path], *, interrupted: bool = False
    ) -> None:
        """Write every trial again where something was lost, end the run, then all that explains it.

        Raises:
            RecordRefused: After everything else, if the store refuses front run, figures or descriptions.
        """
        parent, trials = self._connected()
        for evaluation in evaluations:
            trials.finished(evaluation, at=self._time())
        self.front_updated(evaluations)
        ending = "the sweep was interrupted" if interrupted else "the sweep ended before this trial did"
        trials.abandon(ending, at=self._time())
        parent.tags(page_text.sweep_tags(evaluations, self._sweep().objectives, self._reference(evaluations)))
        parent.tags({STATUS: INTERRUPTED if interrupted else "complete"})
        self.flush()
        extras = Refusals()
        extras.attempt(lambda: self._write_front_run(evaluations))
        parent.terminate("KILLED" if interrupted else "FINISHED", timestamp_ms=self._time())
        self._finished = True
        self._explain(evaluations, figures, extras)
        extras.tell()

    def _explain(
        self, evaluations: Sequence[Evaluation], figures: Mapping[str, Path], extras: Refusals
    ) -> None:
        """Published figures, pictures, descriptions and views: what a reader of the sweep is shown."""
        parent = self._connected()[0]
        shown: list[str] = []
        extras.attempt(self._write_baselines)
        for name, path in figures.items():
            extras.attempt(partial(self._attach, name, path, shown))
        text = page_text.front_table(evaluations, self._sweep().objectives)
        parent.tags({views.NOTE_TAG: views.sweep_note(self._experiment_id, parent.run_id, shown, text)})
        extras.attempt(parent.flush)
        extras.attempt(lambda: self._write_page(Axes.of(evaluation.point for evaluation in evaluations)))

    def flush(self) -> None:
        """Write what is collected: one call per run that has something new."""
        if self._trials is not None and self._parent is not None:
            self._trials.flush()
            self._parent.flush()

    def link(self) -> MlflowLink:
        """Where the sweep is, as far as it is known now."""
        known = bool(self._experiment_id)
        return MlflowLink(
            tracking_uri=self._uri,
            experiment_id=self._experiment_id,
            parent_run_id=self._parent.run_id if self._parent else "",
            url=views.comparison_url(ui_base(self._uri), self._experiment_id) if known else "",
        )

    def close(self) -> MlflowLink:
        """Write what is left; a sweep whose end was not told was interrupted, and can be resumed."""
        if self._parent is not None and self._trials is not None and not self._finished:
            self.sweep_finished(tuple(self._ended.values()), {}, interrupted=True)
        self.flush()
        return self.link()

    def _time(self) -> int:
        return self._now if self._now is not None else time.time_ns() // 1_000_000

    def _sweep(self) -> SweepInfo:
        if self._info is None:
            raise RuntimeError("start_sweep must be the first call to a tracker")
        return self._info

    def _connected(self) -> tuple[RunWriter, TrialRuns]:
        info = self._sweep()
        if self._client is None:
            self._client = open_client(self._uri)
        if not self._experiment_id:
            self._experiment_id = ensure_experiment(self._client, self._uri, self._experiment)
        if self._parent is None:
            self._parent = self._open_parent(info)
        if self._trials is None:
            self._trials = TrialRuns(
                self._client,
                self._experiment_id,
                info=info,
                parent_run_id=self._parent.run_id,
                color=self._color,
                label=self._label,
            )
        return self._parent, self._trials

    def _open_parent(self, info: SweepInfo) -> RunWriter:
        """The sweep's run with its params and artifacts, whichever call came first to reach the store."""
        parent = self._find_parent(info)
        parent.reopen_status()
        parent.params({**info.params, **_conventions(info)})
        parent.tags({STATUS: "running"})
        parent.metrics({views.RANK: views.SWEEP_RANK}, step=0, timestamp_ms=self._time())
        for name, text in info.artifacts.items():
            self._client.log_text(parent.run_id, text, name)
        return parent

    def _find_parent(self, info: SweepInfo) -> RunWriter:
        sweeps = trial_runs.search(self._client, self._experiment_id, kind="sweep")
        for run in sweeps:
            if run.data.tags[SWEEP_ID] == info.sweep_id:
                self._color = run.data.tags.get(COLOR, method_color(info.method))
                self._label = run.data.tags.get(page_text.LABEL, info.method)
                return RunWriter.reopen(self._client, run, stepped=_STEPPED)
        earlier = sum(run.data.tags.get("segsweep.method") == info.method for run in sweeps)
        self._color = method_color(info.method, earlier)
        self._label = f"{info.method}.{earlier + 1}" if earlier else info.method
        tags = {
            RUN_KIND: "sweep",
            SWEEP_ID: info.sweep_id,
            "segsweep.method": info.method,
            page_text.LABEL: self._label,
            COLOR: self._color,
        }
        run = self._client.create_run(
            self._experiment_id, start_time=self._time(), tags=tags, run_name=info.name
        )
        return RunWriter.reopen(self._client, run, stepped=())

    def _progress_before(
        self, evaluations: Sequence[Evaluation], reference: Mapping[str, float]
    ) -> FrontProgress:
        """The progress up to some of the first evaluations: as far as it was followed, if in this order."""
        so_far = self._progress
        if so_far is None or so_far.trials != [item.trial_id for item in evaluations[: len(so_far.trials)]]:
            so_far = self._progress = FrontProgress(self._sweep().objectives, reference)
        return so_far

    def _reference(self, evaluations: Sequence[Evaluation]) -> dict[str, float] | None:
        """Corner of the hypervolume by metric; ``None`` before the first complete trial."""
        info, parent = self._sweep(), self._connected()[0]
        recorded = parent.tag(comparison.REFERENCE)
        if recorded:
            return dict(json.loads(recorded))
        if not front_of(evaluations, info.objectives):
            return None
        shared = comparison.shared_reference(self._client, self._experiment_id)
        reference = fixed_reference(evaluations, info.objectives, given={**shared, **info.reference})
        parent.tags({comparison.REFERENCE: json.dumps(reference)})
        if not shared:
            comparison.share_reference(self._client, self._experiment_id, reference)
        return reference

    def _write_front_run(self, evaluations: Sequence[Evaluation]) -> None:
        comparison.write_front_run(
            self._client,
            self._experiment_id,
            evaluations,
            info=self._sweep(),
            color=self._color,
            reference=self._reference(evaluations),
            at=self._time(),
            label=self._label,
        )

    def _attach(self, name: str, path: Path, shown: list[str]) -> None:
        shown.append(attach(self._client, self._connected()[0].run_id, name, path))

    def _write_baselines(self) -> None:
        text = self._sweep().artifacts.get(baselines.ARTIFACT)
        if text:
            baselines.write_baselines(self._client, self._experiment_id, text, at=self._time())

    def _write_page(self, axes: Axes) -> None:
        comparison.write_page(
            self._client, self._experiment_id, objectives=self._sweep().objectives, axes=axes, at=self._time()
        )


def _conventions(info: SweepInfo) -> dict[str, ParamValue]:
    return {
        "method": info.method,
        "objectives": ", ".join(f"{objective.direction} {objective.metric}" for objective in info.objectives),
        "convention.macs": "per image, 1 MAC = 2 FLOPs, matmuls included; gmacs = macs / 1e9",
        "convention.miou": "one confusion matrix over the validation split, in [0, 1]; miou_pct = 100 x miou",
        "convention.miou_final": "only complete trials have miou; every validation is in val_miou",
        "convention.miou_best": f"{BEST} is the best validation of a trial, also of one that was stopped",
        "convention.hypervolume": (
            f"stored units of the objectives, corner in the tag {comparison.REFERENCE}; "
            "hypervolume_scaled = hypervolume / product of the minimised corners"
        ),
    }
