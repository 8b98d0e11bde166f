"""Read a job file: every mistake at once, with its line; paths relative to the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from segsweep.errors import InvalidJob, Problem
from segsweep.jobs.builtin import builtin_folder, builtin_names, find_file
from segsweep.jobs.job_values import (
    Place,
    apply_overrides,
    build_job,
    read_text,
    with_absolute_paths,
    with_absolute_root,
)
from segsweep.jobs.load_chain import load_chain
from segsweep.jobs.spec import ChainJob, DataSettings, Job
from segsweep.search.yaml_lines import parse_yaml

__all__ = ["data_settings", "load_job", "of_kind", "open_job", "with_absolute_paths"]

JobType = TypeVar("JobType", bound=BaseModel)


def load_job(path: Path, *, overrides: Sequence[str] = ()) -> Job:
    """Load and check a job file.

    Args:
        path: YAML file with ``kind: sweep``, ``train``, ``prepare``, ``pseudo_labels`` or ``chain``.
        overrides: ``key.path=value`` settings that replace those of the file; values are YAML.

    Raises:
        InvalidJob: With every problem of the file and of the overrides.
    """
    if not path.is_file():
        raise InvalidJob(
            [Problem(where=str(path), message="no such file; name a job YAML, for example jobs/*.yaml")]
        )
    document = parse_yaml(read_text(path))
    problems = [Problem(where=f"{path}:{line}", message=message) for line, message in document.problems]
    values = document.value
    if not isinstance(values, dict):
        problems.append(
            Problem(where=str(path), message="a job is a mapping with `kind:`, `name:`, `data:` ...")
        )
        raise InvalidJob(problems)
    replaced = apply_overrides(values, overrides, problems)
    place = Place(path=path, document=document, replaced=replaced)
    if values.get("kind") == ChainJob.model_fields["kind"].default:
        return load_chain(values, problems, place=place)
    return build_job(values, problems, place=place, folder=path.parent)


def data_settings(path: Path) -> DataSettings | None:
    """The data section of a job file whose other parts may be wrong; ``None`` if it is wrong itself."""
    values = parse_yaml(read_text(path)).value
    try:
        data = DataSettings.model_validate(values.get("data") if isinstance(values, dict) else None)
    except ValidationError:
        return None
    return with_absolute_root(data, path.parent)


def open_job(name: str | Path, *, overrides: Sequence[str] = ()) -> Job:
    """Load a job file by path, or a built-in one by name; arguments and errors as ``load_job``."""
    found = find_file(str(name), kind="jobs", beside=Path())
    if found is None:
        names = ", ".join(builtin_names("jobs"))
        message = f"no such job file; give a path, or one of {builtin_folder('jobs')}: {names}"
        raise InvalidJob([Problem(where=str(name), message=message)])
    return load_job(found, overrides=overrides)


def of_kind(job: Job, kind: type[JobType], *, where: str) -> JobType:
    """The job if it is of a kind; raises ``InvalidJob`` that says which command takes it."""
    if isinstance(job, kind):
        return job
    wanted = kind.model_fields["kind"].default
    message = f"kind is {job.kind!r}, this command takes kind: {wanted}; use `segsweep run`"
    raise InvalidJob([Problem(where=where, message=message)])
