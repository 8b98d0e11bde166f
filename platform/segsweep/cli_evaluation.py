"""``segsweep eval`` and ``segsweep predict``: what a trained run is worth, and what it sees."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from segsweep.cli_data import progress_bar
from segsweep.cli_options import JsonFlag, OutOption, SetOption, read_values
from segsweep.cli_output import console, print_json
from segsweep.jobs.folders import OUT

RunArgument = Annotated[
    str, typer.Argument(help="A training: its folder, its checkpoint, its id, or 'latest'.")
]
DataRootOption = Annotated[
    Path | None, typer.Option("--data-root", help="Where its data set lies now, if that has changed.")
]


def evaluate(
    run: RunArgument,
    protocol: Annotated[
        str, typer.Option(help="Name of a protocol, or a YAML file with one; 'list' names them.")
    ] = "original",
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "val",
    set_: SetOption = None,
    out: OutOption = OUT,
    data_root: DataRootOption = None,
    worst: Annotated[int, typer.Option(min=0, max=64, help="Worst images to draw.")] = 8,
    json_: JsonFlag = False,
) -> None:
    """Evaluate a training under a protocol: scores, table by class, confusion matrix, worst images."""
    from segsweep import api

    if run == "list" or protocol == "list":
        print("\n".join(api.protocol_names()))
        return
    with progress_bar(f"evaluating {run}") as progress:
        result = api.evaluate(
            run,
            protocol,
            split=split,
            overrides=read_values(set_),
            out=out,
            data_root=data_root,
            worst=worst,
            progress=progress,
        )
    if json_:
        print_json(result.to_json())
        return
    from segsweep.reporting.class_table import class_table, score_rows

    console(stderr=False).print(class_table(result.report, title=f"{result.run_id}, {result.protocol}"))
    for name, value in score_rows(result.report):
        print(f"{name:36}{value:>8}")
    print(f"records     {result.folder}")
    print(f"MLflow      {result.mlflow.problem or result.mlflow.url}")


def predict(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    out: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path("predictions"),
    runs: Annotated[Path, typer.Option(help="Folder in which ids of trainings are looked up.")] = OUT,
    data_root: DataRootOption = None,
) -> None:
    """Write coloured masks and overlays for pictures of your own."""
    from segsweep import api

    with progress_bar("predicting") as progress:
        written = api.predict(run, images, out, runs=runs, data_root=data_root, progress=progress)
    for item in written:
        largest = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(item.shares.items())[:3])
        print(f"{item.overlay}  {largest}")
    if not written:
        print("no pictures there", file=sys.stderr)
        raise typer.Exit(1)
