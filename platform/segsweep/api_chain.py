"""The calls behind jobs of several steps: pseudo labels and chains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segsweep.jobs.news import Say, silent
from segsweep.jobs.spec import ChainJob, PseudoLabelsJob

if TYPE_CHECKING:
    from segsweep.jobs.run_chain import ChainResult
    from segsweep.jobs.run_pseudo_labels import PseudoLabelsResult


def label(
    job: str | Path | PseudoLabelsJob,
    *,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    run_id: str | None = None,
    say: Say = silent,
) -> PseudoLabelsResult:
    """Let a trained model label images; see ``jobs.run_pseudo_labels.run_pseudo_labels_job``.

    Args:
        job: A job file of ``kind: pseudo_labels`` (or the name of a built-in one), or the job itself.
        overrides: ``key.path=value`` settings that replace those of the file.
        resume: Id of an interrupted run, or ``latest``.
        run_id: Name of a new run.
        say: Takes one line of news at a time.
    """
    from segsweep.jobs.load import of_kind, open_job
    from segsweep.jobs.run_pseudo_labels import run_pseudo_labels_job

    if isinstance(job, str | Path):
        opened = of_kind(open_job(job, overrides=overrides), PseudoLabelsJob, where=str(job))
        return run_pseudo_labels_job(opened, where=str(job), resume=resume, run_id=run_id, say=say)
    return run_pseudo_labels_job(job, resume=resume, run_id=run_id, say=say)


def run_chain(
    job: str | Path | ChainJob,
    *,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    chain_id: str | None = None,
    say: Say = silent,
) -> ChainResult:
    """Run the steps of a chain one after the other; see ``jobs.run_chain.run_chain_job``.

    Args:
        job: A job file of ``kind: chain`` (or the name of a built-in one), or the job itself.
        overrides: ``key.path=value`` settings, for example ``steps.teacher.recipe.epochs=3``.
        resume: Id of an interrupted chain, or ``latest``: finished steps are not run again.
        chain_id: Name of a new chain.
        say: Takes one line of news at a time.
    """
    from segsweep.jobs.load import of_kind, open_job
    from segsweep.jobs.run_chain import run_chain_job

    if isinstance(job, str | Path):
        opened = of_kind(open_job(job, overrides=overrides), ChainJob, where=str(job))
        return run_chain_job(opened, where=str(job), resume=resume, chain_id=chain_id, say=say)
    return run_chain_job(job, resume=resume, chain_id=chain_id, say=say)
