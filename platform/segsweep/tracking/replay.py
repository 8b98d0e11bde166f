"""Tells a store what a spool holds, so that telling it again changes nothing.

A spool holds one or more lives of a run: each begins with ``start`` and ends with ``close``, unless its
process was killed. Every life has a target of its own, as it had a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from segsweep.tracking.failures import EntriesRefused, RecordRefused, first_line, is_refusal
from segsweep.tracking.spool import DAMAGED, DESTINATION, Record
from segsweep.tracking.tracker import MlflowLink

START = "start"
FINISHED = "finished"  # the run told how it ended; a life that is closed without it was interrupted
CLOSE = "close"


class Buffered(Protocol):
    """What a replay needs of a tracker besides its events."""

    def at(self, timestamp_ms: int | None) -> None:
        """State when the next events happened."""

    def flush(self) -> None:
        """Write what is collected."""

    def link(self) -> MlflowLink:
        """Where the run is, as far as it is known."""

    def close(self) -> MlflowLink:
        """Write what is left."""


Target = TypeVar("Target", bound=Buffered)
Told_contra = TypeVar("Told_contra", bound=Buffered, contravariant=True)


class Events(Protocol[Told_contra]):
    """The events of one kind of run: how a record becomes calls to a target."""

    def take(self, record: Record) -> None:
        """Remember what later records refer to; taking a record twice changes nothing.

        Raises:
            Exception: If the record cannot be read: nothing is remembered of it.
        """

    def tell(self, target: Told_contra, record: Record) -> None:
        """Call the target."""

    def restore(self, target: Told_contra) -> None:
        """Tell a new target what is remembered; nothing is written by it."""


class Replay(Generic[Target]):
    """Applies records to targets that it makes; errors that pass when one waits are raised.

    Attributes:
        refused: Entries and records that the store will never take.
        reason: What it said of the last of them.
        link: Where the run is; ``None`` before anything was told.
    """

    def __init__(self, make_target: Callable[[], Target], events: Events[Target]) -> None:
        self.refused = 0
        self.reason = ""
        self.link: MlflowLink | None = None
        self._make_target, self._events = make_target, events
        self._target: Target | None = None
        self._start: Record | None = None
        self._finished: Record | None = None

    def remember(self, record: Record) -> None:
        """Take in a record that the store has already, or refused; one that cannot be read is left out."""
        try:
            self._events.take(record)
        except Exception as error:
            if not is_refusal(error):
                raise
            return
        event = record.get("do")
        if event == START:
            self._start, self._finished = record, None
        elif event == FINISHED:
            self._finished = record
        elif event == CLOSE:
            self._start = self._finished = None

    def apply(self, record: Record) -> None:
        """Tell the store one record; after an error the same record may be applied again."""
        if record.get("do") in (None, DESTINATION):
            return
        try:
            if record["do"] == CLOSE:
                self._close(record)
            else:
                self._tell(record)
        except Exception as error:
            if not is_refusal(error):
                raise
            self._refuse(1, first_line(error))
        self.remember(record)

    def flush(self) -> None:
        """Write what was collected from the records applied so far."""
        if self._target is not None:
            self._without_refused(self._target.flush)
            self.link = self._target.link()

    def _tell(self, record: Record) -> None:
        if record["do"] == DAMAGED:
            raise RecordRefused("a line of the spool is damaged")
        self._events.take(record)  # one that cannot be read is refused before anything is told
        if record["do"] == START and self._start is not None:  # the life before was killed: it has no close
            self.flush()
            self._target = None
        self._told(self._opened(record), record)

    def _opened(self, record: Record) -> Target:
        """The life's target. One made in the middle of a life begins where the store's runs stand."""
        if self._target is not None:
            return self._target
        if record["do"] != START and self._start is None:
            raise RecordRefused(f"{record['do']!r} without the start of its run")
        target = self._make_target()
        self._events.restore(target)
        if record["do"] != START and self._start is not None:
            self._told(target, self._start)
            if self._finished is not None:
                finished = self._finished
                self._or_refused(lambda: self._told(target, finished))
        self._target = target
        return target

    def _told(self, target: Target, record: Record) -> None:
        target.at(record["at"])
        self._without_refused(lambda: self._events.tell(target, record))

    def _close(self, record: Record) -> None:
        if self._start is None or (self._target is None and self._finished is not None):
            return  # it is closed already as far as the store is concerned
        target = self._opened(record)
        target.at(record["at"])
        self._or_refused(lambda: self._without_refused(target.close))
        self.link = target.link()
        self._target = None

    def _or_refused(self, act: Callable[[], object]) -> None:
        """Do what leaves the target as it should be, even if the store refuses a part of it."""
        try:
            act()
        except Exception as error:
            if not is_refusal(error):
                raise
            self._refuse(1, first_line(error))

    def _without_refused(self, act: Callable[[], object]) -> None:
        """Do it again as long as only entries were dropped: each time there are fewer."""
        while True:
            try:
                act()
            except EntriesRefused as error:
                self._refuse(error.count, error.reason)
            else:
                return

    def _refuse(self, count: int, reason: str) -> None:
        self.refused += count
        self.reason = reason
