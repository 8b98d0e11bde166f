"""The folder of a sweep or a training: its name, its resume, its memory of the job."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segsweep.errors import InvalidJob, Problem
from segsweep.files import write_whole

OUT = Path("segsweep-runs")  # of a job that does not say otherwise
SWEEPS, TRAININGS, PSEUDO_LABELS = "sweeps", "trainings", "pseudo_labels"  # folders of all such runs in `out`
SHARDS = "shards"  # what a run of pseudo_labels makes, in its folder
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
        runs = [path for path in parent.glob(f"*/{JOB}") if _name(path) == name]
        if runs:
            return max(runs, key=lambda path: path.stat().st_mtime_ns).parent
    elif (parent / resume / JOB).is_file():
        return parent / resume
    raise InvalidJob([Problem(where=f"--resume {resume}", message=f"{parent} holds no such run of {name!r}")])


def remember(folder: Path, job: dict[str, Any], *, may_change: Collection[str], **identity: str) -> None:
    """Keep the job in the folder, or check that a resumed one is still the same.

    An identity that a run has not been told yet is kept with it from then on.

    Args:
        folder: Folder of the run.
        job: The job as JSON values.
        may_change: Dotted settings that a resume may change, for example ``sweep.trials``.
        identity: More that must stay equal, for example ``space=DIGEST``.

    Raises:
        InvalidJob: With every setting that changed since the run began; or if what it began as is damaged.
    """
    path = folder / JOB
    before = read_remembered(path) if path.is_file() else {}
    now = {**before, "job": job, **identity}
    if before:
        refuse_changes(before, now, may_change=may_change, where=f"--resume {folder.name}")
    folder.mkdir(parents=True, exist_ok=True)
    if now != before:
        write_whole(path, json.dumps(now, indent=1))
    else:
        with suppress(OSError):
            path.touch()  # the latest run is the one that ran last


def read_remembered(path: Path) -> dict[str, Any]:
    """What ``remember`` wrote; raises ``InvalidJob`` if it is damaged."""
    try:
        return parse_remembered(path.read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidJob([_damaged(str(path), error)]) from error


def parse_remembered(text: str, *, where: str) -> dict[str, Any]:
    """As ``read_remembered``, of a text."""
    try:
        document: dict[str, Any] = json.loads(text)
        if not isinstance(document["job"]["name"], str):
            raise TypeError("its name is no text")
    except (ValueError, TypeError, LookupError) as error:
        raise InvalidJob([_damaged(where, error)]) from error
    return document


def refuse_changes(
    before: dict[str, Any], now: dict[str, Any], *, may_change: Collection[str], where: str
) -> None:
    """Raise ``InvalidJob`` if two documents of ``remember`` differ in what both hold and may not change."""
    both = before.keys() & now.keys()
    before, now = ({key: document[key] for key in both} for document in (before, now))
    problems = [
        Problem(
            where=f"{where}: {key.removeprefix('job.')}",
            message=f"was {was!r} when it began, is {is_!r} now; undo that, or start a new one",
        )
        for key, (was, is_) in _changes(before, now, may_change).items()
    ]
    if problems:
        raise InvalidJob(problems)


def may_resume(folder: Path, job: dict[str, Any], *, may_change: Collection[str]) -> bool:
    """Whether the folder holds a run of the same job; arguments and damage as in ``remember``."""
    path = folder / JOB
    if not path.is_file():
        return False
    return not _changes({"job": read_remembered(path)["job"]}, {"job": job}, may_change)


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values: ``{recipe: {epochs: 3}}`` and ``{recipe.epochs: 3}`` say the same."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name(path: Path) -> str | None:
    """Name of a run's job; a damaged one has none."""
    try:
        return str(read_remembered(path)["job"]["name"])
    except InvalidJob:
        return None


def _damaged(where: str, error: Exception) -> Problem:
    message = (
        f"not the job of a run ({type(error).__name__}: {error}); it was cut short or changed: put back an "
        "intact copy, or start a new run"
    )
    return Problem(where=where, message=message)


def _changes(
    before: dict[str, Any], now: dict[str, Any], may_change: Collection[str]
) -> dict[str, tuple[Any, Any]]:
    """Dotted settings that differ, with both values."""
    allowed = tuple(f"job.{key}" for key in may_change)
    was, is_ = dict(dotted(before)), dict(dotted(now))
    return {
        key: (was.get(key), is_.get(key))
        for key in sorted({**was, **is_})
        if was.get(key) != is_.get(key) and not key.startswith(allowed)
    }
