"""The calls on finished sweeps: compare, report, recommend, register."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segsweep.jobs.folders import OUT

if TYPE_CHECKING:
    from segsweep.jobs.comparison_files import ComparisonResult
    from segsweep.jobs.recommendation import Recommendation
    from segsweep.jobs.sweep_report import ReportResult


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
    """Compare finished sweeps on common axes and record it; see ``jobs.compare.compare``."""
    from segsweep.jobs.compare import compare as compare_sweeps

    return compare_sweeps(
        sweeps,
        metrics=metrics,
        out=out,
        reference=reference,
        allow_different=allow_different,
        report=report,
        mlflow=mlflow,
        uri=uri,
    )


def report(
    sweeps: Sequence[str | Path],
    *,
    out: Path = OUT,
    to: Path | None = None,
    pictures: bool = True,
    title: str = "",
) -> ReportResult:
    """Write the interactive HTML report of one or several sweeps; see ``jobs.sweep_report.report_on``."""
    from segsweep.jobs.sweep_report import report_on

    return report_on(sweeps, out=out, to=to, pictures=pictures, title=title)


def recommend(
    sweeps: Sequence[str | Path],
    *,
    where: Sequence[str] = (),
    objective: str = "miou",
    interval: bool = True,
    allow_different: bool = False,
    out: Path = OUT,
    progress: Callable[[int, int], None] | None = None,
) -> Recommendation:
    """Which model of finished sweeps to take; see ``jobs.recommend.recommend``."""
    from segsweep.jobs.recommend import recommend as choose

    return choose(
        sweeps,
        where=where,
        objective=objective,
        interval=interval,
        allow_different=allow_different,
        out=out,
        progress=progress,
    )


def register(answer: Recommendation, *, name: str | None = None, uri: str | None = None) -> Recommendation:
    """Put the model of a recommendation into MLflow's registry; see ``jobs.recommend.register_choice``."""
    from segsweep.jobs.recommend import register_choice

    return register_choice(answer, name=name, uri=uri)
