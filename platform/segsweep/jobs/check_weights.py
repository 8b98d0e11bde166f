"""Check what a job takes from elsewhere: weights, pseudo labels, a teacher."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from segsweep.data.interface import DatasetInfo
from segsweep.data.joined_shards import check_joins, size_text
from segsweep.data.shards import open_shards
from segsweep.errors import InvalidInput, InvalidPoint, Problem, SegsweepError
from segsweep.jobs.common import open_labelled
from segsweep.jobs.initial_weights import initial_weights
from segsweep.jobs.spec import DataSettings, PseudoLabelsJob, SweepJob, TrainJob
from segsweep.jobs.trained_run import open_run
from segsweep.models.interface import MethodConfig
from segsweep.models.methods import METHODS
from segsweep.search.axes import ChoiceAxis
from segsweep.search.space import SearchSpace
from segsweep.training.configs import build_configs

BACKBONE_AXIS = "backbone.name"


def training_weights_problems(
    job: TrainJob, config: MethodConfig, *, num_classes: int, planned: Collection[str], where: str
) -> list[Problem]:
    """Whether weights and pseudo labels of a training fit; ``planned`` ones need not be there yet."""
    problems = []
    if job.weights is not None and str(job.weights.path) not in planned:
        try:
            initial_weights(job.weights).fitting(config, num_classes)
        except SegsweepError as error:
            problems.append(Problem(where=f"{where} weights", message=str(error)))
    if job.pseudo_labels is not None and str(job.pseudo_labels.shards) not in planned:
        try:
            _check_extra(job.pseudo_labels.shards, job.data)
        except SegsweepError as error:
            problems.append(Problem(where=f"{where} pseudo_labels.shards", message=str(error)))
    return problems


def sweep_weights_problems(
    job: SweepJob, space: SearchSpace, *, num_classes: int, planned: Collection[str], where: str
) -> list[Problem]:
    """Whether the weights of a sweep are there and fit every backbone of its space."""
    if job.weights is None or str(job.weights.path) in planned:
        return []
    problems = {}
    for values in _backbones(space):
        try:
            config, _ = build_configs(space.method, values, fixed=job.fixed, recipe=job.recipe)
            initial_weights(job.weights).fitting(config, num_classes)
        except InvalidPoint:
            continue  # only with other axes; its trials say what does not fit
        except (SegsweepError, ValueError, RuntimeError) as error:
            name = values.get(BACKBONE_AXIS)
            place = f"{where} weights ({BACKBONE_AXIS} = {name})" if name else f"{where} weights"
            problems[str(error)] = Problem(where=place, message=str(error))
    return list(problems.values())


def teacher_problems(job: PseudoLabelsJob, *, planned: Collection[str], where: str) -> list[Problem]:
    """Whether the teacher is there and labels pixels."""
    if job.teacher in planned:
        return []
    try:
        trained = open_run(job.teacher, out=job.out)
        told_apart, info = trained.told_apart, trained.info
    except InvalidInput as error:
        return [
            Problem(where=f"{where} teacher: {item.where}", message=item.message) for item in error.problems
        ]
    except SegsweepError as error:
        return [Problem(where=f"{where} teacher", message=str(error))]
    if told_apart is info:
        return []
    message = f"{trained.run_id} is a {trained.job.method} network, which labels no pixels; name another"
    return [Problem(where=f"{where} teacher", message=message)]


def planned_join_problems(
    student: TrainJob, labelled: PseudoLabelsJob, teacher: DataSettings | None, *, where: str
) -> list[Problem]:
    """Whether pseudo labels that are still to be made will join the student's data.

    Args:
        student: The training.
        labelled: The job that will make them.
        teacher: Data of the training that will label, if that is still to come, too.
        where: Name of the student in messages.
    """
    problems = []
    if labelled.data.size != student.data.size:
        message = (
            f"found {size_text(student.data.size)}, the pseudo-labelled images are prepared at "
            f"{size_text(labelled.data.size)}; give both one size"
        )
        problems.append(Problem(where=f"{where} data.size", message=message))
    try:
        labels = _classes(teacher) if teacher else open_run(labelled.teacher, out=labelled.out).info
        check_joins(_classes(student.data), labels, where="the teacher")
    except SegsweepError as error:
        problems.append(Problem(where=f"{where} pseudo_labels", message=str(error)))
    return problems


def _backbones(space: SearchSpace) -> list[Mapping[str, Any]]:
    axis = next((axis for axis in space.axes if axis.name == BACKBONE_AXIS), None)
    if isinstance(axis, ChoiceAxis) and space.method in METHODS:
        return [{BACKBONE_AXIS: name} for name in axis.choices]
    return [{}]


def _check_extra(shards: Path, data: DataSettings) -> None:
    """Classes now; sizes when the data are prepared, unless both are fixed."""
    found = open_shards(shards)
    check_joins(_classes(data), found.info, where=str(shards))
    if data.size is not None and found.size != data.size:
        message = (
            f"its images are {size_text(found.size)}, data.size is {size_text(data.size)}; give both one size"
        )
        raise InvalidInput([Problem(where=str(shards), message=message)])


def _classes(data: DataSettings) -> DatasetInfo:
    return open_labelled(data).info
