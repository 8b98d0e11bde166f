"""The HTML report of finished sweeps: opened, with sample predictions, and with a PNG beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.errors import SegsweepError
from segsweep.jobs.finished_sweep import FinishedSweep, open_sweep
from segsweep.jobs.folders import OUT
from segsweep.reporting.figures import pareto_figure
from segsweep.reporting.html_report import write_report

REPORT = "report.html"
FIGURE = "pareto.png"
OPTIONAL = (SegsweepError, RuntimeError, OSError, MemoryError, ValueError)  # a full GPU is a RuntimeError
REPORTS = "reports"  # folder of reports on several sweeps, in a job's ``out``


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """What was written.

    Attributes:
        report: The page.
        figure: PNG of the fronts; ``None`` for several sweeps, or without a complete trial.
        sweeps: Ids of the sweeps.
        pictures: Sample predictions in the page.
        notes: What could not be shown, and why.
    """

    report: Path
    figure: Path | None
    sweeps: tuple[str, ...]
    pictures: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "report": str(self.report),
            "bytes": self.report.stat().st_size,
            "figure": str(self.figure) if self.figure else None,
            "sweeps": list(self.sweeps),
            "pictures": self.pictures,
            "notes": list(self.notes),
        }


def report_on(
    sweeps: Sequence[str | Path],
    *,
    out: Path = OUT,
    to: Path | None = None,
    pictures: bool = True,
    title: str = "",
) -> ReportResult:
    """Write the report of one or several sweeps, finished or interrupted.

    Args:
        sweeps: Each a folder, an id below ``out/sweeps``, or ``latest``.
        out: Where ids are looked up.
        to: File to write; by default ``report.html`` in the folder of the only sweep, or a file in
            ``out/reports``.
        pictures: Whether to show sample predictions of the designs to look at first. They need the networks
            that the sweep kept and its prepared data; what is missing is said in ``notes``.
        title: Heading; by default the sweep's id, or how many are compared.

    Raises:
        InvalidInput: If there is no such sweep, none is given, or one is given twice.
        DataError: If a sweep's files are missing or damaged.
    """
    opened = [open_sweep(sweep, out=out) for sweep in sweeps]
    return write_sweep_report(opened, to=to or _place(opened, out), pictures=pictures, title=title)


def write_sweep_report(
    opened: Sequence[FinishedSweep], *, to: Path, pictures: bool = True, title: str = ""
) -> ReportResult:
    """Write the report of sweeps that are open; arguments and errors as ``report_on``.

    Pictures and figure are extras: what fails there is told in ``notes``, and the page is written all the
    same.
    """
    shown: dict[str, list[bytes]] = {}
    notes: list[str] = []
    for sweep in opened if pictures else ():
        try:
            shown |= _pictures(sweep)
        except OPTIONAL as error:
            notes.append(f"no sample predictions of {sweep.sweep_id}: {_reason(error)}")
    report = write_report(opened, to, pictures=shown, title=title)
    figure = None
    try:
        figure = _figure(opened, report.with_suffix(".png"))
    except OPTIONAL as error:
        notes.append(f"no figure: {_reason(error)}")
    return ReportResult(
        report=report,
        figure=figure,
        sweeps=tuple(sweep.sweep_id for sweep in opened),
        pictures=sum(map(len, shown.values())),
        notes=tuple(notes),
    )


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, SegsweepError) else f"{type(error).__name__}: {error}"


def _pictures(sweep: FinishedSweep) -> dict[str, list[bytes]]:
    from segsweep.jobs.sample_pictures import sample_pictures  # torch: only where there are networks

    return sample_pictures(sweep)


def _figure(opened: Sequence[FinishedSweep], path: Path) -> Path | None:
    """The sweep's own figure, drawn if it is not there yet; the fronts of several are ``compare``'s."""
    if len(opened) != 1 or not opened[0].front:
        return None
    (sweep,) = opened
    if path.parent == sweep.folder:
        path = sweep.folder / FIGURE
        if path.is_file():
            return path
    return pareto_figure(sweep.evaluations, sweep.objectives, sweep.sweep_id, path)


def _place(opened: Sequence[FinishedSweep], out: Path) -> Path:
    if len(opened) == 1:
        return opened[0].folder / REPORT
    ids = [sweep.sweep_id for sweep in opened]
    name = f"{ids[0]}-and-{len(ids) - 1}-more" if len(ids) > 2 else "-and-".join(ids)
    return out / REPORTS / f"{name or 'none'}.html"
