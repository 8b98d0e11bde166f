"""Run a job file on a Ray cluster: check it here, take the working directory along, follow what it prints."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segsweep.errors import InvalidInput, InvalidJob, Problem
from segsweep.jobs.builtin import builtin_folder, builtin_names, find_file
from segsweep.jobs.check import check_job
from segsweep.jobs.load import load_job
from segsweep.jobs.load_chain import planned_steps
from segsweep.jobs.news import Say, silent
from segsweep.jobs.spec import ChainJob, Job, StepJob, SweepJob, TrainJob
from segsweep.jobs.working_dir import Package, collect, size_text, write_archive
from segsweep.redaction import has_password

if TYPE_CHECKING:
    from segsweep.distributed.job_client import ClusterJob

INTERRUPTED = 130
OWN_CODE = (
    "platform/segsweep/__init__.py"  # a working directory with it is a checkout: it brings its own code
)
STOP = {"RAY_JOB_STOP_WAIT_TIME_S": "30"}  # to end in order after SIGTERM; Ray's own 3 s are too short


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job that a cluster has taken.

    Attributes:
        job_id: Name on the cluster; ``segsweep status``, ``logs`` and ``stop`` take it.
        address: The cluster.
        entrypoint: The command that runs there.
        files: Number of files that went along.
        size: Their bytes.
    """

    job_id: str
    address: str
    entrypoint: str
    files: int
    size: int

    def to_json(self) -> dict[str, Any]:
        """JSON values by field."""
        return dict(self.__dict__)


def submit_job(
    job: str | Path,
    *,
    overrides: Sequence[str] = (),
    working_dir: Path = Path(),
    address: str | None = None,
    resume: str | None = None,
    say: Say = silent,
) -> Submission:
    """Check a job file, pack the working directory and start the job on a cluster.

    Args:
        job: A job file in the working directory, or the name of a built-in one.
        overrides: ``key.path=value`` settings that replace those of the file.
        working_dir: What goes along; see ``working_dir.collect`` for what does not.
        address: The cluster; see ``JobClient``.
        resume: Id of an interrupted run on the cluster, or ``latest``.
        say: Takes one line of news at a time.

    Raises:
        InvalidInput: With every mistake of the job, before anything is sent.
        EnvironmentProblem: If the cluster does not answer, or refuses.
    """
    path = _job_file(job)
    loaded = load_job(path, overrides=overrides)
    package = collect(working_dir)
    _check(loaded, path, overrides=overrides, package=package)
    for note in _notes(loaded):
        say(f"note: {note}")
    say(_package_line(package))
    entrypoint = _entrypoint(_there(path, package, kind="jobs"), overrides=overrides, resume=resume)
    submission = _send(loaded, package, entrypoint, address=address)
    say(f"submitted {submission.job_id} to {submission.address}")
    return submission


def follow_job(
    job_id: str, *, write: Callable[[str], None], address: str | None = None, say: Say = silent
) -> ClusterJob:
    """Write what a job prints until it ends, through lost connections; see ``LogFollower.follow``."""
    from segsweep.distributed.job_client import JobClient
    from segsweep.distributed.job_logs import LogFollower

    return LogFollower(JobClient(address), job_id, write=write, say=say).follow()


def exit_code(job: ClusterJob) -> int:
    """Exit code of a command that stands for an ended job: 0, that of the job's command, 130 if stopped."""
    if job.status == "succeeded":
        return 0
    if job.status == "stopped":
        return INTERRUPTED
    return job.exit_code or 1


def _send(job: Job, package: Package, entrypoint: str, *, address: str | None) -> Submission:
    """Start the command on the cluster, in a copy of the package."""
    from segsweep.distributed.job_client import JobClient

    client = JobClient(address)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "working_dir.zip"
        write_archive(package, archive)
        job_id = client.submit(
            entrypoint,
            archive=archive,
            env_vars=STOP | ({"PYTHONPATH": "platform"} if package.holds(package.root / OWN_CODE) else {}),
            metadata={"segsweep.kind": job.kind, "segsweep.name": job.name},
            job_id=f"{job.name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S-%f')[:-3]}",
        )
    return Submission(
        job_id=job_id,
        address=client.address,
        entrypoint=entrypoint,
        files=len(package.files),
        size=package.size,
    )


def _job_file(job: str | Path) -> Path:
    found = find_file(str(job), kind="jobs", beside=Path())
    if found is None:
        names = ", ".join(builtin_names("jobs"))
        message = f"no such job file; give a path in the working directory, or one of: {names}"
        raise InvalidJob([Problem(where=str(job), message=message)])
    return found


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A job of one step, or a step of a chain.

    Attributes:
        where: What to call it in messages.
        job: With absolute paths.
        file: Where it is written.
        set_root: How to give another ``data.root``.
    """

    where: str
    job: StepJob
    file: Path
    set_root: str = "--set data.root={root}"


def _parts(job: Job, path: Path) -> list[_Part]:
    if not isinstance(job, ChainJob):
        return [_Part(where=str(path), job=job, file=path)]
    parts = []
    for step in planned_steps(job, where=str(path)):
        file = job.steps[step.name].file
        own = file == path  # otherwise the chain names the step's file and may replace settings
        set_root = f"--set steps.{step.name}.data.root={{root}}" if own else "`set: {{data.root: {root}}}`"
        parts.append(_Part(where=step.where, job=step.job, file=file, set_root=set_root))
    return parts


def _check(job: Job, path: Path, *, overrides: Sequence[str], package: Package) -> None:
    """Everything that can be known here: the job itself, and whether what it names goes along."""
    parts = _parts(job, path)
    problems = [*_password_problems([path, *(part.file for part in parts)], overrides)]
    try:
        # The folder that the job writes to, and data by absolute path, are the cluster's.
        check_job(
            job.model_copy(update={"out": Path(tempfile.gettempdir())}), where=str(path), with_data=False
        )
    except InvalidInput as error:
        problems += error.problems
    problems += _file_problems(parts, path, package)
    problems += [problem for part in parts for problem in _data_problems(part, package)]
    if problems:
        raise InvalidInput(problems)


def _file_problems(parts: Sequence[_Part], path: Path, package: Package) -> Iterator[Problem]:
    """Job files and spaces that the cluster would not find; each is told once."""
    files = {path: ("jobs", str(path))}
    for part in parts:
        files.setdefault(part.file, ("jobs", part.where))
        if isinstance(part.job, SweepJob):
            files.setdefault(Path(part.job.space), ("search_spaces", part.where))
    for file, (kind, where) in files.items():
        if _there(file, package, kind=kind) is None:
            message = (
                f"{file} does not go along with {package.root}: it lies elsewhere or an ignore file names "
                f"it; move it there, or choose another --working-dir"
            )
            yield Problem(where=where, message=message)


def _data_problems(part: _Part, package: Package) -> Iterator[Problem]:
    """Data in the working directory that stay behind."""
    root = part.job.data.root
    inside = _inside(root, package) if root is not None else None
    if root is not None and inside is not None and not package.holds(inside):
        there = part.set_root.format(root=f"/data/{root.name}")
        message = (
            f"{root} stays here: data do not go along; put them on the cluster's storage and give the path "
            f"there, for example {there}"
        )
        yield Problem(where=f"{part.where} data.root", message=message)


def _password_problems(files: Sequence[Path], overrides: Sequence[str]) -> Iterator[Problem]:
    """Ray keeps the command, the archive holds the files: none may carry a password, not even MLflow's."""
    message = (
        "found a password in an address; Ray and the archive would keep it. Take it out and set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where the cluster's head starts Ray"
    )
    for file in dict.fromkeys(files):
        if has_password(file.read_text(encoding="utf-8")):
            yield Problem(where=str(file), message=message)
    for override in overrides:
        if has_password(override):
            yield Problem(where=f"--set {override.partition('=')[0]}", message=message)


def _notes(job: Job) -> Iterator[str]:
    unset = "is not set, so the head's own cores and GPUs decide; give it if the workers differ"
    if isinstance(job, SweepJob):
        for name in ("cpus_per_trial", "gpus_per_trial"):
            if getattr(job.sweep, name) is None:
                yield f"sweep.{name} {unset}"
    elif isinstance(job, TrainJob) and job.scaling.gpus_per_worker is None:
        yield f"scaling.gpus_per_worker {unset}"


def _package_line(package: Package) -> str:
    left = f"; without {', '.join(package.excluded)}" if package.excluded else ""
    return f"{package.root}: {len(package.files)} files, {size_text(package.size)}{left}"


def _there(file: Path, package: Package, *, kind: str) -> str | None:
    """How the cluster finds a file: by its path in the package, or as a built-in one by its name."""
    inside = _inside(file, package)
    if inside is not None and package.holds(inside):
        return inside.relative_to(package.root).as_posix()
    file = file.resolve()
    return file.stem if file.parent == builtin_folder(kind).resolve() else None


def _inside(path: Path, package: Package) -> Path | None:
    """A path below the working directory as the package calls it; ``None`` if it lies elsewhere."""
    path, root = path.resolve(), package.root.resolve()
    return package.root / path.relative_to(root) if path.is_relative_to(root) else None


def _entrypoint(job: str | None, *, overrides: Sequence[str], resume: str | None) -> str:
    words = ["python", "-m", "segsweep.cli", "run", job or ""]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--resume", resume] if resume else []
    return shlex.join(words)
