"""Commands for jobs on a Ray cluster, and for looking at a sweep that runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segsweep.cli_options import JsonFlag, OutOption, ResumeOption, SetOption
from segsweep.cli_output import console, print_json, say
from segsweep.cli_top import print_cluster, print_sweep_state
from segsweep.jobs.folders import OUT

if TYPE_CHECKING:
    from segsweep.distributed.job_client import ClusterJob

REFRESH_S = 2.0
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster's dashboard, for example http://127.0.0.1:8265; default: RAY_API_SERVER_ADDRESS, "
        "RAY_ADDRESS, this machine.",
    ),
]
JobIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the job, as `segsweep submit` printed it.")
]


def submit(
    job: Annotated[
        str, typer.Argument(help="Job file in the working directory, or the name of a built-in job.")
    ],
    address: AddressOption = None,
    working_dir: Annotated[
        Path,
        typer.Option("--working-dir", help="Folder that goes along; not what .gitignore or .rayignore name."),
    ] = Path(),
    follow: Annotated[
        bool, typer.Option(help="Show what the job prints, and end with its exit code.")
    ] = True,
    resume: ResumeOption = None,
    set_: SetOption = None,
    json_: JsonFlag = False,
) -> None:
    """Run a job file on a Ray cluster; it goes on if this command ends."""
    from segsweep import api

    submission = api.submit(
        job, overrides=set_ or [], working_dir=working_dir, address=address, resume=resume, say=say
    )
    if not follow:
        if json_:
            print_json(submission.to_json())
        else:
            print(f"follow      segsweep logs {submission.job_id} --follow")
            print(f"stop        segsweep stop {submission.job_id}")
        return
    _follow(submission.job_id, address=address, json_=json_)


def status(
    job_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A job; without it all of them.")
    ] = None,
    address: AddressOption = None,
    json_: JsonFlag = False,
) -> None:
    """Show the jobs of a cluster, or one of them."""
    from segsweep import api

    jobs = [api.cluster_job(job_id, address=address)] if job_id else api.cluster_jobs(address=address)
    if json_:
        print_json(jobs[0].to_json() if job_id else {"jobs": [job.to_json() for job in jobs]})
        return
    for job in jobs:
        print(_job_line(job))
    if job_id:
        print(f"command     {jobs[0].entrypoint}")
        print(f"message     {jobs[0].message}")
    elif not jobs:
        print("no jobs since the cluster started")


def logs(
    job_id: JobIdArgument,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends; exit code of the job.")] = False,
    address: AddressOption = None,
) -> None:
    """Print what a job has printed."""
    from segsweep import api

    if follow:
        _follow(job_id, address=address, json_=False)
    else:
        sys.stdout.write(api.job_logs(job_id, address=address))


def stop(job_id: JobIdArgument, address: AddressOption = None) -> None:
    """End a job in order: its runs are marked as interrupted, and it can be resumed."""
    from segsweep import api

    if api.stop_job(job_id, address=address):
        print(f"{job_id} is asked to end; resume it with: segsweep submit JOB --resume latest")
    else:
        print(f"{job_id} had ended already")


def top(
    sweep: Annotated[str, typer.Argument(help="Folder or id of a sweep, or 'latest'.")] = "latest",
    out: OutOption = OUT,
    address: AddressOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print once instead of until the sweep ends.")] = False,
    json_: JsonFlag = False,
) -> None:
    """Show where a sweep stands: trials, rungs, resources, speed, time left, the bill so far."""
    from segsweep import api

    if json_ or once or not sys.stdout.isatty():
        state, cluster = api.top(sweep, out=out, address=address)
        if json_:
            print_json({"sweep": state.to_json(), "cluster": cluster.to_json() if cluster else None})
        else:
            print_sweep_state(state)
            print_cluster(cluster)
        return
    while True:
        state, cluster = api.top(sweep, out=out, address=address)
        console(stderr=False).clear()
        print_sweep_state(state)
        print_cluster(cluster)
        if state.state != "running":
            return
        time.sleep(REFRESH_S)


def _follow(job_id: str, *, address: str | None, json_: bool) -> None:
    """Show a job to its end and end as it did; with ``--json`` its output goes to standard error."""
    from segsweep import api

    stream = sys.stderr if json_ else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        job, code = api.follow_job(job_id, write=write, address=address, say=say)
    except KeyboardInterrupt:
        say(
            f"{job_id} goes on; see it again: segsweep logs {job_id} --follow; end it: segsweep stop {job_id}"
        )
        raise
    if json_:
        print_json(job.to_json())
    say(_job_line(job))
    raise typer.Exit(code)


def _job_line(job: ClusterJob) -> str:
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started)) if job.started else "not started"
    lasted = f"{(job.ended or time.time()) - job.started:.0f} s" if job.started else ""
    code = f"exit code {job.exit_code}" if job.exit_code else ""
    return "  ".join(part for part in (job.job_id, f"{job.status:<9}", begun, lasted, code) if part)
