"""The folder of a sweep or a training: its name, its resume, its memory of the job."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segsweep.errors import InvalidJob, Problem

LATEST = "latest"
JOB = "job.json"


def run_folder(parent: Path, name: str, *, resume: str | None, new_id: str | None) -> Path:
    """The folder of a new run, or of the one to resume.

    Args:
        parent: Folder of all runs of this kind.
        name: Name of the job; ``latest`` looks only at runs of jobs of this name.
        resume: Id of an interrupted run, ``latest``, or ``None`` for a new run.
        new_id: Id of a new run; by default the job's name and the time.

    Raises:
        InvalidJob: If there is nothing of that id to resume.
    """
    if resume is None:
        return parent / (new_id or f"{name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}")
    if resume == LATEST:
        runs = [
            path for path in parent.glob(f"*/{JOB}") if json.loads(path.read_text())["job"]["name"] == name
        ]
        if runs:
            return max(runs, key=lambda path: path.stat().st_mtime_ns).parent
    elif (parent / resume / JOB).is_file():
        return parent / resume
    raise InvalidJob([Problem(where=f"--resume {resume}", message=f"{parent} holds no such run of {name!r}")])


def remember(folder: Path, job: dict[str, Any], *, may_change: Collection[str], **identity: str) -> None:
    """Keep the job in the folder, or check that a resumed one is still the same.

    Args:
        folder: Folder of the run.
        job: The job as JSON values.
        may_change: Dotted settings that a resume may change, for example ``sweep.trials``.
        identity: More that must stay equal, for example ``space=DIGEST``.

    Raises:
        InvalidJob: With every setting that changed since the run began.
    """
    path = folder / JOB
    now = {"job": job, **identity}
    if path.is_file():
        changed = _changes(json.loads(path.read_text()), now, may_change)
        if changed:
            raise InvalidJob(
                Problem(
                    where=f"--resume {folder.name}: {key.removeprefix('job.')}",
                    message=f"was {before!r} when it began, is {after!r} now; undo that, or start a new one",
                )
                for key, (before, after) in changed.items()
            )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(now, indent=1))


def may_resume(folder: Path, job: dict[str, Any], *, may_change: Collection[str]) -> bool:
    """Whether the folder holds a run of the same job; arguments as ``remember``."""
    path = folder / JOB
    if not path.is_file():
        return False
    return not _changes({"job": json.loads(path.read_text())["job"]}, {"job": job}, may_change)


def _changes(
    before: dict[str, Any], now: dict[str, Any], may_change: Collection[str]
) -> dict[str, tuple[Any, Any]]:
    """Dotted settings that differ, with both values."""
    allowed = tuple(f"job.{key}" for key in may_change)
    was, is_ = _flat(before), _flat(now)
    return {
        key: (was.get(key), is_.get(key))
        for key in sorted({**was, **is_})
        if was.get(key) != is_.get(key) and not key.startswith(allowed)
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
