"""``segsweep compare`` and ``segsweep report``: finished sweeps on common axes, and as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segsweep.cli_options import JsonFlag, OutOption, read_values
from segsweep.cli_output import print_json
from segsweep.errors import InvalidInput, Problem
from segsweep.jobs.folders import OUT
from segsweep.redaction import without_passwords


def compare(
    sweeps: Annotated[list[str], typer.Argument(help="Two or more sweeps: folders, ids, or 'latest'.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Cost to compare, for example macs; repeatable. Default: the sweeps' objectives."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="Corner of the hypervolume, for example macs=3e9."),
    ] = None,
    out: OutOption = OUT,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Compare in spite of different data or schedules.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
    mlflow: Annotated[bool, typer.Option(help="Record the comparison in MLflow.")] = True,
    uri: Annotated[str | None, typer.Option(help="Another MLflow store than the first sweep's.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Compare finished sweeps: who leads at which cost, indicators, statistics over seeds, knees."""
    from segsweep import api
    from segsweep.reporting.comparison_text import comparison_text

    result = api.compare(
        sweeps,
        metrics=metric or [],
        out=out,
        reference=_numbers(reference),
        allow_different=allow_different,
        report=report,
        mlflow=mlflow,
        uri=uri,
    )
    if json_:
        print_json(result.to_json())
        return
    print(comparison_text(result.comparison))
    print()
    for name, path in result.files.items():
        print(f"{name:16}{path}")
    for note in result.notes[:1]:
        more = f" (and {len(result.notes) - 1} more notes)" if len(result.notes) > 1 else ""
        print(f"{'note':16}{note}{more}")
    if result.mlflow is not None:
        print(f"{'MLflow':16}{without_passwords(result.mlflow.problem or result.mlflow.url)}")


def report(
    sweeps: Annotated[list[str], typer.Argument(help="One or more sweeps: folders, ids, or 'latest'.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write; default: report.html in the sweep's folder.")
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Show sample predictions of the designs to look at.")] = True,
    out: OutOption = OUT,
    json_: JsonFlag = False,
) -> None:
    """Write the interactive HTML report of sweeps, finished or interrupted: one file, no network."""
    from segsweep import api

    result = api.report(sweeps, out=out, to=to, pictures=pictures)
    if json_:
        print_json(result.to_json())
        return
    print(f"report      {result.report} ({result.report.stat().st_size / 1e3:.0f} kB)")
    if result.figure is not None:
        print(f"figure      {result.figure}")
    for note in result.notes:
        print(f"note        {note}")


def _numbers(pairs: list[str] | None) -> dict[str, float]:
    values = read_values(pairs)
    wrong = [name for name, value in values.items() if not isinstance(value, int | float)]
    if wrong:
        message = "is no number; write METRIC=VALUE in stored units, for example macs=3e9 or miou=0"
        raise InvalidInput(
            [Problem(where=f"--reference {name}={values[name]}", message=message) for name in wrong]
        )
    return {name: float(value) for name, value in values.items()}
