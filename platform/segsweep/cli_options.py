"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segsweep.errors import InvalidInput, Problem

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the job; repeatable."),
]
ResumeOption = Annotated[
    str | None,
    typer.Option("--resume", metavar="ID", help="Go on with an interrupted one: its id, or 'latest'."),
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")]
RootOption = Annotated[Path | None, typer.Option("--root", help="Folder of the data set.")]
SourceOption = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Setting of the source.")
]


def read_values(pairs: list[str] | None) -> dict[str, Any]:
    """Parse ``key=value`` pairs; values are YAML scalars."""
    from segsweep.search.yaml_lines import parse_yaml

    values: dict[str, Any] = {}
    for pair in pairs or []:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InvalidInput([Problem(where=pair, message="write key=value, for example neck.top_level=9")])
        parsed = parse_yaml(text)
        values[key] = text if parsed.problems else parsed.value
    return values


def read_size(text: str) -> tuple[int, int]:
    """Parse ``HEIGHTxWIDTH``."""
    height, separator, width = text.lower().partition("x")
    if not separator or not height.isdigit() or not width.isdigit() or not int(height) or not int(width):
        raise InvalidInput(
            [Problem(where=f"--size {text}", message="write HEIGHTxWIDTH, for example 1024x2048")]
        )
    return int(height), int(width)
