"""Check spaces and jobs before any worker starts: every mistake at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segsweep.cost.measure import exact_cost
from segsweep.data.interface import Source
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
from segsweep.jobs.check_weights import (
    planned_join_problems,
    sweep_weights_problems,
    teacher_problems,
    training_weights_problems,
)
from segsweep.jobs.common import open_images, open_labelled
from segsweep.jobs.designs import cost_of, train_configs
from segsweep.jobs.load import data_settings, load_job
from segsweep.jobs.load_chain import planned_steps
from segsweep.jobs.spec import (
    ChainJob,
    DataSettings,
    Job,
    PseudoLabelsJob,
    StepJob,
    SweepJob,
    TrainJob,
)
from segsweep.models.interface import MethodConfig
from segsweep.models.methods import METHODS
from segsweep.records import AxisValue, Point
from segsweep.search.axes import ChoiceAxis
from segsweep.search.document import Constraint
from segsweep.search.load import load_space
from segsweep.search.space import SearchSpace
from segsweep.search.study import SpaceExhausted, random_points
from segsweep.search.yaml_lines import parse_yaml
from segsweep.tracking.store import resolve_uri
from segsweep.training.configs import RECIPE_PREFIX, build_configs
from segsweep.training.recipe import Recipe

SCHEDULE_AXES = tuple(f"{RECIPE_PREFIX}.{name}" for name in ("epochs", "iterations"))
SAMPLED_POINTS = 64  # random points whose configs are built to find combinations that a config refuses
SEED_SIZE, SEED_CLASSES = (512, 1024), 19  # where a space is checked without a job's data


def check_paths(paths: Sequence[Path]) -> dict[Path, tuple[Problem, ...]]:
    """Check files, folders of files, or (with none given) all built-in spaces and jobs.

    Built-in jobs name data that need not lie on this machine: those are checked only where paths are given.

    Returns:
        Every checked file with its problems, in order; empty tuples are good files.
    """
    with_data = bool(paths)
    paths = paths or [builtin_folder("search_spaces"), builtin_folder("jobs")]
    files: list[Path] = []
    for path in paths:
        files += (sorted(path.glob("*.yaml")) or [path]) if path.is_dir() else [path]
    return {path: _problems_of(path, with_data=with_data) for path in files}


def _problems_of(path: Path, *, with_data: bool) -> tuple[Problem, ...]:
    if path.is_dir():
        return (Problem(where=str(path), message="the folder holds no *.yaml file; name spaces or jobs"),)
    if not path.is_file():
        return (Problem(where=str(path), message="no such file or folder"),)
    try:
        if _is_job(path):
            check_job(_readable_job(path), where=str(path), with_data=with_data)
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
        found = _data_problems(data, str(path), open_data=open_images) if data else []
        raise InvalidJob([*error.problems, *found]) from None


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
    """Check a loaded space against the method's config; build its seeds and every choice without weights.

    Raises:
        InvalidSpace: With every axis path, value and seed that config, recipe or model refuse.
    """
    if space.method not in METHODS:
        raise InvalidSpace(
            [Problem(where=f"{where} method", message=f"found {space.method!r}, allowed: {sorted(METHODS)}")]
        )
    designs = _Designs(
        where=where,
        method=space.method,
        fixed=job.fixed if job else {},
        recipe=recipe or Recipe(),
        size=size,
        num_classes=num_classes,
    )
    for axis in space.axes:
        if axis.name in SCHEDULE_AXES:
            designs.refuse_schedule(axis.name)
    seeds = space.seeds if job is None or job.sweep.use_seeds else ()
    sampled = [point for point in _sampled(space) if designs.are_configured(point)]
    for seed in seeds:
        designs.build(seed.point, source=f"seed {seed.name}")
    for point in _with_other_choices(space, sampled, than=[seed.point for seed in seeds]):
        designs.build(point, source=f"reached by the axes, for example at {point.as_dict()}")
    if designs.problems:
        raise InvalidSpace(designs.problems.values())


@dataclass(frozen=True, kw_only=True)
class _Designs:
    """Tries designs of a space, and keeps each problem once with the first design that has it."""

    where: str
    method: str
    fixed: Mapping[str, Any]
    recipe: Recipe
    size: tuple[int, int]
    num_classes: int
    problems: dict[str, Problem] = field(default_factory=dict)

    def refuse_schedule(self, axis: str) -> None:
        """Rungs compare trials at equal epochs of one schedule."""
        message = "the schedule is the fidelity and cannot be searched; set recipe.epochs in the job"
        self._note("axis", [Problem(where=axis, message=message)])

    def are_configured(self, point: Point) -> bool:
        """Whether the point makes a config that takes the images; cheap."""
        try:
            self._config(point).check_size(self.size)
        except ImageSizeError as error:
            self._note("reached by the axes", [Problem(where="axes", message=f"{error}; or raise data.size")])
        except InvalidPoint as error:
            self._note(f"reached by the axes, for example at {point.as_dict()}", error.problems)
        else:
            return True
        return False

    def build(self, point: Mapping[str, AxisValue], *, source: str) -> None:
        """Build the model of a point, without weights."""
        try:
            exact_cost(self._config(point), num_classes=self.num_classes, size=self.size)
        except InvalidPoint as error:
            self._note(source, error.problems)
        except (SegsweepError, RuntimeError, ValueError) as error:
            height, width = self.size
            message = f"does not build at {height}x{width}: {error}"
            self._note(source, [Problem(where="design", message=message)])

    def _config(self, point: Mapping[str, AxisValue]) -> MethodConfig:
        return build_configs(self.method, point, fixed=self.fixed, recipe=self.recipe)[0]

    def _note(self, source: str, items: Iterable[Problem]) -> None:
        for item in items:
            place = f"{self.where} {item.where.removeprefix('point ')}"
            problem = Problem(where=f"{place} ({source})", message=item.message)
            self.problems.setdefault(f"{place}{item.message}", problem)


def _with_other_choices(
    space: SearchSpace, points: Iterable[Point], *, than: Iterable[Mapping[str, AxisValue]]
) -> list[Point]:
    """A few of the points that together have every choice (of the design) that the others lack."""
    named = [axis.name for axis in space.axes if isinstance(axis, ChoiceAxis)]
    choices = [name for name in named if name.split(".")[0] != RECIPE_PREFIX]
    seen = {(name, point.get(name)) for point in than for name in choices}
    found = []
    for point in points:
        new = {(name, point.get(name)) for name in choices} - seen
        if new:
            found.append(point)
            seen |= new
    return found


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


def check_job(
    job: Job, *, where: str, with_data: bool = True, planned: Collection[str] = frozenset()
) -> None:
    """Check everything that a job names: data, folders, store, space, point, weights; of a chain: every step.

    Args:
        job: The job.
        where: Name of the job in messages.
        with_data: Whether its data and the files that it starts from must be there.
        planned: Paths that an earlier step of its chain will make.

    Raises:
        InvalidInput: With every problem found.
    """
    problems = _folder_problems(job.out, where)
    try:
        if isinstance(job, ChainJob):
            problems += _chain_problems(job, where, with_data=with_data)
        else:
            problems += _tracking_problems(job, where)
            problems += _job_data_problems(job, where) if with_data else []
            problems += _design_problems(job, where, planned=planned if with_data else None)
    except InvalidInput as error:
        problems += error.problems
    if problems:
        raise InvalidInput(problems)


def _chain_problems(job: ChainJob, where: str, *, with_data: bool) -> list[Problem]:
    """Problems of every step, and of what a step will get from an earlier one."""
    problems: list[Problem] = []
    makers: dict[str, StepJob] = {}
    for step in planned_steps(job, where=where):
        try:
            check_job(step.job, where=step.where, with_data=with_data, planned=makers)
        except InvalidInput as error:
            problems += error.problems
        else:
            problems += _join_problems(step.job, makers, where=step.where) if with_data else []
        makers |= dict.fromkeys(step.outputs.values(), step.job)
    return problems


def _join_problems(student: StepJob, makers: Mapping[str, StepJob], *, where: str) -> list[Problem]:
    if not isinstance(student, TrainJob) or student.pseudo_labels is None:
        return []
    labelled = makers.get(str(student.pseudo_labels.shards))
    if not isinstance(labelled, PseudoLabelsJob):
        return []
    teacher = makers.get(labelled.teacher)
    data = teacher.data if isinstance(teacher, TrainJob) else None
    return planned_join_problems(student, labelled, data, where=where)


def _design_problems(job: StepJob, where: str, *, planned: Collection[str] | None) -> list[Problem]:
    """Problems of space or point, and of the files it starts from unless ``planned`` is ``None``."""
    if isinstance(job, SweepJob):
        space = _check_sweep(job, where)
        if planned is None:
            return []
        return sweep_weights_problems(job, space, num_classes=SEED_CLASSES, planned=planned, where=where)
    if isinstance(job, TrainJob):
        config = _check_training(job, where)
        if planned is None:
            return []
        return training_weights_problems(job, config, num_classes=SEED_CLASSES, planned=planned, where=where)
    if isinstance(job, PseudoLabelsJob) and planned is not None:
        return teacher_problems(job, planned=planned, where=where)
    return []


def _tracking_problems(job: StepJob, where: str) -> list[Problem]:
    if not isinstance(job, SweepJob | TrainJob) or job.tracking.uri is None:
        return []
    try:
        resolve_uri(job.tracking.uri)
    except SegsweepError as error:
        return [Problem(where=f"{where} tracking.uri", message=str(error))]
    return []


def _check_sweep(job: SweepJob, where: str) -> SearchSpace:
    space = sweep_space(job)
    size = job.data.size or SEED_SIZE
    check_space(space, where=f"{where}: {Path(job.space).name}", size=size, recipe=job.recipe, job=job)
    return space


def _check_training(job: TrainJob, where: str) -> MethodConfig:
    config, _ = train_configs(job, where=where)
    cost_of(config, num_classes=SEED_CLASSES, size=job.data.size or SEED_SIZE, where=f"{where} point")
    return config


def _job_data_problems(job: StepJob, where: str) -> list[Problem]:
    if not isinstance(job, PseudoLabelsJob):
        return _data_problems(job.data, where, open_data=open_labelled)
    problems = _data_problems(job.data, where, open_data=open_images)
    if not problems and job.split not in (splits := open_images(job.data).splits()):
        message = f"found {job.split!r}, allowed: {', '.join(splits)}"
        problems.append(Problem(where=f"{where} split", message=message))
    return problems


def _data_problems(
    data: DataSettings, where: str, *, open_data: Callable[[DataSettings], Source]
) -> list[Problem]:
    try:
        return [
            Problem(where=f"{where} data: {item.where}", message=item.message)
            for item in open_data(data).check()
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
