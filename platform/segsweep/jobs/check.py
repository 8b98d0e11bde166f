"""Check spaces and jobs before any worker starts: every mistake at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from segsweep.cost.measure import exact_cost
from segsweep.data.sources import open_source
from segsweep.errors import (
    ImageSizeError,
    InvalidInput,
    InvalidJob,
    InvalidPoint,
    InvalidSpace,
    Problem,
    SegsweepError,
)
from segsweep.jobs.builtin import builtin_folder
from segsweep.jobs.designs import configs
from segsweep.jobs.load import data_settings, load_job
from segsweep.jobs.spec import DataSettings, Job, SweepJob, TrainJob
from segsweep.models.interface import MethodConfig
from segsweep.models.methods import METHODS
from segsweep.records import Point
from segsweep.search.document import Constraint
from segsweep.search.load import load_space
from segsweep.search.space import SearchSpace
from segsweep.search.study import SpaceExhausted, random_points
from segsweep.search.yaml_lines import parse_yaml
from segsweep.training.recipe import Recipe
from segsweep.trial import build_configs

SAMPLED_POINTS = 64  # random points whose configs are built to find combinations that a config refuses
SEED_SIZE, SEED_CLASSES = (512, 1024), 19  # where a space is checked without a job's data


def check_paths(paths: Sequence[Path]) -> dict[Path, tuple[Problem, ...]]:
    """Check files, folders of files, or (with none given) all built-in spaces and jobs.

    Returns:
        Every checked file with its problems, in order; empty tuples are good files.
    """
    if not paths:
        paths = [builtin_folder("search_spaces"), builtin_folder("jobs")]
    files: list[Path] = []
    for path in paths:
        files += (sorted(path.glob("*.yaml")) or [path]) if path.is_dir() else [path]
    return {path: _problems_of(path) for path in files}


def _problems_of(path: Path) -> tuple[Problem, ...]:
    if path.is_dir():
        return (Problem(where=str(path), message="the folder holds no *.yaml file; name spaces or jobs"),)
    if not path.is_file():
        return (Problem(where=str(path), message="no such file or folder"),)
    try:
        if _is_job(path):
            check_job(_readable_job(path), where=str(path))
        else:
            check_space(load_space(path), where=str(path))
    except InvalidInput as error:
        return error.problems
    except SegsweepError as error:
        return (Problem(where=str(path), message=str(error)),)
    return ()


def _readable_job(path: Path) -> Job:
    """The job; what is wrong in its file is raised together with what is wrong with its data."""
    try:
        return load_job(path)
    except InvalidJob as error:
        data = data_settings(path)
        raise InvalidJob([*error.problems, *(_data_problems(data, str(path)) if data else [])]) from None


def _is_job(path: Path) -> bool:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8")).value
    except UnicodeDecodeError:
        raise SegsweepError("not a text file; spaces and jobs are YAML in UTF-8") from None
    return isinstance(values, dict) and "kind" in values and "axes" not in values


def check_space(
    space: SearchSpace,
    *,
    where: str,
    size: tuple[int, int] = SEED_SIZE,
    num_classes: int = SEED_CLASSES,
    recipe: Recipe | None = None,
    job: SweepJob | None = None,
) -> None:
    """Check a loaded space against the method's config and build its seeds without weights.

    Raises:
        InvalidSpace: With every axis path, value and seed that the config or the recipe refuses.
    """
    if space.method not in METHODS:
        raise InvalidSpace(
            [Problem(where=f"{where} method", message=f"found {space.method!r}, allowed: {sorted(METHODS)}")]
        )
    recipe = recipe or Recipe()
    fixed = job.fixed if job else {}
    problems: dict[str, Problem] = {}

    def note(source: str, items: Iterable[Problem]) -> None:
        for item in items:
            place = f"{where} {item.where.removeprefix('point ')}"
            problems.setdefault(
                f"{place}{item.message}", Problem(where=f"{place} ({source})", message=item.message)
            )

    for point in _sampled(space):
        try:
            build_configs(space.method, point, fixed=fixed, recipe=recipe)[0].check_size(size)
        except ImageSizeError as error:
            note("reached by the axes", [Problem(where="axes", message=f"{error}; or raise data.size")])
        except InvalidPoint as error:
            note(f"reached by the axes, for example at {point.as_dict()}", error.problems)
    for seed in space.seeds if job is None or job.sweep.use_seeds else ():
        try:
            config, _ = build_configs(space.method, seed.point, fixed=fixed, recipe=recipe)
            exact_cost(config, num_classes=num_classes, size=size)
        except InvalidPoint as error:
            note(f"seed {seed.name}", error.problems)
        except (SegsweepError, RuntimeError, ValueError) as error:
            note(f"seed {seed.name}", [Problem(where="seed", message=f"does not build at {size}: {error}")])
    if problems:
        raise InvalidSpace(problems.values())


def _sampled(space: SearchSpace) -> list[Point]:
    try:
        return random_points(space, SAMPLED_POINTS, seed=0)
    except SpaceExhausted:
        return random_points(space, min(space.size() or 1, SAMPLED_POINTS), seed=0)


def sweep_space(job: SweepJob) -> SearchSpace:
    """The space of a sweep job with the job's own constraints.

    Raises:
        InvalidSpace: With every problem of the space file or of the job's constraints.
    """
    extra = [Constraint(name=item.name, require=item.require, why=item.why) for item in job.constraints]
    return load_space(Path(job.space)).with_constraints(extra)


def check_job(job: Job, *, where: str) -> None:
    """Check everything that a job names: data, folders, space, point.

    Raises:
        InvalidInput: With every problem found.
    """
    problems = [*_data_problems(job.data, where), *_folder_problems(job.out, where)]
    try:
        if isinstance(job, SweepJob):
            _check_sweep(job, where)
        elif isinstance(job, TrainJob):
            train_configs(job, where=where)
    except InvalidInput as error:
        problems += error.problems
    if problems:
        raise InvalidInput(problems)


def _check_sweep(job: SweepJob, where: str) -> None:
    space = sweep_space(job)
    size = job.data.size or SEED_SIZE
    check_space(space, where=f"{where}: {Path(job.space).name}", size=size, recipe=job.recipe, job=job)


def train_configs(job: TrainJob, *, where: str = "job") -> tuple[MethodConfig, Recipe]:
    """Method config and recipe of a train job; see ``configs``."""
    return configs(job.method, preset=job.preset, point=job.point, recipe=job.recipe, where=where)


def _data_problems(data: DataSettings, where: str) -> list[Problem]:
    try:
        return [
            Problem(where=f"{where} data: {item.where}", message=item.message)
            for item in open_source(data.source, root=data.root, options=data.options).check()
        ]
    except InvalidInput as error:
        return list(error.problems)
    except SegsweepError as error:
        return [Problem(where=f"{where} data", message=str(error))]


def _folder_problems(out: Path, where: str) -> list[Problem]:
    existing = next(parent for parent in [out.absolute(), *out.absolute().parents] if parent.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return []
    found = "not writable" if existing.is_dir() else "a file"
    message = f"cannot write to {out}: {existing} is {found}; set out: to a folder of yours"
    return [Problem(where=f"{where} out", message=message)]
