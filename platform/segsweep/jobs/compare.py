"""Compare finished sweeps: common axes, one reference, indicators, statistics, figure, report, MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segsweep.errors import InvalidInput, Problem
from segsweep.jobs.comparability import (
    SpeedClass,
    chosen_costs,
    contenders_of,
    refuse_incomparable,
    speed_class,
    speed_classes,
    speed_words,
)
from segsweep.jobs.comparison_files import (
    COMPARISONS,
    ComparisonResult,
    comparison_key,
    record_in_mlflow,
    write_files,
)
from segsweep.jobs.credentials import take_credentials
from segsweep.jobs.finished_sweep import FinishedSweep, open_sweep
from segsweep.jobs.folders import OUT
from segsweep.jobs.recorded_store import recorded_in
from segsweep.jobs.sweep_report import REPORT, write_sweep_report
from segsweep.pareto.comparison import compare_fronts
from segsweep.pareto.comparison_records import Comparison, Contender, FrontComparison
from segsweep.records import SPEED_METRICS, Evaluation, Objective, TrialStatus
from segsweep.reporting.comparison_text import title

LEVEL_MIOU = 5e-5  # leads that read 0.00 mIoU points are none


def compare(
    sweeps: Sequence[str | Path],
    *,
    metrics: Sequence[str] = (),
    out: Path = OUT,
    reference: Mapping[str, float] | None = None,
    allow_different: bool = False,
    report: bool = True,
    mlflow: bool = True,
    uri: str | None = None,
) -> ComparisonResult:
    """Compare sweeps, write what was found to ``out/comparisons`` and record it in MLflow.

    The same sweeps on the same axes give the same folder and the same experiment, whose content is replaced.

    Args:
        sweeps: Two or more, each a folder, an id below ``out/sweeps``, or ``latest``.
        metrics: Costs to compare; by default the objectives that all sweeps share.
        out: Where ids are looked up, and where the comparison is written.
        reference: Corner of the hypervolumes by metric; by default that of the jobs where all have the same,
            else from the largest cost of all sweeps.
        allow_different: Compare in spite of different data, size, classes or schedules, and say so.
        report: Whether to write the HTML report.
        mlflow: Whether to record the comparison.
        uri: Another MLflow store than the one in which the first sweep is recorded; user and password in it
            go into the environment.

    Raises:
        InvalidInput: If there are fewer than two, one is given twice, or they are not comparable.
        DataError: If a sweep's files are missing or damaged.
    """
    opened = open_all(sweeps, out=out)
    comparison = compare_opened(
        opened, metrics=metrics, reference=reference or {}, allow_different=allow_different
    )
    folder = out / COMPARISONS / comparison_key(comparison)
    files = write_files(comparison, folder)
    notes: tuple[str, ...] = ()
    if report:
        written = write_sweep_report(opened, to=folder / REPORT, title=title(comparison))
        files[REPORT], notes = written.report, written.notes
    link = None
    if mlflow:
        store = take_credentials(uri) if uri else recorded_in(opened[0]).tracking_uri
        link = record_in_mlflow(comparison, files, uri=store)
    return ComparisonResult(comparison=comparison, folder=folder, files=files, notes=notes, mlflow=link)


def open_all(sweeps: Sequence[str | Path], *, out: Path = OUT) -> list[FinishedSweep]:
    """Open the sweeps of a comparison; arguments and errors as ``compare``."""
    problems: list[Problem] = []
    opened: list[FinishedSweep] = []
    for name in sweeps:
        try:
            opened.append(open_sweep(name, out=out))
        except InvalidInput as error:
            problems.extend(error.problems)
    folders = [sweep.folder for sweep in opened]
    problems += [
        Problem(where=f"sweep {folder.name}", message="is given twice; name each sweep once")
        for folder in dict.fromkeys(folder for folder in folders if folders.count(folder) > 1)
    ]
    if len(sweeps) < 2:
        message = f"found {len(sweeps)} sweep; give two or more, or open one with `segsweep report`"
        problems.append(Problem(where="compare", message=message))
    problems += [
        Problem(
            where=f"sweep {sweep.sweep_id}",
            message=f"has no complete trial, only {_trials(sweep.evaluations)}; "
            "finish it with --resume first",
        )
        for sweep in opened
        if not sweep.complete
    ]
    if problems:
        raise InvalidInput(problems)
    return opened


def compare_opened(
    sweeps: Sequence[FinishedSweep],
    *,
    metrics: Sequence[str] = (),
    reference: Mapping[str, float],
    allow_different: bool = False,
) -> Comparison:
    """Compare sweeps that are open; arguments and errors as ``compare``."""
    notes = refuse_incomparable(sweeps, allow_different=allow_different)
    costs = chosen_costs(sweeps, metrics)
    first = sweeps[0].objectives[0]
    _check_reference(reference, [first, *costs])
    contenders = contenders_of(sweeps)
    classes = speed_classes(sweeps)
    one_class = len(classes) < 2
    given = {**_shared_reference(sweeps), **reference}
    panels: list[FrontComparison] = []
    for cost in costs:
        of_speed = cost.metric in SPEED_METRICS
        keys: Sequence[SpeedClass | None] = [None] if one_class or not of_speed else list(classes)
        panels += [_space(contenders, (first, cost), given=given, only=key) for key in keys]
    common = [cost for cost in costs if one_class or cost.metric not in SPEED_METRICS]
    joint = _space(contenders, (first, *common), given=given) if 2 <= len(common) <= 3 else None
    if not one_class and any(cost.metric in SPEED_METRICS for cost in costs):
        notes.append(_apart(classes))
    return Comparison(
        contenders=contenders,
        panels=tuple(panels),
        joint=joint,
        conditions=_conditions(sweeps, classes),
        notes=(*notes, *_cautions(sweeps, contenders), *_beyond(panels)),
    )


def _space(
    contenders: Sequence[Contender],
    objectives: Sequence[Objective],
    *,
    given: Mapping[str, float],
    only: SpeedClass | None = None,
) -> FrontComparison:
    return compare_fronts(
        contenders,
        objectives,
        given=given,
        keep=(lambda evaluation: True) if only is None else (lambda item: speed_class(item) == only),
        conditions="" if only is None else speed_words(only),
        tolerance=LEVEL_MIOU if objectives[0].metric == "miou" else 0.0,
    )


def _check_reference(reference: Mapping[str, float], objectives: Sequence[Objective]) -> None:
    allowed = [objective.metric for objective in objectives]
    unknown = [name for name in reference if name not in allowed]
    if unknown:
        message = f"is no axis of this comparison; allowed: {', '.join(allowed)}"
        raise InvalidInput([Problem(where=f"--reference {name}", message=message) for name in unknown])


def _shared_reference(sweeps: Sequence[FinishedSweep]) -> dict[str, float]:
    """What the jobs of all sweeps fixed to the same value."""
    fixed = [dict(sweep.job["sweep"].get("reference") or {}) for sweep in sweeps]
    return {
        metric: float(value)
        for metric, value in fixed[0].items()
        if all(other.get(metric) == value for other in fixed)
    }


def _apart(classes: Mapping[SpeedClass, Sequence[str]]) -> str:
    measured = "; ".join(f"{speed_words(key)}: {', '.join(names)}" for key, names in classes.items())
    return (
        "Speeds were measured under different conditions, so each has a panel of its own and none is in the "
        f"joint hypervolume ({measured})."
    )


def _conditions(
    sweeps: Sequence[FinishedSweep], classes: Mapping[SpeedClass, Sequence[str]]
) -> tuple[tuple[str, str], ...]:
    def told(values: Sequence[object]) -> str:
        return " / ".join(dict.fromkeys(str(value) for value in values))

    rows = {
        "data": told([sweep.conditions.data for sweep in sweeps]),
        "size": told([f"{sweep.conditions.size[0]}x{sweep.conditions.size[1]}" for sweep in sweeps]),
        "classes": told([sweep.conditions.num_classes for sweep in sweeps]),
        "epochs": told([sweep.conditions.epochs for sweep in sweeps]),
        "speed": " / ".join(speed_words(key) for key in classes) or "not measured",
    }
    return tuple(rows.items())


def _cautions(sweeps: Sequence[FinishedSweep], contenders: Sequence[Contender]) -> list[str]:
    found = [
        f"{sweep.sweep_id} is not finished: {_trials(sweep.evaluations)} of {sweep.job['sweep']['trials']}."
        for sweep in sweeps
        if sweep.interrupted
    ]
    counts = {item.label: [_trained(run.evaluations) for run in item.runs] for item in contenders}
    if len({count for values in counts.values() for count in values}) > 1:
        told = ", ".join(f"{label} {'/'.join(map(str, values))}" for label, values in counts.items())
        found.append(
            f"The searches trained different numbers of designs ({told}); more trials reach further."
        )
    if len({len(item.runs) for item in contenders}) > 1:
        found.append(
            "The contenders have different numbers of sweeps: hypervolumes, leads and indicators are medians "
            "over them, but fronts and knees are of all sweeps together, which favours the one with more."
        )
    single = [item.label for item in contenders if len(item.runs) == 1]
    if single:
        found.append(
            f"One seed of {', '.join(single)}: a difference as small as that between seeds may be chance."
        )
    return found


def _beyond(panels: Sequence[FrontComparison]) -> list[str]:
    """Front members outside the corner: they add no volume, whatever they reach."""
    outside: dict[str, set[str]] = {}
    for panel in panels:
        for objective in panel.objectives:
            limit = panel.reference[objective.metric]
            for standing in panel.standings:
                values = [member.evaluation.metrics()[objective.metric] for member in standing.front]
                if any(value <= limit if objective.maximize else value >= limit for value in values):
                    outside.setdefault(objective.metric, set()).add(standing.label)
    return [
        f"The reference of {metric} leaves out front members of {', '.join(sorted(labels))}: they add no "
        "hypervolume."
        for metric, labels in outside.items()
    ]


def _trained(evaluations: Sequence[Evaluation]) -> int:
    return sum(item.status is not TrialStatus.INFEASIBLE for item in evaluations)


def _trials(evaluations: Sequence[Evaluation]) -> str:
    counts = {status: sum(e.status is status for e in evaluations) for status in TrialStatus}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{len(evaluations)} trials ({told})" if told else "no trials"
