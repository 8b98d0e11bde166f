"""``segsweep data``: turn data sets into shards, examine and show them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from segsweep.cli_options import JsonFlag, RootOption, SourceOption, read_size, read_values
from segsweep.cli_output import console, print_json, print_shards

data_app = typer.Typer(no_args_is_help=True, help="Prepare, examine and show data sets.")
NameArgument = Annotated[str, typer.Argument(help="Data set, for example camvid, cityscapes or folder.")]
SplitOption = Annotated[str | None, typer.Option(help="Split; default all, or the first to show.")]


@data_app.command("prepare")
def data_prepare(
    name: NameArgument,
    out: Annotated[Path, typer.Option(help="Folder of the shards.")],
    root: RootOption = None,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH to resize to.")] = None,
    option: SourceOption = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; 0: threads of this one. A Ray cluster goes first.")
    ] = 0,
    json_: JsonFlag = False,
) -> None:
    """Turn a data set into Arrow shards once: in threads, in processes, or on a Ray cluster.

    Where RAY_ADDRESS names a cluster, its nodes do the work; all must see the data and the folder of the
    shards under the same paths. Run it again after an interruption: finished parts are kept.
    """
    from segsweep import api

    with progress_bar(f"preparing {name}") as progress:
        shards = api.prepare(
            name,
            out=out,
            root=root,
            size=read_size(size) if size else None,
            options=read_values(option),
            workers=workers,
            progress=progress,
        )
    print_shards(shards, json_)


@data_app.command("check")
def data_check(
    name: NameArgument,
    root: RootOption = None,
    split: SplitOption = None,
    option: SourceOption = None,
    json_: JsonFlag = False,
) -> None:
    """Look for wrong labels: ids, colours, off-by-one, void, pairs, sizes, duplicates."""
    from segsweep import api

    with progress_bar(f"examining {name}") as progress:
        findings = api.check_data(
            name,
            root=root,
            splits=[split] if split else None,
            options=read_values(option),
            progress=progress,
        )
    if json_:
        print_json({"findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(finding)
        print(f"{len(findings)} findings" if findings else "no findings: the labels look sound")
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


@data_app.command("show")
def data_show(
    name: NameArgument,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("samples.png"),
    root: RootOption = None,
    split: SplitOption = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="Samples to draw.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Of their choice.")] = 0,
    option: SourceOption = None,
) -> None:
    """Draw samples with their labels, legend and class histogram."""
    from segsweep import api

    path = api.show_data(
        name, out, root=root, split=split, count=count, seed=seed, options=read_values(option)
    )
    print(path)


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; called with the number of things done and in all."""
    from rich.progress import Progress

    with Progress(console=console(), transient=True, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task(text, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
