"""Run a chain of jobs: each step once, with what the steps before it made; an interrupted chain goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from segsweep.distributed.sweep import only_one_driver
from segsweep.errors import InvalidJob, Problem, SegsweepError
from segsweep.files import write_whole
from segsweep.jobs import run_pseudo_labels, run_sweep, run_train
from segsweep.jobs.check import check_job
from segsweep.jobs.common import prepared
from segsweep.jobs.folders import JOB, may_resume, remember, run_folder
from segsweep.jobs.load_chain import RUNS, planned_outputs, step_job, step_run_id
from segsweep.jobs.news import Say, silent
from segsweep.jobs.run_pseudo_labels import run_pseudo_labels_job
from segsweep.jobs.run_sweep import run_sweep_job
from segsweep.jobs.run_train import run_train_job
from segsweep.jobs.spec import ChainJob, PseudoLabelsJob, StepJob, SweepJob, TrainJob

CHAINS = "chains"
STATE = "chain.json"
_MAY_CHANGE = {
    "train": run_train.MAY_CHANGE,
    "sweep": run_sweep.MAY_CHANGE,
    "pseudo_labels": run_pseudo_labels.MAY_CHANGE,
}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """A finished step.

    Attributes:
        name: Of the step; ``kind``: of its job.
        run_id: What it is called among the runs of its kind; empty for data that were prepared.
        outputs: Paths by the names with which later steps refer to them.
        result: The JSON document of its job.
        again: Whether an earlier call had finished it.
    """

    name: str
    kind: str
    run_id: str
    outputs: dict[str, str]
    result: dict[str, Any]
    again: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "run_id": self.run_id,
            "outputs": self.outputs,
            "result": self.result,
        }


@dataclass(frozen=True, kw_only=True)
class ChainResult:
    """A finished chain.

    Attributes:
        chain_id: Name of the chain; ``--resume`` takes it.
        folder: Holds the job and ``chain.json`` with the finished steps.
        steps: In the order in which they ran.
    """

    chain_id: str
    folder: Path
    steps: tuple[StepResult, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "chain_id": self.chain_id,
            "folder": str(self.folder),
            "steps": [step.to_json() for step in self.steps],
        }


def run_chain_job(
    job: ChainJob,
    *,
    where: str = "job",
    resume: str | None = None,
    chain_id: str | None = None,
    say: Say = silent,
) -> ChainResult:
    """Run the steps of a chain that are not finished yet.

    Args:
        job: The checked job.
        where: Name of the job in messages.
        resume: Id of an interrupted chain, or ``latest``: its finished steps are not run again, the one that
            was interrupted goes on.
        chain_id: Name of a new chain; by default the job's name and the time.
        say: Takes one line of news at a time.

    Raises:
        InvalidInput: If the job is wrong; nothing has started then.
        SegsweepError: What a step raised; the steps before it stay finished.
    """
    check_job(job, where=where)
    folder = run_folder(job.out / CHAINS, job.name, resume=resume, new_id=chain_id)
    with only_one_driver(folder):
        done = _finished(folder)
        remember(folder, job.model_dump(mode="json"), may_change=_may_change(job, done))
        for number, name in enumerate(job.steps, 1):
            say(f"step {number} of {len(job.steps)}, {name}{': finished before' if name in done else ''}")
            if name in done:
                continue
            try:
                done[name] = _run(job, name, folder.name, done, where=where, say=say)
            except (SegsweepError, KeyboardInterrupt):
                say(f"the chain stopped in step {name}; go on with: --resume {folder.name}")
                raise
            _keep(folder, job, done)
    return ChainResult(chain_id=folder.name, folder=folder, steps=tuple(done[name] for name in job.steps))


def _may_change(job: ChainJob, done: dict[str, StepResult]) -> list[str]:
    """What a resume may change: where files lie, and steps that are still to come."""
    files = [f"steps.{name}.file" for name in job.steps]
    return ["out", *files, *(f"steps.{name}." for name in job.steps if name not in done)]


def _run(
    chain: ChainJob, name: str, chain_id: str, done: dict[str, StepResult], *, where: str, say: Say
) -> StepResult:
    job = step_job(chain, name, {step: done[step].outputs for step in done}, where=where)
    run_id, begun = _run_id(job, step_run_id(chain_id, name))
    place = f"{where} steps.{name}"
    result, outputs = _runner(job)(job, run_id, begun, place, lambda line: say(f"{name}: {line}"))
    return StepResult(
        name=name,
        kind=job.kind,
        run_id=run_id if job.kind in RUNS else "",
        outputs={**planned_outputs(job, run_id), **outputs},
        result=result,
    )


def _run_id(job: StepJob, planned: str) -> tuple[str, bool]:
    """Id of the step's run, and whether it goes on; a step that was changed since it began begins anew."""
    if job.kind not in RUNS:
        return planned, False
    for attempt in itertools.count(1):
        run_id = planned if attempt == 1 else f"{planned}-{attempt}"
        folder = job.out / RUNS[job.kind] / run_id
        if not (folder / JOB).is_file():
            return run_id, False
        if may_resume(folder, job.model_dump(mode="json"), may_change=_MAY_CHANGE[job.kind]):
            return run_id, True
    raise AssertionError("counting does not end")


_Ran = tuple[dict[str, Any], dict[str, str]]  # document of the result, and where things really lie
_Runner = Callable[[StepJob, str, bool, str, Say], _Ran]


def _runner(job: StepJob) -> _Runner:
    if isinstance(job, TrainJob):
        return _train
    if isinstance(job, SweepJob):
        return _sweep
    return _label if isinstance(job, PseudoLabelsJob) else _prepare


def _train(job: StepJob, run_id: str, begun: bool, where: str, say: Say) -> _Ran:
    result = run_train_job(
        cast(TrainJob, job), where=where, resume=run_id if begun else None, run_id=run_id, say=say
    )
    paths = {"run": result.folder.resolve(), "checkpoint": result.checkpoint.resolve()}
    return result.to_json(), {output: str(path) for output, path in paths.items()}


def _sweep(job: StepJob, run_id: str, begun: bool, where: str, say: Say) -> _Ran:
    result = run_sweep_job(
        cast(SweepJob, job), where=where, resume=run_id if begun else None, sweep_id=run_id, say=say
    )
    if result.interrupted:
        raise KeyboardInterrupt
    return result.to_json(), {"run": str(result.folder.resolve())}


def _label(job: StepJob, run_id: str, begun: bool, where: str, say: Say) -> _Ran:
    result = run_pseudo_labels_job(
        cast(PseudoLabelsJob, job), where=where, resume=run_id if begun else None, run_id=run_id, say=say
    )
    return result.to_json(), {"shards": str(result.shards.path.resolve())}


def _prepare(job: StepJob, run_id: str, begun: bool, where: str, say: Say) -> _Ran:
    shards = prepared(job.data, job.out, say=say)
    return {"path": str(shards.path), "counts": dict(shards.counts), "digest": shards.digest}, {}


def _finished(folder: Path) -> dict[str, StepResult]:
    """Finished steps of an earlier call by name; raises ``InvalidJob`` if the list of them is damaged."""
    path = folder / STATE
    if not path.is_file():
        return {}
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
        return {item["name"]: StepResult(**item, again=True) for item in steps}
    except (OSError, ValueError, TypeError, LookupError) as error:
        message = (
            f"not the finished steps of a chain ({type(error).__name__}: {error}); put back an intact copy, "
            "or delete it: the steps are looked at again then, and finished ones go on from their end"
        )
        raise InvalidJob([Problem(where=str(path), message=message)]) from error


def _keep(folder: Path, job: ChainJob, done: dict[str, StepResult]) -> None:
    """Write the finished steps, whole or not at all."""
    document = {
        "chain_id": folder.name,
        "steps": [done[name].to_json() for name in job.steps if name in done],
    }
    write_whole(folder / STATE, json.dumps(document, indent=1))
