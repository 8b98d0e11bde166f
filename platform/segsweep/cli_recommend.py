"""``segsweep recommend``: which model to take, and how to get it."""

from __future__ import annotations

from typing import Annotated

import typer

from segsweep.cli_data import progress_bar
from segsweep.cli_options import JsonFlag, OutOption
from segsweep.cli_output import print_json
from segsweep.jobs.folders import OUT

DEFAULT_NAME = "auto"  # what a bare --register means: seg-<name of the sweep's job>
NOTHING_FITS = 1


def recommend(
    sweeps: Annotated[list[str], typer.Argument(help="Sweeps: folders, ids, or 'latest'.")],
    where: Annotated[
        list[str] | None,
        typer.Option(help="Condition, for example 'latency_ms_p90 <= 33'; repeatable, all must hold."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="What it is to be best in: a metric, or 'knee' for the best compromise.")
    ] = "miou",
    register: Annotated[
        str | None,
        typer.Option(metavar="[NAME]", help="Put the model into MLflow's registry; default seg-JOB."),
    ] = None,
    uri: Annotated[str | None, typer.Option(help="Another MLflow store than the sweep's.")] = None,
    interval: Annotated[
        bool, typer.Option(help="Evaluate the choice image by image for an interval of its mIoU.")
    ] = True,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Take sweeps of different data or schedules together.")
    ] = False,
    out: OutOption = OUT,
    json_: JsonFlag = False,
) -> None:
    """Say which model to take under your conditions; exits with 1 if none meets them."""
    from segsweep import api

    with progress_bar("validation images") as progress:
        answer = api.recommend(
            sweeps,
            where=where or [],
            objective=objective,
            interval=interval,
            allow_different=allow_different,
            out=out,
            progress=progress,
        )
    if register is not None and answer.chosen is not None:
        name = None if register == DEFAULT_NAME else register
        answer = api.register(answer, name=name, uri=uri)
    if json_:
        print_json(answer.to_json())
    else:
        from segsweep.jobs.recommendation_text import recommendation_text

        print(recommendation_text(answer))
    if answer.chosen is None:
        raise typer.Exit(NOTHING_FITS)
