"""Read a chain of jobs: steps from the file itself or from other job files, and what they use of each other.

A value of a step may hold ``${steps.NAME.OUTPUT}``: what an earlier step made. Where that will lie is known
before anything runs, so that a chain is checked as a whole.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.distributed.training_job import CHECKPOINT
from segsweep.errors import InvalidJob, Problem
from segsweep.jobs.builtin import find_file
from segsweep.jobs.credentials import take_credentials
from segsweep.jobs.folders import PSEUDO_LABELS, SHARDS, SWEEPS, TRAININGS, dotted
from segsweep.jobs.job_values import Place, build_job, read_text, replace_value, validated
from segsweep.jobs.spec import ChainJob, StepJob
from segsweep.jobs.storage import lasting_folder
from segsweep.search.yaml_lines import YamlDocument, parse_yaml

PLANNED = "planned"  # stands for the id of a chain that does not run yet
RUNS = {"train": TRAININGS, "sweep": SWEEPS, "pseudo_labels": PSEUDO_LABELS}  # kind -> folder in `out`
OUTPUTS: dict[str, tuple[str, ...]] = {
    "train": ("run", "checkpoint"),
    "sweep": ("run",),
    "pseudo_labels": ("run", "shards"),
    "prepare": (),
}
_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_STEP_OUTPUT = re.compile(r"steps\.(?P<step>.+)\.(?P<output>[a-z]+)")
_BROKEN: Mapping[str, Any] = {"kind": None}  # a step that could not be read: its problem is told already
_JOB, _SET = "job", "set"  # keys of a step that names a file

Outputs = Mapping[str, Mapping[str, str]]  # step -> output -> path


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A step whose references are filled in with where things will lie.

    Attributes:
        name: Of the step.
        where: What to call it in messages.
        job: Its job.
        outputs: What it will make.
    """

    name: str
    where: str
    job: StepJob
    outputs: Mapping[str, str]


def load_chain(values: dict[str, Any], problems: list[Problem], *, place: Place) -> ChainJob:
    """A chain of the values of its file.

    Raises:
        InvalidJob: With every problem of the file and of the files that it names.
    """
    steps, places = {}, {}
    written = values.get("steps")
    for name, step in (written if isinstance(written, dict) else {}).items():
        steps[name], places[name] = _step(name, step, problems, place=place)
        _strip_credentials(steps[name]["values"])
    found = {**values, "steps": steps} if isinstance(written, dict) else values
    job = validated(found, problems, place=place, kinds={"chain": ChainJob})
    if isinstance(job, ChainJob):
        problems += [problem for _, step_problems in _planned(job, places) for problem in step_problems]
    if not isinstance(job, ChainJob) or problems:
        raise InvalidJob(problems)
    return job.model_copy(update={"out": lasting_folder(job.out)})


def planned_steps(job: ChainJob, *, where: str) -> list[PlannedStep]:
    """The jobs of a chain as they would run; raises ``InvalidJob`` with all problems."""
    steps: list[PlannedStep] = []
    problems: list[Problem] = []
    places = {name: _unwritten(Path(where), name) for name in job.steps}
    for step, found in _planned(job, places):
        problems += found
        steps += [step] if step is not None else []
    if problems:
        raise InvalidJob(problems)
    return steps


def step_job(job: ChainJob, name: str, outputs: Outputs, *, where: str) -> StepJob:
    """A step's job, its references filled in with what earlier steps made; raises ``InvalidJob``."""
    return _filled(job, name, outputs, place=_unwritten(Path(where), name))


def planned_outputs(job: StepJob, run_id: str) -> dict[str, str]:
    """Where a job of a certain run id will put what it makes."""
    if job.kind not in RUNS:
        return {}
    run = (job.out / RUNS[job.kind] / run_id).resolve()
    paths = {"run": run, "checkpoint": run / CHECKPOINT, "shards": run / SHARDS}
    return {output: str(paths[output]) for output in OUTPUTS[job.kind]}


def step_run_id(chain_id: str, step: str) -> str:
    """Run id of a step."""
    return f"{chain_id}-{step}"


def _planned(
    job: ChainJob, places: Mapping[str, Place]
) -> Iterator[tuple[PlannedStep | None, tuple[Problem, ...]]]:
    """Every step, or its problems."""
    outputs: dict[str, Mapping[str, str]] = {}
    for name in job.steps:
        values = job.steps[name].values
        kind = values.get("kind")
        if values == _BROKEN:
            outputs[name] = {output: name for made in OUTPUTS.values() for output in made}
            continue
        try:
            step = _filled(job, name, outputs, place=places[name])
        except InvalidJob as error:
            # later steps may still refer to it
            outputs[name] = {output: f"{name}/{output}" for output in OUTPUTS.get(str(kind), ())}
            yield None, error.problems
            continue
        outputs[name] = planned_outputs(step, step_run_id(PLANNED, name))
        where = f"{places[name].path} steps.{name}"
        yield PlannedStep(name=name, where=where, job=step, outputs=outputs[name]), ()


def _filled(job: ChainJob, name: str, outputs: Outputs, *, place: Place) -> StepJob:
    step = job.steps[name]
    problems: list[Problem] = []
    values = copy.deepcopy(step.values)
    _fill(values, (), outputs, place=place, problems=problems)
    values.setdefault("out", str(job.out))
    values.setdefault("name", f"{job.name}-{name}")
    return build_job(values, problems, place=place, folder=step.file.parent)


def _step(name: str, written: Any, problems: list[Problem], *, place: Place) -> tuple[dict[str, Any], Place]:
    """Values and file of a step: written in the chain, or in a file of its own with settings replaced."""
    inline = Place(path=place.path, document=place.document, prefix=("steps", name), replaced=place.replaced)
    if isinstance(written, str):
        written = {_JOB: written}
    if not isinstance(written, dict):
        message = f"found {written!r}; a step is a job file, or a mapping with `kind:` or `job:`"
        problems.append(Problem(where=inline(()), message=message))
        return {"values": dict(_BROKEN), "file": place.path.resolve()}, inline
    if _JOB not in written:
        return {"values": written, "file": place.path.resolve()}, inline
    for key in sorted(set(written) - {_JOB, _SET}):
        message = f"unknown key {key!r} beside `job:`; put it under `set:`"
        problems.append(Problem(where=inline((key,)), message=message))
    return _from_file(written, problems, inline=inline)


def _strip_credentials(values: dict[str, Any]) -> None:
    """A chain is recorded with the values of its steps: the password of an MLflow server must go first."""
    tracking = values.get("tracking")
    if isinstance(tracking, dict) and isinstance(tracking.get("uri"), str):
        values["tracking"] = {**tracking, "uri": take_credentials(tracking["uri"])}


def _from_file(
    written: dict[str, Any], problems: list[Problem], *, inline: Place
) -> tuple[dict[str, Any], Place]:
    path = find_file(str(written[_JOB]), kind="jobs", beside=inline.path.parent)
    if path is None:
        message = f"found no job file {written[_JOB]!r}; give a path relative to {inline.path.name}"
        problems.append(Problem(where=inline((_JOB,)), message=message))
        return {"values": dict(_BROKEN), "file": inline.path.resolve()}, inline
    document = parse_yaml(read_text(path))
    problems += [Problem(where=f"{path}:{line}", message=message) for line, message in document.problems]
    values = document.value if isinstance(document.value, dict) else {}
    replaced: dict[str, str] = {}
    settings = written.get(_SET) or {}
    if not isinstance(settings, dict):
        message = f"found {settings!r}; write a mapping, for example {{recipe.epochs: 3}}"
        problems.append(Problem(where=inline((_SET,)), message=message))
        settings = {}
    for key, value in dotted(settings):
        replaced[key] = inline((_SET, *key.split(".")))
        replace_value(values, key, value, where=replaced[key], problems=problems)
    return {"values": values, "file": path}, Place(path=path, document=document, replaced=replaced)


def _fill(
    values: Any,
    location: tuple[str | int, ...],
    outputs: Outputs,
    *,
    place: Place,
    problems: list[Problem],
) -> Any:
    """Replace references in all texts, in place where that can be."""
    if isinstance(values, dict | list):
        for key, value in list(values.items() if isinstance(values, dict) else enumerate(values)):
            values[key] = _fill(value, (*location, key), outputs, place=place, problems=problems)
        return values
    if not isinstance(values, str):
        return values

    def output(match: re.Match[str]) -> str:
        try:
            return _output(match[1].strip(), outputs)
        except LookupError as error:
            message = f"found {match[0]}: {error.args[0]}"
            problems.append(Problem(where=place(location), message=message))
            return match[0]

    return _REFERENCE.sub(output, values)


def _output(reference: str, outputs: Outputs) -> str:
    match = _STEP_OUTPUT.fullmatch(reference)
    if match is None:
        raise LookupError("write ${steps.NAME.OUTPUT}, for example ${steps.teacher.checkpoint}")
    name, output = match["step"], match["output"]
    if name not in outputs:
        earlier = ", ".join(outputs) or "none"
        raise LookupError(f"no step before this one is called {name!r}; earlier steps: {earlier}")
    if output not in outputs[name]:
        allowed = ", ".join(outputs[name]) or "nothing"
        raise LookupError(f"step {name!r} makes {allowed}")
    return outputs[name][output]


def _unwritten(path: Path, name: str) -> Place:
    """The place of a step whose lines are not known any more."""
    return Place(path=path, document=YamlDocument(), prefix=("steps", name))
