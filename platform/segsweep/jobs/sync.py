"""Write to MLflow what runs recorded on disk while it was away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.errors import InvalidInput, Problem, SegsweepError
from segsweep.jobs.credentials import take_credentials
from segsweep.jobs.folders import OUT, SWEEPS, TRAININGS
from segsweep.jobs.news import Say, silent
from segsweep.redaction import without_passwords
from segsweep.tracking.durable import Synced, sync_spool
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.tracker import MlflowLink

_RUNS = (SWEEPS, TRAININGS)


@dataclass(frozen=True, kw_only=True)
class SyncedRun:
    """One record of a run for MLflow and what became of it.

    Attributes:
        run: Name of the run's folder.
        spool: The file.
        synced: Counts, link and problem.
    """

    run: str
    spool: Path
    synced: Synced

    def to_json(self) -> dict[str, Any]:
        """One entry of ``--json``."""
        link = self.synced.link
        return {
            "run": self.run,
            "spool": str(self.spool),
            "records": self.synced.records,
            "written": self.synced.written,
            "waiting": self.synced.waiting,
            "refused": self.synced.refused,
            "problem": self.synced.problem,
            "mlflow": {
                "tracking_uri": without_passwords(link.tracking_uri),
                "experiment_id": link.experiment_id,
                "parent_run_id": link.parent_run_id,
                "url": without_passwords(link.url),
            },
        }


def sync_runs(
    runs: Sequence[str | Path] = (),
    *,
    out: Path = OUT,
    tracking_uri: str | None = None,
    again: bool = False,
    say: Say = silent,
) -> tuple[SyncedRun, ...]:
    """Write what MLflow lacks of some runs; doing it again changes nothing.

    Args:
        runs: Folders or ids of sweeps and trainings; none for all of ``out``.
        out: Where ids are looked up.
        tracking_uri: Another store than the runs' own. User and password in it go into this process's
            environment, where MLflow looks for them, and nowhere else.
        again: Tell everything, also what the store had once.
        say: Takes one line of news at a time.

    Raises:
        InvalidInput: If there is no such run, or it recorded nothing for MLflow.
    """
    done = []
    store = take_credentials(tracking_uri) if tracking_uri else None
    for spool in spools_of(runs, out=out):
        say(f"{spool.parent.name}: writing to MLflow")
        try:
            synced = sync_spool(spool, tracking_uri=store, again=again)
        except SegsweepError as error:  # the others may be fine
            nowhere = MlflowLink(tracking_uri="", experiment_id="", parent_run_id="", url="")
            synced = Synced(records=0, written=0, waiting=0, link=nowhere, problem=str(error))
        done.append(SyncedRun(run=_run_name(spool), spool=spool, synced=synced))
    return tuple(done)


def spools_of(runs: Sequence[str | Path], *, out: Path) -> list[Path]:
    """The records for MLflow of some runs, of all below ``out`` if none is named.

    Raises:
        InvalidInput: With every run that does not exist or has none.
    """
    if not runs:
        return [spool for kind in _RUNS for folder in _folders(out / kind) for spool in _spools(folder)]
    found: list[Path] = []
    problems = []
    for run in runs:
        folder = next((path for path in _candidates(run, out) if path.is_dir()), None)
        spools = list(_spools(folder)) if folder else []
        found += spools
        if folder is None:
            known = [path.name for kind in _RUNS for path in _folders(out / kind)]
            message = f"no such run; give a folder, or one of {out}: {', '.join(known) or 'none is there'}"
            problems.append(Problem(where=str(run), message=message))
        elif not spools:
            problems.append(Problem(where=str(run), message=f"{folder} holds no {SPOOL}: nothing to write"))
    if problems:
        raise InvalidInput(problems)
    return found


def _candidates(run: str | Path, out: Path) -> list[Path]:
    return [Path(run), *(out / kind / run for kind in _RUNS)]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir())


def _spools(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob(f"*{SPOOL}"))
    yield from sorted(folder.glob(f"evaluations/*{SPOOL}"))


def _run_name(spool: Path) -> str:
    folder = spool.parent
    return (
        f"{folder.parent.name} {spool.name.removesuffix(f'.{SPOOL}')}"
        if folder.name == "evaluations"
        else folder.name
    )
