"""The command that opens the recorded runs in MLflow's UI."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from segsweep.cli_options import OutOption
from segsweep.jobs.folders import OUT


def ui(
    out: OutOption = OUT,
    uri: Annotated[
        str | None, typer.Option(help="Another MLflow store, for example sqlite:///path.db.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --auth.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: 5000, or the next one that is free.")
    ] = None,
    auth: Annotated[
        bool,
        typer.Option(
            "--auth", help="Ask for a password: SEGSWEEP_UI_PASSWORD, else one that is generated once."
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name under which browsers may ask for it; repeatable."),
    ] = None,
) -> None:
    """Start the MLflow UI on the recorded runs and print the link of the newest sweep."""
    from segsweep import api

    plan = api.ui_plan(
        out=out, uri=uri, host=host, port=port, auth=auth, allowed_hosts=tuple(allowed_host or ())
    )
    api.serve_ui(
        plan,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        show=lambda link: print(link, flush=True),
    )
