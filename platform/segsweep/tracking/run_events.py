"""A single run's events as records of a spool, and back as calls to a run logger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from segsweep.records import TrialStatus
from segsweep.tracking.failures import RecordRefused
from segsweep.tracking.replay import FINISHED, START, Buffered
from segsweep.tracking.spool import Record
from segsweep.tracking.tracker import RunLogger

RUN = "run"  # kind of the spool
LOG = "log"
ATTACH = "attach"


class BufferedRunLogger(Buffered, RunLogger, Protocol):
    """A run logger that collects calls until it is flushed."""


class RunEvents:
    """Turns records into calls.

    Args:
        folder: Folder of the spool: files inside it are found although the folder has moved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, record: Record) -> None:
        """Nothing to remember: no record refers to another."""

    def restore(self, target: BufferedRunLogger) -> None:
        """Nothing to restore."""

    def tell(self, target: BufferedRunLogger, record: Record) -> None:
        """Call the run logger."""
        event = record["do"]
        if event == START:
            target.start_run(
                record["name"], params=record["params"], tags=record["tags"], artifacts=record["artifacts"]
            )
        elif event == LOG:
            target.log(record["step"], record["metrics"])
        elif event == ATTACH:
            files, gone = split_files(record["files"], self._folder)
            target.attach(files)
            refuse_missing(gone)
        elif event == FINISHED:
            target.finish(TrialStatus(record["status"]), record["reason"])


def portable(path: Path, folder: Path) -> str:
    """A path as a record holds it: relative to the spool's folder where it lies inside."""
    resolved, home = Path(path).resolve(), folder.resolve()
    return str(resolved.relative_to(home) if resolved.is_relative_to(home) else resolved)


def split_files(files: Mapping[str, str], folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """The files of a record that are there (name in the run -> path), and those that are gone."""
    paths = {name: folder / path for name, path in files.items()}
    there = {name: path for name, path in paths.items() if path.is_file()}
    return there, [path for name, path in paths.items() if name not in there]


def refuse_missing(gone: Sequence[Path]) -> None:
    """Say of files that are gone that they cannot be attached.

    Raises:
        RecordRefused: If there are any; waiting does not bring them back.
    """
    if gone:
        raise RecordRefused(f"no such file to attach: {', '.join(map(str, gone))}")
