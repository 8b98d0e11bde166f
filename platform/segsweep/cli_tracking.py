"""``segsweep sync``: bring MLflow up to date with what runs recorded on disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from segsweep.cli_options import JsonFlag, OutOption
from segsweep.cli_output import print_json


def sync(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Sweeps or trainings: folders or ids; without any, all.")
    ] = None,
    out: OutOption = Path("segsweep-runs"),
    uri: Annotated[
        str | None,
        typer.Option(help="Another MLflow store than the runs' own, for example http://host:5000."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Tell everything once more: for a store that lost its data.")
    ] = False,
    json_: JsonFlag = False,
) -> None:
    """Write to MLflow what it lacks: after an outage, a killed driver, or to copy runs to a server."""
    from segsweep import api

    done = api.sync(*(runs or []), out=out, uri=uri, again=again)
    if json_:
        print_json({"runs": [item.to_json() for item in done]})
    else:
        for item in done:
            synced = item.synced
            print(f"{item.run}: {synced.written} of {synced.records} records written, {synced.waiting} wait")
            print(f"  {synced.problem or synced.link.url}")
        if not done:
            print(f"no run below {out} recorded anything for MLflow", file=sys.stderr)
    if any(item.synced.waiting or (item.synced.problem and not item.synced.records) for item in done):
        raise typer.Exit(1)
