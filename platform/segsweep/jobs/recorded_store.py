"""In which MLflow store a finished run is recorded: one answer for everyone who looks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.jobs.common import store_of
from segsweep.jobs.credentials import take_credentials
from segsweep.jobs.finished_sweep import FinishedSweep
from segsweep.jobs.folders import JOB
from segsweep.jobs.spec import TrackingSettings
from segsweep.tracking.spool import SPOOL, Destination, last_destination
from segsweep.tracking.store import is_there


def recorded_in(sweep: FinishedSweep) -> Destination:
    """Where the sweep's runs were written, or would be by its job where it does not say or was moved."""
    return _destination(sweep.folder, sweep.job, sweep.out)


def newest_store(out: Path) -> str:
    """The store of the newest job below an ``out`` folder; without any, where a new one would record."""
    jobs = sorted(out.glob(f"*/*/{JOB}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in jobs:
        try:
            job = json.loads(path.read_text(encoding="utf-8"))["job"]
            if isinstance(job["tracking"], dict):
                return _destination(path.parent, job, out).tracking_uri
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no job of ours, or one that is damaged
    return store_of(TrackingSettings(), out)


def _destination(folder: Path, job: Mapping[str, Any], out: Path) -> Destination:
    spool = folder / SPOOL
    written = last_destination(spool) if spool.is_file() else None
    if written is not None and is_there(written.tracking_uri):
        return written
    settings = job.get("tracking") or {}
    uri = settings.get("uri")
    tracking = TrackingSettings(
        uri=take_credentials(uri) if uri else None, experiment=settings.get("experiment")
    )
    return Destination(
        tracking_uri=store_of(tracking, out), experiment=tracking.experiment or str(job["name"])
    )
