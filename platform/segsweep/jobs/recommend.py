"""Answer "which model should I take?" from finished sweeps; only complete trials are considered."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

from segsweep.errors import DataError, InvalidInput, Problem
from segsweep.jobs.choice_interval import miou_interval, runner_up, seed_interval
from segsweep.jobs.choose import candidates_of, meets, nearest_misses, ranked, roles_of, step_up
from segsweep.jobs.comparability import refuse_incomparable, speed_class, speed_words
from segsweep.jobs.credentials import take_credentials
from segsweep.jobs.finished_sweep import FinishedSweep, open_sweep
from segsweep.jobs.folders import OUT
from segsweep.jobs.image_scores import Progress
from segsweep.jobs.recommendation import KNEE, Candidate, Recommendation
from segsweep.jobs.recorded_store import recorded_in
from segsweep.jobs.where import Condition, read_conditions
from segsweep.records import METRICS, SPEED_METRICS
from segsweep.tracking.registry import RegistryEntry, check_name, register
from segsweep.training.model_file import model_path

RECOMMENDED = "recommended"  # alias of whatever was chosen


def recommend(
    sweeps: Sequence[str | Path],
    *,
    where: Sequence[str] = (),
    objective: str = "miou",
    allow_different: bool = False,
    interval: bool = True,
    out: Path = OUT,
    progress: Progress | None = None,
) -> Recommendation:
    """Choose a model.

    Args:
        sweeps: Folders or ids of sweeps, or ``latest``; all must be comparable.
        where: Conditions that the model must meet, see ``jobs.where``.
        objective: What it is to be best in: a metric, or ``knee`` for the knee of the front of those that
            meet the conditions.
        allow_different: Take sweeps of different data, sizes or schedules together all the same.
        interval: Whether to let the network of the choice look at the validation images (once) for an
            interval of its mIoU.
        out: Where ids are looked up.
        progress: Called with the number of validation images done and in all.

    Raises:
        InvalidInput: With everything that is wrong in sweeps, conditions and objective.
        DataError: If a sweep is damaged or no trial is complete.
    """
    opened, conditions = _checked(sweeps, where, objective, out)
    notes = refuse_incomparable(opened, allow_different=allow_different)
    candidates = candidates_of(opened)
    if not candidates:
        names = ", ".join(sweep.sweep_id for sweep in opened)
        raise DataError(
            f"no trial of {names} is complete, so there is nothing to recommend; resume the sweep"
        )
    _refuse_mixed_speeds(candidates, conditions, objective)
    fitting = [item for item in candidates if meets(item, conditions)]
    order = ranked(fitting, objective, opened[0].objectives)
    answer = Recommendation(
        sweeps=tuple(opened),
        objective=objective,
        conditions=tuple(where),
        complete=len(candidates),
        satisfying=len(fitting),
        notes=(*notes, *_notes(opened, candidates, conditions)),
    )
    if not order:
        return dataclasses.replace(answer, misses=nearest_misses(candidates, conditions))
    step, step_note = step_up(order[0], candidates, conditions, objective)
    answer = dataclasses.replace(
        answer,
        chosen=order[0],
        roles=roles_of(order[0], candidates),
        seeds=seed_interval(order[0], candidates),
        step_up=step,
        step_note=step_note,
    )
    return _with_intervals(answer, order, interval=interval, progress=progress)


def register_choice(
    answer: Recommendation, *, name: str | None = None, uri: str | None = None
) -> Recommendation:
    """Put the chosen model into the model registry of the store in which its sweep is recorded.

    Args:
        answer: With a choice.
        name: Name in the registry; by default ``seg-`` and the name of the sweep's job.
        uri: Another store.

    Raises:
        InvalidInput: If nothing was chosen, or the name cannot be used.
        DataError: If its weights were not kept, or the store has no run of it.
    """
    chosen = answer.chosen
    if chosen is None:
        message = "no trial meets the conditions, so there is nothing to register; relax one of them"
        raise InvalidInput([Problem(where="--register", message=message)])
    sweep = chosen.sweep
    name = name or f"seg-{sweep.job['name']}"
    check_name(name)
    recorded = recorded_in(sweep)
    aliases = [RECOMMENDED, *(alias for role in answer.roles for alias in (role, f"{sweep.method}-{role}"))]
    entry = RegistryEntry(
        name=name,
        file=model_path(sweep.folder, chosen.trial_id),
        experiment=recorded.experiment,
        sweep_id=sweep.sweep_id,
        trial_id=chosen.trial_id,
        aliases=aliases,
        description=_description(answer, chosen),
        tags={"segsweep.method": sweep.method, "segsweep.miou": f"{chosen.miou:.4f}"},
    )
    if not entry.file.is_file():
        raise DataError(_no_weights(chosen))
    store = take_credentials(uri) if uri else recorded.tracking_uri
    return dataclasses.replace(answer, registered=register(entry, store))


def _no_weights(chosen: Candidate) -> str:
    why = (
        "sweep.keep_models was none, or the trial ran on a machine that does not share the folder"
        if chosen.on_front
        else "another trial dominates it in the sweep's objectives, and only the front's weights are kept"
    )
    return (
        f"{model_path(chosen.sweep.folder, chosen.trial_id)}: the weights of {chosen.trial_id} are not "
        f"there: {why}; train its point with `segsweep train`, or choose a trial of the front"
    )


def _description(answer: Recommendation, chosen: Candidate) -> str:
    point = "\n".join(f"- `{axis}`: {value}" for axis, value in chosen.evaluation.point.items())
    asked = "; ".join((f"best {answer.objective}", *(f"`{text}`" for text in answer.conditions)))
    conditions = chosen.sweep.conditions
    return (
        f"Trial {chosen.trial_id} of sweep {chosen.sweep.sweep_id} ({chosen.sweep.method}): validation mIoU "
        f"{100 * chosen.miou:.2f} % on {conditions.data} at {conditions.size[0]}x{conditions.size[1]} after "
        f"{conditions.epochs} epochs, chosen by `segsweep recommend` for {asked}.\n\n{point}\n"
    )


def _checked(
    sweeps: Sequence[str | Path], where: Sequence[str], objective: str, out: Path
) -> tuple[list[FinishedSweep], tuple[Condition, ...]]:
    """Everything that the user wrote, or all that is wrong with it at once."""
    problems: list[Problem] = []
    opened: list[FinishedSweep] = []
    conditions: tuple[Condition, ...] = ()
    if not sweeps:
        problems.append(Problem(where="sweep", message="none given; name one, or 'latest'"))
    for sweep in dict.fromkeys(map(str, sweeps)):
        try:
            opened.append(open_sweep(sweep, out=out))
        except InvalidInput as error:
            problems += error.problems
    if objective not in (*METRICS, KNEE):
        near = difflib.get_close_matches(objective, [*METRICS, KNEE], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join([*METRICS, KNEE])}"
        problems.append(Problem(where="--objective", message=f"found {objective!r}; {hint}"))
    try:
        if len(opened) == len(set(map(str, sweeps))):  # else an axis of a sweep not found seems unknown
            conditions = read_conditions(where, [sweep.space for sweep in opened])
    except InvalidInput as error:
        problems += error.problems
    if problems:
        raise InvalidInput(problems)
    return list({sweep.folder: sweep for sweep in opened}.values()), conditions


def _refuse_mixed_speeds(
    candidates: Sequence[Candidate], conditions: Sequence[Condition], objective: str
) -> None:
    """Speeds of two machines must not decide against each other."""
    names = {name.removeprefix("cost.") for item in conditions for name in item.expression.names}
    used = sorted((names | {objective}) & set(SPEED_METRICS))
    places: dict[str, set[str]] = {}
    for item in candidates:
        if (key := speed_class(item.evaluation)) is not None:
            places.setdefault(speed_words(key), set()).add(item.sweep.sweep_id)
    if not used or len(places) < 2:
        return
    found = "; ".join(f"{words} in {', '.join(sorted(ids))}" for words, ids in places.items())
    message = (
        f"speeds were measured under different conditions ({found}) and cannot decide together; limit macs "
        "instead, or name sweeps of one machine"
    )
    raise InvalidInput([Problem(where=", ".join(used), message=message)])


def _with_intervals(
    answer: Recommendation, ranked: Sequence[Candidate], *, interval: bool, progress: Progress | None
) -> Recommendation:
    second = ranked[1] if len(ranked) > 1 else None
    found, note = None, "it was not asked for"
    if interval:
        found, note = miou_interval(ranked[0], progress=progress)
    following = None
    if second is not None:
        following = runner_up(ranked[0], second, with_interval=found is not None, progress=progress)
    if found is None and answer.seeds is not None:
        found, note = answer.seeds, ""
    return dataclasses.replace(answer, interval=found, interval_note=note, runner_up=following)


def _notes(
    sweeps: Sequence[FinishedSweep], candidates: Sequence[Candidate], conditions: Sequence[Condition]
) -> list[str]:
    notes = [
        f"{sweep.sweep_id} has not ended ({len(sweep.evaluations)} of {sweep.job['sweep']['trials']} trials "
        "so far): more may come."
        for sweep in sweeps
        if sweep.interrupted
    ]
    names = {name for condition in conditions for name in condition.expression.names} & set(METRICS)
    for name in sorted(names):
        without = sum(name not in item.metrics for item in candidates)
        if without:
            notes.append(
                f"{without} of {len(candidates)} complete trials have no {name}: it was not measured."
            )
    return notes
