"""The thread that writes a run's spool to MLflow beside the work, and gives up before anyone waits for it."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any, Generic

from segsweep.priority import this_thread_may_wait
from segsweep.tracking.failures import first_line
from segsweep.tracking.pump import BATCH, Pump
from segsweep.tracking.replay import CLOSE, Target
from segsweep.tracking.spool import Record, Spool
from segsweep.tracking.tracker import MlflowLink

ATTEMPTS = 3
BACKOFF_S = 0.2
LINGER_S = 3.0  # a call to MLflow costs tens of ms of CPU whatever it carries, and trials train beside it
PAUSE_S = 5.0  # after the second failure in a row
GIVE_UP_AFTER = 3  # failures in a row, once the tracker is being closed


class Drain(Generic[Target]):
    """A spool and the thread that drains it.

    ``submit`` puts a record on disk and returns; errors never reach the caller. While the store is down the
    thread tries it every few seconds; ``close`` does not wait for a store that stays down, and what it does
    not have then waits on disk.

    Args:
        spool: Where records go first; not yet opened.
        make_pump: Called once, in the thread.
        is_kept: Whether the spool stays on disk; if not, what the store does not have at the end is lost.
    """

    def __init__(self, spool: Spool, make_pump: Callable[[], Pump[Target]], *, is_kept: bool = True) -> None:
        self._spool, self._make_pump, self._is_kept = spool, make_pump, is_kept
        self._wake = threading.Condition()
        self._has_news = False
        self._closing = False
        self._stopped = False
        self._late = 0
        self._failures = 0
        self._error = ""
        self._pump: Pump[Target] | None = None
        self._thread: threading.Thread | None = None  # started by the first call
        self._link: MlflowLink | None = None

    def submit(self, event: str, **fields: object) -> None:
        """Put a record on disk; returns at once."""
        if self._closing:
            self._late += 1
            return
        self._append(event, fields)

    def close(self, timeout_s: float) -> MlflowLink:
        """Wait until the store has everything, at most ``timeout_s`` seconds, and say where it is."""
        if self._link is None:
            if self._thread is not None:
                self._append(CLOSE, {})
            with self._wake:
                self._closing = True
                self._wake.notify()
            if self._thread is not None:
                self._thread.join(timeout_s)
            self._stopped = True  # after the call that the thread may be in
            self._link = self._summary(timeout_s)
        return self._link

    def _append(self, event: str, fields: dict[str, object]) -> None:
        record: Record = {"at": time.time_ns() // 1_000_000, "do": event, **fields}
        self._spool.append(record)
        with self._wake:
            self._has_news = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="segsweep-mlflow", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _work(self) -> None:
        this_thread_may_wait()
        while not self._stopped:
            written = self._tried(self._step)
            if written is None:
                if self._closing and self._failures >= GIVE_UP_AFTER:
                    break
                if self._failures > 1:  # leave a store that is down alone for a while
                    self._sleep(PAUSE_S)
            elif written == 0:
                if self._closing:
                    break
                self._wait_for_news()
            elif written < BATCH:  # what comes within the next seconds goes with one call for each run
                self._sleep(LINGER_S)
        self._tried(self._let_go)

    def _step(self) -> int:
        self._spool.write_held_back()
        self._spool.harden()
        pump = self._pump = self._pump or self._make_pump()
        if not pump.open():
            raise BlockingIOError("another process writes these records to MLflow now")
        return pump.step()

    def _let_go(self) -> int:
        if self._pump is not None:
            self._pump.close()
        self._spool.close()
        return 0

    def _wait_for_news(self) -> None:
        with self._wake:
            self._wake.wait_for(
                lambda: self._has_news or self._closing,
                timeout=PAUSE_S if self._spool.held_back else None,
            )
            self._has_news = False

    def _sleep(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._closing, timeout=seconds)

    def _tried(self, act: Callable[[], int]) -> int | None:
        """The answer of one of a few attempts, ``None`` if all failed."""
        for attempt in range(ATTEMPTS if self._failures == 0 else 1):
            if attempt:
                time.sleep(BACKOFF_S * 2 ** (attempt - 1))
            try:
                done = act()
            except Exception as error:  # a sweep must survive whatever its tracker does; close() tells
                self._error = first_line(error)
            else:
                self._failures = 0
                return done
        self._failures += 1
        return None

    def _summary(self, timeout_s: float) -> MlflowLink:
        unwritten = self._spool.held_back + self._spool.dropped + self._late
        pump = self._pump
        if pump is None:
            no_link = MlflowLink(tracking_uri="", experiment_id="", parent_run_id="", url="")
            problem = f"{unwritten} calls came too late or could not be kept" if unwritten else ""
            return dataclasses.replace(no_link, lost=unwritten, problem=problem)
        waiting = pump.waiting
        is_late = self._thread is not None and self._thread.is_alive()
        if not self._is_kept:
            unwritten, waiting = unwritten + waiting, 0
            if not is_late:
                shutil.rmtree(self._spool.path.parent, ignore_errors=True)
        lines = [
            f"MLflow was not done after {timeout_s:g} s" if is_late and (waiting or unwritten) else "",
            waiting_line(pump, waiting),
            f"{unwritten} records are not written" if unwritten else "",
            self._spool.problem,
            refused_line(pump),
            f"the last error was: {self._error}" if self._error and (waiting or unwritten) else "",
        ]
        problem = "; ".join(line for line in lines if line)
        return dataclasses.replace(
            pump.progress.link, lost=unwritten + pump.progress.refused, waiting=waiting, problem=problem
        )


def waiting_line(pump: Pump[Any], waiting: int) -> str:
    """What to do about records that the store does not have yet; empty if there are none."""
    if not waiting:
        return ""
    records = f"{waiting} records wait" if waiting > 1 else "1 record waits"
    return f"{records} on disk; when MLflow is back run `segsweep sync {pump.spool.parent}`"


def refused_line(pump: Pump[Any]) -> str:
    """What the store will never take; empty if it took everything."""
    progress = pump.progress
    return f"MLflow refused {progress.refused} entries: {progress.reason}" if progress.refused else ""
