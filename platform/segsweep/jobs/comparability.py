"""Which sweeps may be compared, on which axes, and which of them differ only in their seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segsweep.errors import InvalidInput, Problem
from segsweep.jobs.finished_sweep import FinishedSweep
from segsweep.pareto.comparison_records import Contender, SearchRun
from segsweep.records import COST_METRICS, Evaluation, Objective, objective_of
from segsweep.reporting.report.families import family

SpeedClass = tuple[str, int, int]  # device, threads, batch size


def refuse_incomparable(sweeps: Sequence[FinishedSweep], *, allow_different: bool) -> list[str]:
    """Check that the sweeps' figures mean the same.

    Returns:
        What a reader must be told: differences that were allowed, and what could not be checked.
    Raises:
        InvalidInput: With every difference in data, size, classes, schedule or first objective.
    """
    first = sweeps[0]
    found = [
        Problem(
            where=f"sweep {sweep.sweep_id}",
            message=f"{name} is {ours}, that of {first.sweep_id} is {theirs}; compare sweeps of equal "
            f"{name}, or pass --allow-different",
        )
        for sweep in sweeps[1:]
        for name, theirs, ours in _differences(first, sweep)
    ]
    if found and not allow_different:
        raise InvalidInput(found)
    notes = [
        f"Different by permission: {name} is {ours} in {sweep.sweep_id} and {theirs} in {first.sweep_id}."
        for sweep in sweeps[1:]
        for name, theirs, ours in _differences(first, sweep)
    ]
    unknown = [sweep.sweep_id for sweep in sweeps if not sweep.conditions.data_digest]
    if unknown:
        notes.append(
            f"{', '.join(unknown)} did not record a digest of the data, so that the images are the same is "
            "assumed, not checked."
        )
    return notes


def _differences(first: FinishedSweep, other: FinishedSweep) -> list[tuple[str, str, str]]:
    """Name, value in the first, value in the other."""
    ours, theirs = _protocol(first), _protocol(other)
    found = [(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]]
    digests = first.conditions.data_digest, other.conditions.data_digest
    if all(digests) and digests[0] != digests[1] and ours["data"] == theirs["data"]:
        found.append(("content of the prepared data (its digest)", digests[0][:12], digests[1][:12]))
    return found


def _protocol(sweep: FinishedSweep) -> dict[str, str]:
    conditions = sweep.conditions
    first = sweep.objectives[0]
    return {
        "data": conditions.data,
        "size": f"{conditions.size[0]}x{conditions.size[1]}",
        "number of classes": str(conditions.num_classes),
        "number of epochs": str(conditions.epochs),
        "first objective": f"{first.direction} {first.metric}",
    }


def contenders_of(sweeps: Sequence[FinishedSweep]) -> tuple[Contender, ...]:
    """Sweeps that differ only in their seed become one contender, in the order given.

    A contender is called after what tells it from the others: its method, else its space, its job, its id.
    """
    families: dict[tuple[str, str], list[FinishedSweep]] = {}
    for sweep in sweeps:
        # speeds of different machines have panels of their own
        name = family(sweep, same_search=True, same_machine=False)
        families.setdefault((name, sweep.space.digest), []).append(sweep)
    members = list(families.values())
    return tuple(
        Contender(
            label=label,
            method=seeds[0].method,
            runs=tuple(
                SearchRun(sweep_id=sweep.sweep_id, seed=sweep.conditions.seed, evaluations=sweep.evaluations)
                for sweep in sorted(seeds, key=lambda sweep: sweep.conditions.seed)
            ),
        )
        for label, seeds in zip(_labels(members), members, strict=True)
    )


def _labels(families: Sequence[Sequence[FinishedSweep]]) -> list[str]:
    names: tuple[Callable[[FinishedSweep], str], ...] = (
        lambda sweep: sweep.method,
        lambda sweep: sweep.space.name,
        lambda sweep: str(sweep.job.get("name", sweep.sweep_id)),
    )
    for name in names:
        labels = [name(seeds[0]) for seeds in families]
        if len(set(labels)) == len(labels):
            return labels
    return [seeds[0].sweep_id for seeds in families]


def chosen_costs(sweeps: Sequence[FinishedSweep], metrics: Sequence[str]) -> list[Objective]:
    """The axes beside the first objective: those asked for, else the objectives that all sweeps share.

    Raises:
        InvalidInput: If a metric is unknown, is the first objective, or no trial of a sweep has it.
    """
    first = sweeps[0].objectives[0]
    asked = dict.fromkeys(metrics)
    problems = [
        Problem(where=f"--metric {name}", message=f"is no cost; allowed: {', '.join(COST_METRICS)}")
        for name in asked
        if name not in COST_METRICS or name == first.metric
    ]
    for name in asked:
        without = [sweep.sweep_id for sweep in sweeps if not any(name in e.metrics() for e in sweep.complete)]
        if name in COST_METRICS and without:
            message = f"no complete trial of {', '.join(without)} has it; take another metric"
            problems.append(Problem(where=f"--metric {name}", message=message))
    if len(asked) > 3:
        message = "at most 3 can be given: hypervolumes are exact up to 4 objectives"
        problems.append(Problem(where="--metric", message=message))
    if problems:
        raise InvalidInput(problems)
    if asked:
        return [objective_of(name) for name in asked]
    shared = [
        objective
        for objective in sweeps[0].objectives[1:]
        if all(objective in sweep.objectives for sweep in sweeps)
    ]
    return shared or [objective_of("macs")]


def speed_classes(sweeps: Sequence[FinishedSweep]) -> dict[SpeedClass, list[str]]:
    """Under which conditions speeds were measured, each with the sweeps that have such trials."""
    found: dict[SpeedClass, list[str]] = {}
    for sweep in sweeps:
        for key in sorted({key for item in sweep.complete if (key := speed_class(item)) is not None}):
            found.setdefault(key, []).append(sweep.sweep_id)
    return found


def speed_class(evaluation: Evaluation) -> SpeedClass | None:
    """Device card, torch threads and batch size of a trial's speed; ``None`` if it was not measured."""
    cost = evaluation.cost
    if cost is None or cost.images_per_second is None:
        return None
    return cost.device or "", cost.threads or 0, cost.batch_size or 0


def speed_words(key: SpeedClass) -> str:
    """For example ``"device 3f2a11bc, 2 threads, batch 1"``."""
    device, threads, batch = key
    parts = [f"device {device or 'unknown'}"]
    if threads:
        parts.append(f"{threads} thread{'s' if threads > 1 else ''}")
    if batch:
        parts.append(f"batch {batch}")
    return ", ".join(parts)
