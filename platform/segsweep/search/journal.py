"""What happened in a sweep, one JSON object a line, so that it can go on after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.errors import DataError

JOURNAL = "journal.jsonl"  # its name in the folder of a sweep
END = "end"  # type of the event that closes a sweep; it has ``interrupted`` and ``exhausted``, both bool


class Journal:
    """Append-only JSON lines. A line is on disk when ``append`` returns.

    An event counts only with its newline: a crash in the middle of a write leaves a torn last line, which
    ``read`` leaves out and the next ``append`` cuts off. One process writes at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._is_mended = False

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event and wait until it is on disk.

        Args:
            event: JSON values only.
        Raises:
            TypeError: If a value is not JSON; nothing is written.
            DataError: If the file cannot be written.
        """
        line = json.dumps(dict(event), separators=(",", ":")).encode() + b"\n"
        try:
            if not self._is_mended:
                self._mend()
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot write the journal ({error}); free space or permit it"
            ) from error

    def read(self) -> list[dict[str, Any]]:
        """All events in order; empty if the file does not exist.

        Raises:
            DataError: If a line other than a torn last one is not a JSON object; names the line.
        """
        if not self.path.exists():
            return []
        *lines, _torn = self.path.read_bytes().split(b"\n")
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            event = json.loads(line)
        except ValueError as error:  # covers bad UTF-8 too
            raise self._damage(number, f"{error}") from error
        if not isinstance(event, dict):
            raise self._damage(number, f"found {type(event).__name__}")
        return event

    def _damage(self, number: int, found: str) -> DataError:
        return DataError(
            f"{self.path}:{number}: not a JSON object ({found}); only the last line may be torn. "
            "Restore the journal from a copy, or start the sweep anew in another directory"
        )

    def _mend(self) -> None:
        """Cut a torn last line off, and make the file's directory entry durable."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._is_mended = True
