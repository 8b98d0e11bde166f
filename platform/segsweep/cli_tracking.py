"""``segsweep sync``: bring MLflow up to date with what runs recorded on disk."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from segsweep.cli_options import JsonFlag, OutOption
from segsweep.cli_output import print_json
from segsweep.jobs.folders import OUT

if TYPE_CHECKING:
    from segsweep.tracking.durable import Synced


def _is_incomplete(synced: Synced) -> bool:
    """Whether the store lacks something of a run that no other process is writing."""
    return bool(synced.waiting or synced.refused or (synced.problem and not synced.records))


def sync(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Sweeps or trainings: folders or ids; without any, all.")
    ] = None,
    out: OutOption = OUT,
    uri: Annotated[
        str | None,
        typer.Option(help="Another MLflow store than the runs' own, for example http://host:5000."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Tell everything once more: for a store that lost its data.")
    ] = False,
    json_: JsonFlag = False,
) -> None:
    """Write to MLflow what it lacks: after an outage, a killed driver, or to copy runs to a server.

    Ends with 1 if records still wait or MLflow refused some for good.
    """
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
    if any(_is_incomplete(item.synced) for item in done):
        raise typer.Exit(1)
