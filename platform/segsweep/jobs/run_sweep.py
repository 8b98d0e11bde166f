"""Run a sweep job: check, prepare data, search, record, draw."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from segsweep.data.shards import ShardSet
from segsweep.distributed.controller import Budget, SweepListener
from segsweep.distributed.sweep import SweepOutcome, SweepPlan, only_one_driver, run_sweep
from segsweep.files import write_whole
from segsweep.jobs.bill import kept_bill
from segsweep.jobs.check import check_job, sweep_space
from segsweep.jobs.common import experiment_name, gpus_or_default, prepared, scratch_folder, tracking_uri
from segsweep.jobs.environment import environment
from segsweep.jobs.finished_sweep import SPACE, open_sweep, remember_conditions
from segsweep.jobs.folders import SWEEPS, remember, run_folder
from segsweep.jobs.initial_weights import initial_weights
from segsweep.jobs.news import Say, silent
from segsweep.jobs.published import published_artifacts
from segsweep.jobs.result import SweepResult
from segsweep.jobs.spec import SweepJob
from segsweep.jobs.sweep_report import FIGURE, REPORT, write_sweep_report
from segsweep.pareto.front import front_of, objective_values
from segsweep.pareto.hypervolume import hypervolume, reference_point
from segsweep.records import CostReport, Evaluation, Objective, Score
from segsweep.reporting.figures import pareto_figure
from segsweep.reporting.tables import evaluations_table, front_markdown
from segsweep.search.space import SearchSpace
from segsweep.tracking.background import BackgroundTracker
from segsweep.tracking.durable import durable_tracker
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.tracker import SweepInfo, Tracker
from segsweep.trial import TrialTask, training_size

MAY_CHANGE = (  # settings that a resume may change
    "out",
    "tracking",
    "data.root",
    "sweep.trials",
    "sweep.max_minutes",
    "sweep.max_infeasible",
    "sweep.keep_models",
    "sweep.reference",
)


def run_sweep_job(
    job: SweepJob,
    *,
    where: str = "job",
    resume: str | None = None,
    sweep_id: str | None = None,
    listeners: Sequence[SweepListener] = (),
    say: Say = silent,
) -> SweepResult:
    """Run a sweep to its end, or until Ctrl-C.

    Args:
        job: The checked job.
        where: Name of the job in messages.
        resume: Id of an interrupted sweep, or ``latest``.
        sweep_id: Name of a new sweep; by default the job's name and the time.
        listeners: Told of every event, for example a progress display.
        say: Takes one line of news at a time.

    Raises:
        InvalidInput: If the job is wrong; nothing has started then.
        DataError: If the data cannot be prepared, or a journal does not fit.
    """
    check_job(job, where=where)
    folder = run_folder(job.out / SWEEPS, job.name, resume=resume, new_id=sweep_id)
    space = sweep_space(job)
    with only_one_driver(folder):
        remember(folder, job.model_dump(mode="json"), may_change=MAY_CHANGE, space=space.digest)
        shutil.copyfile(job.space, folder / SPACE)
        shards = prepared(job.data, job.out, say=say)
        training_size(shards)  # refuses mixed sizes before a worker starts
        job.recipe.for_images(shards.counts.get("train", 0))  # and a warm-up that lasts to the end
        remember_conditions(folder, shards)
        plan = sweep_plan(job, space, shards, folder)
        tracker = durable_tracker(tracking_uri(job), experiment=experiment_name(job), spool=folder / SPOOL)
        try:
            watcher = TrackerListener(tracker, _info(job, space, shards, folder.name))
            say(f"sweep {folder.name}: {job.sweep.trials} trials, at most {job.recipe.epochs} epochs each")
            with kept_bill(folder, cpus_per_trial=plan.cpus_per_trial, gpus_per_trial=plan.gpus_per_trial):
                outcome = run_sweep(plan, listeners=[watcher, *listeners], resume=resume is not None)
            watcher.start()
            return _conclude(job, folder, outcome, tracker, say=say)
        finally:
            tracker.close()


def sweep_plan(job: SweepJob, space: SearchSpace, shards: ShardSet, folder: Path) -> SweepPlan:
    """The plan of a job."""
    sweep = job.sweep
    cpus = sweep.cpus_per_trial or max(1, (os.cpu_count() or 1) // sweep.workers)
    gpus = gpus_or_default(sweep.gpus_per_trial)
    task = TrialTask(
        space=space,
        fixed=job.fixed,
        recipe=job.recipe,
        shards=shards.path.resolve(),
        scratch=scratch_folder(job.out),
        seed=sweep.seed,
        rung_epochs=frozenset(sweep.rungs),
        speed=job.speed,
        threads=cpus,
        use_gpu=gpus > 0,
        weights=initial_weights(job.weights) if job.weights else None,
    )
    return SweepPlan(
        folder=folder,
        task=task,
        budget=Budget(
            trials=sweep.trials, max_infeasible=sweep.max_infeasible, max_minutes=sweep.max_minutes
        ),
        seed=sweep.seed,
        sampler=sweep.sampler,
        use_seeds=sweep.use_seeds,
        keep_models=sweep.keep_models == "front",
        objectives=sweep.objective_records(),
        rungs=tuple(epoch / job.recipe.epochs for epoch in sweep.rungs),
        eta=sweep.eta,
        workers=sweep.workers,
        cpus_per_trial=cpus,
        gpus_per_trial=gpus,
        num_cpus=max(cpus * sweep.workers, os.cpu_count() or 1),
    )


class TrackerListener:
    """Tells a tracker what a sweep does.

    The tracker starts with the first trial: MLflow's import and Ray's start would only hold up each other.
    """

    def __init__(self, tracker: Tracker, info: SweepInfo) -> None:
        self._tracker, self._info = tracker, info
        self._started = False

    def start(self) -> None:
        """Open the sweep's run, once."""
        if not self._started:
            self._started = True
            self._tracker.start_sweep(self._info)

    def trial_started(self, stub: Evaluation) -> None:
        """Open the trial's run."""
        self.start()
        self._tracker.trial_started(stub.trial_id, stub.number, stub.point, stub.source)

    def trial_cost(self, stub: Evaluation, cost: CostReport) -> None:
        """Record the cost."""
        self._tracker.trial_cost(stub.trial_id, cost)

    def trial_score(self, stub: Evaluation, score: Score) -> None:
        """Record a validation."""
        self._tracker.trial_score(stub.trial_id, score)

    def trial_finished(self, evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> None:
        """Record the end, and the front if it may have changed."""
        self._tracker.trial_finished(evaluation)
        if evaluation.miou is not None:
            self._tracker.front_updated(tuple(evaluations))


def _info(job: SweepJob, space: SearchSpace, shards: ShardSet, sweep_id: str) -> SweepInfo:
    size = shards.size or (0, 0)
    return SweepInfo(
        sweep_id=sweep_id,
        name=sweep_id,
        method=space.method,
        objectives=job.sweep.objective_records(),
        params={
            "space": space.name,
            "space_digest": space.digest,
            "data": job.data.source,
            "data_digest": shards.digest,
            "input_size": f"{size[0]}x{size[1]}",
            "num_classes": shards.info.num_classes,
            "epochs": job.recipe.epochs,
            "rungs": json.dumps(list(job.sweep.rungs)),
            "trials": job.sweep.trials,
            "sampler": job.sweep.sampler,
            "seed": job.sweep.seed,
            "workers": job.sweep.workers,
        },
        artifacts={
            "space.yaml": Path(job.space).read_text(),
            "job.json": json.dumps(job.model_dump(mode="json"), indent=1),
            "environment.json": json.dumps(environment(), indent=1),
            **published_artifacts(job, space, size=size),
        },
        reference=dict(job.sweep.reference),
    )


def _conclude(
    job: SweepJob, folder: Path, outcome: SweepOutcome, tracker: BackgroundTracker, *, say: Say
) -> SweepResult:
    """Write tables, figure and report, record the final front, also of a sweep that was interrupted."""
    import pyarrow.parquet as pq

    evaluations, objectives = outcome.evaluations, job.sweep.objective_records()
    front = tuple(front_of(evaluations, objectives))
    reference, volume = _hypervolume(evaluations, objectives, job.sweep.reference)
    pq.write_table(evaluations_table(evaluations), folder / "evaluations.parquet")
    write_whole(folder / "front.md", front_markdown(evaluations, objectives))
    figure = None
    if front:
        figure = pareto_figure(evaluations, objectives, f"{folder.name}", folder / FIGURE)
    shown = {FIGURE: figure, REPORT: _report(folder, say=say)}
    figures = {name: path for name, path in shown.items() if path is not None}
    tracker.sweep_finished(evaluations, figures, interrupted=outcome.interrupted)
    return SweepResult(
        sweep_id=folder.name,
        folder=folder,
        objectives=objectives,
        evaluations=evaluations,
        front=front,
        hypervolume=volume,
        reference=reference,
        interrupted=outcome.interrupted,
        exhausted=outcome.exhausted,
        mlflow=tracker.close(),
        figure=figure,
    )


def _report(folder: Path, *, say: Say) -> Path | None:
    """The sweep's HTML report; ``None`` with a line of news if it cannot be made: the sweep is well."""
    try:
        return write_sweep_report([open_sweep(folder)], to=folder / REPORT).report
    except Exception as error:  # whatever a picture or a full disk raises: the end has to be recorded
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        again = f"make it later with `segsweep report {folder}`"
        say(f"no {REPORT} ({type(error).__name__}: {reason}); {again}")
        return None


def _hypervolume(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], given: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    """Reference point by metric, and the front's hypervolume there (0 without a complete trial)."""
    _, values = objective_values(evaluations, objectives)
    if len(values) == 0:
        return dict(given), 0.0
    corner = reference_point(evaluations, objectives, given=given)
    names = [objective.metric for objective in objectives]
    volume = hypervolume(values, corner, [objective.maximize for objective in objectives])
    return dict(zip(names, map(float, corner), strict=True)), volume
