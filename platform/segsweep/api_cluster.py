"""The calls behind the commands for clusters and running sweeps; ``segsweep.api`` offers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segsweep.jobs.folders import OUT
from segsweep.jobs.news import Say, silent

if TYPE_CHECKING:
    from segsweep.distributed.job_client import ClusterJob
    from segsweep.jobs.submit import Submission
    from segsweep.jobs.top import ClusterUse, SweepState


def submit(
    job: str | Path,
    *,
    overrides: Sequence[str] = (),
    working_dir: Path = Path(),
    address: str | None = None,
    resume: str | None = None,
    say: Say = silent,
) -> Submission:
    """Check a job file and run it on a Ray cluster; see ``jobs.submit.submit_job``."""
    from segsweep.jobs.submit import submit_job

    return submit_job(
        job, overrides=overrides, working_dir=working_dir, address=address, resume=resume, say=say
    )


def follow_job(
    job_id: str,
    *,
    write: Callable[[str], None],
    address: str | None = None,
    say: Say = silent,
) -> tuple[ClusterJob, int]:
    """Write what a job prints to its end; returns it and the exit code of a command that stands for it."""
    from segsweep.jobs.submit import exit_code, follow_job

    job = follow_job(job_id, write=write, address=address, say=say)
    return job, exit_code(job)


def cluster_jobs(*, address: str | None = None) -> list[ClusterJob]:
    """All jobs of a cluster, the newest first."""
    from segsweep.distributed.job_client import JobClient

    return JobClient(address).jobs()


def cluster_job(job_id: str, *, address: str | None = None) -> ClusterJob:
    """One job; raises ``InvalidInput`` if there is no such job."""
    from segsweep.distributed.job_client import JobClient

    return JobClient(address).job(job_id)


def job_logs(job_id: str, *, address: str | None = None) -> str:
    """All that a job has printed."""
    from segsweep.distributed.job_client import JobClient

    return JobClient(address).logs(job_id)


def stop_job(job_id: str, *, address: str | None = None) -> bool:
    """Ask a job to end in order; returns whether it was running."""
    from segsweep.distributed.job_client import JobClient

    return JobClient(address).stop(job_id)


def top(
    sweep: str | Path = "latest", *, out: Path = OUT, address: str | None = None
) -> tuple[SweepState, ClusterUse | None]:
    """Where a sweep stands, and what the cluster uses: ``None`` if none is named and none answers.

    Args:
        sweep: Its folder, its id below ``out/sweeps``, or ``latest``.
        out: Where ids are looked up.
        address: The cluster's dashboard.
    """
    from segsweep.jobs.top import local_cluster_use, sweep_state

    return sweep_state(sweep, out=out), local_cluster_use(address)
