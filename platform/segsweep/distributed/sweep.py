"""Run a sweep of one-worker trials on Ray Tune."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from segsweep.distributed.controller import Budget, SweepController, SweepListener
from segsweep.distributed.model_keeper import ModelKeeper
from segsweep.distributed.ray_session import ray_session, require_resources
from segsweep.errors import EnvironmentProblem
from segsweep.files import DRIVER_LOCK
from segsweep.records import DEFAULT_OBJECTIVES, Evaluation, Objective
from segsweep.search.journal import END, JOURNAL, Journal
from segsweep.search.promotion import RungRule
from segsweep.search.study import Study
from segsweep.trial import TrialTask


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """Everything that decides what a sweep does.

    Attributes:
        folder: The sweep's own folder: journal, logs.
        task: What all trials share.
        budget: When it ends.
        rungs: Fidelities in (0, 1) at which trials may be stopped, rising.
        eta: One trial in ``eta`` goes on at a rung.
        workers: Trials at the same time.
        cpus_per_trial: Ray CPUs of one trial, also its torch threads.
        gpus_per_trial: Ray GPUs of one trial; may be a fraction.
        keep_models: Whether the networks of the front stay in the folder.
    """

    folder: Path
    task: TrialTask
    budget: Budget
    seed: int = 0
    sampler: str = "tpe"
    objectives: tuple[Objective, ...] = DEFAULT_OBJECTIVES
    rungs: tuple[float, ...] = ()
    eta: float = 3.0
    workers: int = 1
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    num_cpus: int | None = None
    use_seeds: bool = True
    keep_models: bool = True


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """How a sweep ended."""

    evaluations: tuple[Evaluation, ...]
    interrupted: bool
    exhausted: bool = field(default=False)


def run_sweep(
    plan: SweepPlan, *, listeners: Sequence[SweepListener] = (), resume: bool = False
) -> SweepOutcome:
    """Run a sweep to its end, or until Ctrl-C.

    Args:
        plan: What to do.
        listeners: Told of every event, in the driver.
        resume: Replay the folder's journal first.

    Returns:
        All evaluations, those of the replayed journal included.

    Raises:
        EnvironmentProblem: If a journal exists and ``resume`` was not asked for, or no node has the
            resources of a trial.
        DataError: If the journal does not fit the plan.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(plan.folder / JOURNAL)
    keeper = ModelKeeper(plan.folder, plan.objectives)
    controller = build_controller(plan, journal, [keeper, *listeners] if plan.keep_models else listeners)
    events = journal.read()
    if events and not resume:
        raise EnvironmentProblem(f"{plan.folder} holds a sweep already; add --resume, or choose another id")
    controller.restore(events)
    if plan.keep_models:
        keeper.tidy(controller.evaluations)
    if not controller.finished:
        with ray_session(num_cpus=plan.num_cpus):
            require_resources(cpus=plan.cpus_per_trial, gpus=plan.gpus_per_trial)
            _run_on_tune(plan, controller)
        journal.append(
            {"type": END, "interrupted": not controller.finished, "exhausted": controller.exhausted}
        )
    return SweepOutcome(
        evaluations=tuple(controller.evaluations),
        interrupted=not controller.finished,
        exhausted=controller.exhausted,
    )


def build_controller(
    plan: SweepPlan, journal: Journal, listeners: Sequence[SweepListener] = ()
) -> SweepController:
    """The controller of a plan, before anything was asked."""
    study = Study(
        plan.task.space,
        objectives=plan.objectives,
        seed=plan.seed,
        sampler=plan.sampler,
        use_seeds=plan.use_seeds,
    )
    rule = RungRule(rungs=plan.rungs, eta=plan.eta, objectives=plan.objectives)
    return SweepController(
        study, rule, journal, budget=plan.budget, workers=plan.workers, listeners=listeners
    )


def _run_on_tune(plan: SweepPlan, controller: SweepController) -> None:
    from ray import tune

    from segsweep.distributed.searcher import ControlledSearcher, ParetoScheduler
    from segsweep.distributed.trainable import TrialActor

    searcher = ControlledSearcher(controller)
    task = dataclasses.replace(plan.task, models=plan.folder.resolve() if plan.keep_models else None)
    tune.run(
        tune.with_parameters(TrialActor, task=pickle.dumps(task), logs=plan.folder.resolve() / "logs"),
        name="tune",
        storage_path=str(plan.folder.resolve()),
        search_alg=searcher,
        scheduler=ParetoScheduler(controller, searcher),
        num_samples=-1,
        resources_per_trial={"cpu": plan.cpus_per_trial, "gpu": plan.gpus_per_trial},
        reuse_actors=True,
        max_failures=1,
        raise_on_failed_trial=False,
        verbose=0,
    )
    if searcher.error:
        raise searcher.error


@contextmanager
def only_one_driver(folder: Path) -> Iterator[None]:
    """Hold a sweep's or training's folder against a second process.

    Raises:
        EnvironmentProblem: If another process holds it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / DRIVER_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EnvironmentProblem(
            f"another process works in {folder} now; wait for it to end, or start one of your own"
        ) from None
    else:
        yield
    finally:
        os.close(descriptor)
