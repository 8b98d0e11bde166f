"""How far a spool has been written to each store, on disk beside it, and who writes it there now."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segsweep.files import write_whole
from segsweep.tracking.spool import Destination, read_header, without_credentials
from segsweep.tracking.tracker import MlflowLink


@dataclass(kw_only=True)
class Progress:
    """What one store has of a spool.

    Attributes:
        offset: Position in the file; all before it is in the store.
        refused: Entries that the store will never take.
        reason: What it said of the last of them.
        link: Where the runs are.
    """

    offset: int = 0
    refused: int = 0
    reason: str = ""
    link: MlflowLink = field(
        default_factory=lambda: MlflowLink(tracking_uri="", experiment_id="", parent_run_id="", url="")
    )


def load_progress(spool: Path, destination: Destination) -> Progress:
    """What was saved; nothing if the state is missing, damaged or that of another spool.

    Starting from nothing only costs time: a store takes equal entries once.
    """
    saved = _stores(spool).get(destination.key)
    if not isinstance(saved, dict):
        return Progress()
    try:
        progress = Progress(**{**saved, "link": MlflowLink(**saved["link"])})
    except (TypeError, KeyError):
        return Progress()
    inside = isinstance(progress.offset, int) and 0 <= progress.offset <= spool.stat().st_size
    return progress if inside else Progress()


def save_progress(spool: Path, destination: Destination, progress: Progress) -> None:
    """Replace the saved state in one step.

    Raises:
        OSError: If the disk does not take it; what was saved before stays.
    """
    link = dataclasses.replace(
        progress.link,
        tracking_uri=without_credentials(progress.link.tracking_uri),
        url=without_credentials(progress.link.url),
    )
    saved = dataclasses.asdict(dataclasses.replace(progress, link=link))
    stores = {**_stores(spool), destination.key: saved}
    document = {"spool": read_header(spool).get("spool"), "stores": stores}
    write_whole(_state_path(spool), json.dumps(document, indent=1))


def _stores(spool: Path) -> dict[str, Any]:
    try:
        document = json.loads(_state_path(spool).read_bytes())
        stores = document["stores"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    same = document.get("spool") == read_header(spool).get("spool")
    return stores if same and isinstance(stores, dict) else {}


def _state_path(spool: Path) -> Path:
    return spool.with_name(f"{spool.stem}.state.json")


class DrainLock:
    """Only one process (and one thread of it) writes a spool to a store at a time."""

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(f"{spool.stem}.lock")
        self._descriptor = -1

    def acquire(self) -> bool:
        """Take the lock if it is free; whether this object holds it now.

        Raises:
            OSError: If the lock's file cannot be created.
        """
        if self._descriptor >= 0:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
