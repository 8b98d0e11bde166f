"""What a run tells MLflow, on disk first: one JSON object a line beside the run's other records.

The first line names the spool; every other one is a record ``{"at": ms since the epoch, "do": event, ...}``.
A record counts only with its newline, so a crash in the middle of a write leaves nothing half-told.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from segsweep.tracking.store import resolve_uri

SPOOL = "mlflow-spool.jsonl"
VERSION = 1
DESTINATION = "destination"  # record: which store the following ones are for
DAMAGED = "damaged"  # stands for a line that is no record
_LOCK_ATTEMPTS, _LOCK_PAUSE_S = 10, 0.02
MAX_HELD_BACK = 100_000  # records in memory while the disk takes none; more would fill the memory

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where records go: an MLflow store and the name of an experiment in it."""

    tracking_uri: str
    experiment: str

    @property
    def key(self) -> str:
        """Name of the destination in the spool's state; holds no password."""
        return f"{recorded_address(self.tracking_uri)} {self.experiment}"


def without_credentials(uri: str) -> str:
    """The address without user name and password, for what is written down."""
    netloc = urlsplit(uri).netloc
    return uri.replace(netloc, netloc.rpartition("@")[2], 1) if "@" in netloc else uri


def recorded_address(uri: str) -> str:
    """The address as it is written down: no password, and the same file from every working directory."""
    return resolve_uri(uri) if uri.startswith("sqlite:///") else without_credentials(uri)


class Spool:
    """The writing end of a spool: appends at once, never raises, one process at a time.

    A record is in the file when ``append`` returns, so it survives the end of the process; it survives that
    of the machine once ``harden`` has returned. What the disk does not take (it is full, it is read-only) is
    kept in memory and written as soon as it does; ``problem`` says so meanwhile.

    Args:
        path: The file.
        kind: Of run: whose events the records are.
        destination: The store for which they are.
        may_divert: Whether to write to a file of its own beside ``path`` where another process writes that.
    """

    def __init__(self, path: Path, *, kind: str, destination: Destination, may_divert: bool = True) -> None:
        self.path = Path(path)
        self.dropped = 0
        self._may_divert = may_divert
        self._kind, self._destination = kind, destination
        self._lock = threading.Lock()
        self._held_back: deque[bytes] = deque()
        self._descriptor = -1
        self._size = 0
        self._is_torn = False
        self._hardened = 0
        self._error = ""

    @property
    def held_back(self) -> int:
        """Number of records that are not in the file."""
        return len(self._held_back)

    @property
    def problem(self) -> str:
        """One sentence on what is not in the file and why; empty if all is."""
        if not self._held_back and not self.dropped:
            return ""
        return f"{self.path} cannot be written ({self._error}); free space or permit it"

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; one that the disk does not take is held back."""
        line = _line(record)
        with self._lock:
            if len(self._held_back) >= MAX_HELD_BACK:
                self.dropped += 1
                return
            self._held_back.append(line)
            self._write_held_back()

    def write_held_back(self) -> None:
        """Try again to write what the disk did not take."""
        if self._held_back:
            with self._lock:
                self._write_held_back()

    def harden(self) -> None:
        """Wait until all that is in the file would survive a power cut.

        Raises:
            OSError: If the disk fails.
        """
        with self._lock:
            descriptor, size = self._descriptor, self._size
        if size > self._hardened:
            os.fsync(descriptor)
            self._hardened = size

    def close(self) -> None:
        """Let other processes write; what is held back is tried once more."""
        self.write_held_back()
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _write_held_back(self) -> None:
        try:
            if self._descriptor < 0:
                self._open()
            while self._held_back:
                self._write(self._held_back[0])
                self._held_back.popleft()
        except OSError as error:
            self._error = error.strerror or str(error)

    def _write(self, line: bytes) -> None:
        if self._is_torn:
            os.ftruncate(self._descriptor, self._size)
            self._is_torn = False
        written = os.write(self._descriptor, line)
        if written != len(line):  # the disk was full after a part of it
            self._is_torn = True
            os.ftruncate(self._descriptor, self._size)
            self._is_torn = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _open(self) -> None:
        """Take the file, cut a torn last line off, and write header and destination if they are new."""
        opening = _opening(self.path, kind=self._kind)
        if opening is None and self._may_divert:  # another process writes there, or it is no spool
            self.path = self.path.with_name(f"{os.getpid()}-{self.path.name}")
            opening = _opening(self.path, kind=self._kind)
        if opening is None:
            raise OSError(errno.EBUSY, f"another process writes to {self.path}")
        self._descriptor, self._size = opening
        try:
            if self._size == 0:
                self._write(_line({"spool": uuid.uuid4().hex, "version": VERSION, "kind": self._kind}))
            known = last_destination(self.path)
            if known is None or known.key != self._destination.key:
                self._write(_line(_destination_record(self._destination)))
        except OSError:
            os.close(self._descriptor)
            self._descriptor = -1
            raise


def _opening(path: Path, *, kind: str) -> tuple[int, int] | None:
    """Descriptor and size of a spool that this process may write now, else ``None``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        _lock(descriptor)
        size = _complete_lines(descriptor)
        if size and (header := read_header(path)) != {**header, "version": VERSION, "kind": kind}:
            os.close(descriptor)
            return None
        if size != os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, size)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, size


def _lock(descriptor: int) -> None:
    """Lock a spool; ``segsweep sync`` holds the lock for a moment when it looks whether someone writes."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _complete_lines(descriptor: int, *, block: int = 1 << 16) -> int:
    """Length of the file without a torn last line, in bytes."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - block)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def is_written(path: Path) -> bool:
    """Whether some process writes to the spool now."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_header(path: Path) -> Record:
    """The first line of a spool: ``spool`` (its id), ``version`` and ``kind``; empty if it is no spool."""
    with path.open("rb") as file:
        header = _parsed(file.readline())
    return header if "spool" in header else {}


def read_records(path: Path, offset: int, *, limit: int) -> list[tuple[Record, int]]:
    """Records from a position on, each with the position after it; none of an unfinished last line.

    A line that is no JSON object comes as ``{"do": "damaged"}``.
    """
    found: list[tuple[Record, int]] = []
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n") or len(found) == limit:
                break
            offset += len(line)
            found.append((_parsed(line), offset))
    return found


def records_of(path: Path, kinds: tuple[str, ...]) -> Iterator[Record]:
    """All records of some kinds, in order; fast, since other lines are not parsed."""
    marks = [f'"do":"{kind}"'.encode() for kind in kinds]
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and any(mark in line for mark in marks):
                record = _parsed(line)
                if record.get("do") in kinds:
                    yield record


def last_destination(path: Path) -> Destination | None:
    """Where the spool's records go, by its last word on it."""
    last = None
    for record in records_of(path, (DESTINATION,)):
        uri, experiment = record.get("tracking_uri"), record.get("experiment")
        if isinstance(uri, str) and isinstance(experiment, str):
            last = Destination(tracking_uri=uri, experiment=experiment)
    return last


def count_records(path: Path, offset: int) -> int:
    """Number of complete lines from a position on, header and destinations left out."""
    with path.open("rb") as file:
        file.seek(offset)
        lines = (line for line in file if line.endswith(b"\n"))
        return sum(b'"do":"' in line and b'"do":"destination"' not in line for line in lines)


def _destination_record(destination: Destination) -> Record:
    return {
        "at": 0,
        "do": DESTINATION,
        "tracking_uri": recorded_address(destination.tracking_uri),
        "experiment": destination.experiment,
    }


def _line(record: Mapping[str, Any]) -> bytes:
    # NaN is written as such: a loss that diverged is a fact worth recording
    return json.dumps(dict(record), separators=(",", ":"), default=str).encode() + b"\n"


def _parsed(line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:  # covers bad UTF-8 too
        return {"at": 0, "do": DAMAGED}
    return record if isinstance(record, dict) else {"at": 0, "do": DAMAGED}


def last_time(path: Path) -> int:
    """When the last record was made, in ms since the epoch; 0 if there is none."""
    last = b""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and b'"do":"' in line:
                last = line
    at = _parsed(last).get("at", 0) if last else 0
    return at if isinstance(at, int) else 0
