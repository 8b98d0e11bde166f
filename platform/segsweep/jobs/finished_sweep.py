"""A sweep on disk, opened again: its journal, its job, its space. No torch, no Ray, no MLflow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segsweep.errors import DataError, InvalidInput, Problem
from segsweep.files import write_whole
from segsweep.jobs.folders import JOB, LATEST, OUT, SWEEPS
from segsweep.pareto.front import front_of
from segsweep.pareto.hypervolume import reference_point
from segsweep.records import Evaluation, Objective, TrialStatus
from segsweep.search.document import Constraint
from segsweep.search.journal import END, JOURNAL, Journal
from segsweep.search.load import load_space
from segsweep.search.space import SearchSpace

if TYPE_CHECKING:
    from segsweep.data.shards import ShardSet

DATA = "data"  # folder of all prepared data in it
SPACE = "space.yaml"
CONDITIONS = "conditions.json"  # what the prepared data and the machine were; sweeps before it have none


@dataclass(frozen=True, kw_only=True)
class SweepConditions:
    """Under what a sweep's figures were taken: those of equal conditions may be compared.

    Attributes:
        data: Key of ``DATASETS``.
        data_digest: Digest of the prepared data (``ShardSet.digest``); empty if it was not recorded.
        size: Height and width in pixels at which models were trained, validated and costed; ``(0, 0)`` if no
            trial got as far as its cost.
        num_classes: Classes of the head; 0 likewise.
        epochs: Full schedule.
        seed: Seed of sampler, initial weights and data order.
        device: Id of the device card that measured the speeds; several ids (a cluster) are joined by ", ";
            empty without measured speeds.
        threads: Torch threads of the measurement; 0 if it is not recorded.
        speed: Conditions of the measurement as JSON; ``None`` if no speed was measured.
    """

    data: str
    data_digest: str
    size: tuple[int, int]
    num_classes: int
    epochs: int
    seed: int
    device: str
    threads: int
    speed: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class FinishedSweep:
    """A sweep that has ended, or what there is of one that has not.

    Attributes:
        sweep_id: Name of the sweep.
        folder: Its folder.
        job: The job as JSON values.
        method: Method that was searched.
        objectives: What was optimised.
        reference: Corner of the hypervolume by metric: the job's, completed from the trials' costs.
        evaluations: Every trial that ended, in order of its end.
        axes: Names of the space's axes, in its order.
        conditions: What the figures hold for.
        interrupted: Whether it ended before its budget, or goes on now.
        prepared: Where its prepared data were put; ``None`` if it did not record that.
    """

    sweep_id: str
    folder: Path
    job: dict[str, Any]
    method: str
    objectives: tuple[Objective, ...]
    reference: dict[str, float]
    evaluations: tuple[Evaluation, ...]
    axes: tuple[str, ...]
    conditions: SweepConditions
    interrupted: bool
    prepared: Path | None = None

    @property
    def out(self) -> Path:
        """The ``out`` folder of its job, or where that is now."""
        return _out(self.folder, self.job)

    @property
    def complete(self) -> tuple[Evaluation, ...]:
        """Trials that reached the full schedule."""
        return tuple(item for item in self.evaluations if item.status is TrialStatus.COMPLETE)

    @property
    def front(self) -> tuple[Evaluation, ...]:
        """Complete trials that no other dominates."""
        return tuple(front_of(self.evaluations, self.objectives))

    @cached_property
    def space(self) -> SearchSpace:
        """The search space with the job's own constraints.

        Raises:
            DataError: If its file is gone.
            InvalidSpace: If it cannot be read any more.
        """
        return _space(self.folder, self.job)


def open_sweep(sweep: str | Path, *, out: Path = OUT) -> FinishedSweep:
    """Find a sweep and read what it recorded; an interrupted one as well.

    Args:
        sweep: Its folder, its id below ``out/sweeps``, or ``latest``.
        out: Where ids are looked up: the ``out`` folder of the job.

    Raises:
        InvalidInput: If there is no such sweep; says which there are.
        DataError: If a file of it is missing or damaged.
    """
    folder = _found(sweep, out)
    job = _read_job(folder / JOB)
    events = Journal(folder / JOURNAL).read()
    evaluations = _evaluations(folder / JOURNAL, events)
    space = _space(folder, job)
    recorded = _recorded(folder / CONDITIONS)
    objectives = tuple(Objective(**item) for item in job["sweep"]["objectives"])
    return FinishedSweep(
        sweep_id=folder.name,
        folder=folder,
        job=job,
        method=space.method,
        objectives=objectives,
        reference=_reference(evaluations, objectives, job["sweep"].get("reference") or {}),
        evaluations=evaluations,
        axes=tuple(axis.name for axis in space.axes),
        conditions=_conditions(recorded, job, evaluations),
        prepared=_out(folder, job) / DATA / recorded["prepared"] if recorded.get("prepared") else None,
        interrupted=_is_interrupted(events, evaluations, job["sweep"]),
    )


def sweep_ids(out: Path = OUT) -> list[str]:
    """Ids of the sweeps below ``out``, the newest first."""
    found = sorted((out / SWEEPS).glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parent.name for path in reversed(found)]


def remember_conditions(folder: Path, shards: ShardSet) -> None:
    """Write down what a sweep's data and machine are, which its job does not say."""
    from segsweep.jobs.environment import environment

    recorded = {
        "data_digest": shards.digest,
        "prepared": shards.path.name,
        "num_classes": shards.info.num_classes,
        "class_names": list(shards.info.class_names),
        "environment": environment(),
    }
    write_whole(folder / CONDITIONS, json.dumps(recorded, indent=1))


def _out(folder: Path, job: Mapping[str, Any]) -> Path:
    return folder.parent.parent if folder.parent.name == SWEEPS else Path(job["out"])


def _found(sweep: str | Path, out: Path) -> Path:
    known = sweep_ids(out)
    if str(sweep) == LATEST and known:
        return (out / SWEEPS / known[0]).resolve()
    for candidate in (Path(sweep), out / SWEEPS / sweep):
        if (candidate / JOURNAL).is_file():
            return candidate.resolve()
    message = f"found no sweep there nor in {out / SWEEPS}; it holds {', '.join(known) or 'none'}"
    remedy = "give the folder or the id of a sweep, or --out with the folder of its job"
    raise InvalidInput([Problem(where=f"sweep {sweep}", message=f"{message}; {remedy}")])


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(path.read_text(encoding="utf-8"))["job"]
        _ = job["sweep"]["objectives"], job["data"]["source"], job["recipe"]["epochs"]
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; give the folder of `segsweep sweep`") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not the job of a sweep ({error!r}); restore it from a copy, or give another folder"
        ) from error
    return dict(job)


def _evaluations(path: Path, events: Sequence[Mapping[str, Any]]) -> tuple[Evaluation, ...]:
    try:
        return tuple(
            Evaluation.from_json(event["evaluation"]) for event in events if event.get("type") == "finish"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: an event is not one of a sweep ({error!r}); restore the journal from a copy"
        ) from error


def _space(folder: Path, job: Mapping[str, Any]) -> SearchSpace:
    path = folder / SPACE
    if not path.is_file():
        raise DataError(f"{path}: file is missing; copy the sweep's search space ({job.get('space')}) there")
    extra = [Constraint.model_validate(item) for item in job.get("constraints") or ()]
    space = load_space(path)
    if space.name == path.stem:  # without a name of its own it is called after its file, which was copied
        space = dataclasses.replace(space, name=Path(str(job.get("space") or space.name)).stem)
    return space.with_constraints(extra)


def _reference(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective], given: Mapping[str, float]
) -> dict[str, float]:
    """The job's corner, completed as at the end of the sweep; only the job's own part without any trial."""
    if not any(item.cost for item in evaluations):
        return dict(given)
    try:
        corner = reference_point(evaluations, objectives, given=given)
    except ValueError:  # a minimised objective that no trial has
        return dict(given)
    return {objective.metric: float(value) for objective, value in zip(objectives, corner, strict=True)}


def _recorded(path: Path) -> dict[str, Any]:
    """What ``remember_conditions`` wrote; nothing of an older sweep."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: not JSON ({error}); delete it, or restore it from a copy") from error


def _conditions(
    recorded: Mapping[str, Any], job: Mapping[str, Any], evaluations: Sequence[Evaluation]
) -> SweepConditions:
    costs = [item.cost for item in evaluations if item.cost is not None]
    size = costs[0].size if costs else tuple(job["data"].get("size") or (0, 0))
    threads = [cost.threads for cost in costs if cost.threads]
    return SweepConditions(
        data=job["data"]["source"],
        data_digest=str(recorded.get("data_digest", "")),
        size=(int(size[0]), int(size[1])),
        num_classes=costs[0].num_classes if costs else int(recorded.get("num_classes", 0)),
        epochs=int(job["recipe"]["epochs"]),
        seed=int(job["sweep"]["seed"]),
        device=", ".join(sorted({cost.device for cost in costs if cost.device})),
        threads=max(threads, default=0),
        speed=job.get("speed"),
    )


def _is_interrupted(
    events: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluation], settings: Mapping[str, Any]
) -> bool:
    """Whether trials are missing. Sweeps that ended before journals told so are judged by their budget."""
    if events and events[-1].get("type") == END:
        return bool(events[-1]["interrupted"])
    asked = {event.get("number") for event in events if event.get("type") == "ask"}
    if asked - {item.number for item in evaluations}:
        return True
    if settings.get("max_minutes") is not None:
        return False
    trained = sum(item.status is not TrialStatus.INFEASIBLE for item in evaluations)
    infeasible = len(evaluations) - trained
    return bool(trained < settings["trials"] and infeasible < settings["max_infeasible"])
