"""One HTML file that shows one or several sweeps: linked panels, designs, importance, table, pictures.

The file needs no network and no server, and runs inside MLflow's sandboxed artifact viewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segsweep.errors import InvalidInput, Problem
from segsweep.reporting.report.document import report_document
from segsweep.reporting.report.page import report_page
from segsweep.reporting.report.pictures import Picture, embedded
from segsweep.reporting.report.records import Sweep

Pictures = Mapping[str, Sequence[Path | bytes]]


def write_report(
    sweeps: Sequence[Sweep], path: Path, *, pictures: Pictures | None = None, title: str = ""
) -> Path:
    """Write the report of one or several sweeps as one self-contained HTML file.

    Fronts are recomputed for every 2-D panel; only complete trials have a final mIoU, all others are shown at
    the foot of a panel at their cost. Trials of equal design in sweeps that differ only in their seed can be
    averaged, with error bars of one standard deviation.

    Args:
        sweeps: At least one; objectives may differ, the first sweep's come first.
        path: File to write; its folder is created.
        pictures: Sample predictions. A key is a trial id, ``SWEEP/TRIAL`` or words of its own; the values are
            picture files or their bytes. They are made smaller until all fit in about 1 MB.
        title: Heading; by default the sweep's id, or how many are compared.

    Returns:
        ``path``.

    Raises:
        InvalidInput: If there is no sweep, or two have the same id.
        DataError: If a picture cannot be read; names it.
    """
    _check(sweeps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_html(sweeps, pictures=pictures, title=title), encoding="utf-8")
    return path


def report_html(sweeps: Sequence[Sweep], *, pictures: Pictures | None = None, title: str = "") -> str:
    """The report as text; arguments and errors as ``write_report``."""
    _check(sweeps)
    shown: list[Picture] = embedded(pictures or {})
    return report_page(report_document(sweeps, pictures=shown, title=title))


def _check(sweeps: Sequence[Sweep]) -> None:
    if not sweeps:
        raise InvalidInput([Problem(where="report", message="found no sweep; give at least one")])
    ids = [sweep.sweep_id for sweep in sweeps]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        message = f"{', '.join(twice)} given twice; name every sweep once"
        raise InvalidInput([Problem(where="report", message=message)])
