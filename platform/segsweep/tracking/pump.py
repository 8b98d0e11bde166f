"""Writes a spool to a store, batch by batch, and remembers on disk how far it came."""

from __future__ import annotations

from pathlib import Path
from typing import Generic

from segsweep.tracking.replay import CLOSE, START, Replay, Target
from segsweep.tracking.spool import Destination, Record, count_records, read_records
from segsweep.tracking.spool_state import DrainLock, Progress, load_progress, save_progress

BATCH = 512
COVERED = "front"  # of several waiting records of this event only the last is told: it covers the others


class Pump(Generic[Target]):
    """Reads records after the saved position, tells them, and saves the new position when all is written.

    A process that dies between the write and the save tells the same records again; they are the same rows
    with the same timestamps, so the store holds them once.
    """

    def __init__(self, spool: Path, *, destination: Destination, replay: Replay[Target]) -> None:
        self.spool = spool
        self._destination, self._replay = destination, replay
        self._lock = DrainLock(spool)
        self._progress: Progress | None = None
        self._position = 0

    @property
    def progress(self) -> Progress:
        """What the store has, as saved; nothing before ``open``."""
        return self._progress or Progress()

    @property
    def waiting(self) -> int:
        """Number of records in the file that the store does not have."""
        return count_records(self.spool, self.progress.offset) if self.spool.exists() else 0

    def open(self, *, again: bool = False) -> bool:
        """Take the spool; whether no other process (or thread) drains it now.

        Args:
            again: Begin at the first record whatever the store has.
        """
        if not self._lock.acquire():
            return False
        if self._progress is None:
            saved = load_progress(self.spool, self._destination)
            self._progress = Progress() if again else saved
            self._recall(self._progress.offset)
        return True

    def step(self) -> int:
        """Write one batch; returns the number of records, 0 if there is nothing new.

        Raises:
            Exception: Whatever keeps the store from being written; another step goes on where it was.
        """
        batch = read_records(self.spool, self._position, limit=BATCH)
        covered = _covered([record for record, _ in batch])
        for index, (record, after) in enumerate(batch):
            if index not in covered:
                self._replay.apply(record)
            self._position = after
        if self._position != self.progress.offset:
            self._replay.flush()
            self._save()
        return len(batch)

    def close(self) -> None:
        """Let others drain the spool."""
        self._lock.release()

    def _recall(self, offset: int) -> None:
        while self._position < offset:
            for record, after in read_records(self.spool, self._position, limit=BATCH):
                if after > offset:
                    return
                self._replay.remember(record)
                self._position = after

    def _save(self) -> None:
        before = self.progress
        now = Progress(
            offset=self._position,
            refused=before.refused + self._replay.refused,
            reason=self._replay.reason or before.reason,
            link=self._replay.link or before.link,
        )
        save_progress(self.spool, self._destination, now)
        self._replay.refused = 0
        self._progress = now


def _covered(records: list[Record]) -> set[int]:
    """Indices of the records that a later one of the same life covers."""
    covered: set[int] = set()
    last = -1
    for index, record in enumerate(records):
        if record.get("do") in (START, CLOSE):
            last = -1
        elif record.get("do") == COVERED:
            if last >= 0:
                covered.add(last)
            last = index
    return covered
