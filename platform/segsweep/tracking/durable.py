"""Durable trackers of an MLflow store, and how their spools are written to it later."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.errors import DataError
from segsweep.tracking.background import BackgroundRunLogger, BackgroundTracker
from segsweep.tracking.drain import refused_line, waiting_line
from segsweep.tracking.failures import first_line
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.pump import Pump
from segsweep.tracking.replay import CLOSE, START, Replay
from segsweep.tracking.run_events import RUN, RunEvents
from segsweep.tracking.run_logger import MlflowRunLogger
from segsweep.tracking.spool import (
    VERSION,
    Destination,
    Spool,
    count_records,
    is_written,
    last_destination,
    last_time,
    read_header,
    records_of,
)
from segsweep.tracking.sweep_events import SWEEP, SweepEvents
from segsweep.tracking.tracker import MlflowLink

BACKOFF_S = 1.0
_BUSY = "its own process is writing it to MLflow now; nothing to do"


def durable_tracker(tracking_uri: str, *, experiment: str, spool: Path) -> BackgroundTracker:
    """A sweep's tracker that loses nothing while the store is away.

    Args:
        tracking_uri: ``sqlite:///path`` or ``http(s)://host:port``.
        experiment: Name of the MLflow experiment.
        spool: File in the sweep's folder that keeps the records.
    """
    return BackgroundTracker(
        lambda: MlflowTracker(tracking_uri, experiment=experiment),
        spool=spool,
        destination=Destination(tracking_uri=tracking_uri, experiment=experiment),
    )


def durable_run_logger(tracking_uri: str, *, experiment: str, spool: Path) -> BackgroundRunLogger:
    """A run's logger that loses nothing while the store is away; arguments as ``durable_tracker``."""
    return BackgroundRunLogger(
        lambda: MlflowRunLogger(tracking_uri, experiment=experiment),
        spool=spool,
        destination=Destination(tracking_uri=tracking_uri, experiment=experiment),
    )


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What became of a spool.

    Attributes:
        records: Records in the spool.
        written: Records that the store got just now.
        waiting: Records that it still does not have.
        link: Where the run is.
        refused: Entries of the run that the store will never take, now or before.
        problem: Why something waits or was refused; empty if all is well.
    """

    records: int
    written: int
    waiting: int
    link: MlflowLink
    refused: int = 0
    problem: str = ""


def sync_spool(
    spool: Path, *, tracking_uri: str | None = None, again: bool = False, attempts: int = 3
) -> Synced:
    """Write to MLflow what a run recorded and the store does not have; doing it again changes nothing.

    A run whose process was killed is marked as interrupted. One that is being recorded is left to its
    own process.

    Args:
        spool: The file.
        tracking_uri: Another store than the run's own.
        again: Tell everything, also what the store had: for a store that lost its data.
        attempts: How often to try a store that does not answer.

    Raises:
        DataError: If the file is no spool of this version.
    """
    destination = _destination(spool, tracking_uri)
    pump = _pump(spool, destination)
    records = count_records(spool, 0)
    if is_written(spool) or not pump.open(again=again):
        return Synced(records=records, written=0, waiting=0, link=pump.progress.link, problem=_BUSY)
    try:
        unwritten = _end_of_killed(spool, destination)
        if unwritten and is_written(spool):  # resumed a moment ago: its own process goes on with it
            return Synced(records=records, written=0, waiting=0, link=pump.progress.link, problem=_BUSY)
        before = pump.waiting
        error = _drained(pump, attempts=attempts) if before else ""
        waiting = pump.waiting
        lines = [unwritten, waiting_line(pump, waiting), f"the last error was: {error}" if error else ""]
        problem = "; ".join(line for line in [*lines, refused_line(pump)] if line)
        return Synced(
            records=count_records(spool, 0),
            written=before - waiting,
            waiting=waiting,
            link=pump.progress.link,
            refused=pump.progress.refused,
            problem=problem,
        )
    finally:
        pump.close()


def _destination(spool: Path, tracking_uri: str | None) -> Destination:
    header = read_header(spool)
    if header.get("version") != VERSION or header.get("kind") not in (SWEEP, RUN):
        raise DataError(f"{spool} is no record of a run for MLflow that this version reads; restore it")
    known = last_destination(spool)
    if known is None:
        raise DataError(f"{spool} does not say for which MLflow store it is; give --uri")
    if tracking_uri is None:
        return known
    return Destination(tracking_uri=tracking_uri, experiment=known.experiment)


def _pump(spool: Path, destination: Destination) -> Pump[Any]:
    uri, experiment = destination.tracking_uri, destination.experiment
    if read_header(spool)["kind"] == SWEEP:
        sweep = Replay(lambda: MlflowTracker(uri, experiment=experiment), SweepEvents(spool.parent))
        return Pump(spool, destination=destination, replay=sweep)
    run = Replay(lambda: MlflowRunLogger(uri, experiment=experiment), RunEvents(spool.parent))
    return Pump(spool, destination=destination, replay=run)


def _end_of_killed(spool: Path, destination: Destination) -> str:
    """Close a life whose process was killed, at the time of its last record; why that failed, if it did."""
    last = None
    for record in records_of(spool, (START, CLOSE)):
        last = record["do"]
    if last != START:
        return ""
    known = last_destination(spool) or destination
    writer = Spool(spool, kind=read_header(spool)["kind"], destination=known, may_divert=False)
    writer.append({"at": last_time(spool), "do": CLOSE})
    writer.close()
    return writer.problem


def _drained(pump: Pump[Any], *, attempts: int) -> str:
    """Write until nothing waits; the last error if that failed."""
    failures = 0
    while True:
        try:
            if not pump.step():
                return ""
        except Exception as error:  # whatever the store does, the records stay
            failures += 1
            if failures == attempts:
                return first_line(error)
            time.sleep(BACKOFF_S * failures)
        else:
            failures = 0
