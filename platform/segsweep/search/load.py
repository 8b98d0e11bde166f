"""Read a search space file; every mistake is reported, with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from segsweep.errors import InvalidSpace, Problem
from segsweep.search import yaml_lines
from segsweep.search.document import (
    AXIS_KINDS,
    ChoiceDocument,
    Constraint,
    FloatDocument,
    IntDocument,
    Seed,
    SpaceDocument,
)
from segsweep.search.space import SearchSpace
from segsweep.search.validate import Finding, axis_findings, constraint_findings, seed_findings
from segsweep.search.yaml_lines import YamlDocument, parse_yaml

_AXIS_MODELS: dict[str, type[BaseModel]] = {
    "choice": ChoiceDocument,
    "int": IntDocument,
    "float": FloatDocument,
}


def load_space(path: Path) -> SearchSpace:
    """Read and check a search space file.

    Args:
        path: A YAML file in the format of ``search_spaces/README.md``.
    Raises:
        InvalidSpace: With all problems, each as ``file:line place``.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read the search space ({error}); give the path of a YAML file"
        raise InvalidSpace([Problem(where=str(path), message=message)]) from error
    return parse_space(text, file=path.name)


def parse_space(text: str, *, file: str) -> SearchSpace:
    """As ``load_space`` from text; ``file`` is its name in messages."""
    yaml = parse_yaml(text)
    problems = [Problem(where=f"{file}:{line}", message=message) for line, message in yaml.problems]
    if problems and not isinstance(yaml.value, dict):
        raise InvalidSpace(problems)
    try:
        document = SpaceDocument.model_validate(yaml.value)
    except ValidationError as error:
        problems += _problems(file, yaml, (_form_finding(item) for item in error.errors()))
        raise InvalidSpace(_by_line(problems)) from error
    space = _space(document, file)
    problems += _problems(file, yaml, _findings(space))
    if problems:
        raise InvalidSpace(_by_line(problems))
    return space


def _space(document: SpaceDocument, file: str) -> SearchSpace:
    return SearchSpace(
        name=document.name or Path(file).stem,
        method=document.method,
        source=document.source,
        axes=tuple(axis.axis(name) for name, axis in document.axes.items()),
        constraints=document.constraints,
        seeds=document.seeds,
    )


def _findings(space: SearchSpace) -> list[Finding]:
    axes = list(axis_findings(space.axes))
    if axes:  # constraints and seeds cannot be judged against wrong axes
        return axes
    constraints = list(constraint_findings(space))
    return constraints or list(seed_findings(space))


def _problems(file: str, yaml: YamlDocument, findings: Iterable[Finding]) -> list[Problem]:
    return [
        Problem(where=f"{file}:{yaml.line(path)} {'.'.join(map(str, path))}".rstrip(), message=message)
        for path, message in findings
    ]


def _by_line(problems: Sequence[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: int(problem.where.split(":", 1)[1].split(" ", 1)[0]))


def _form_finding(error: Any) -> Finding:
    """One pydantic error in the file's own words."""
    path, model = _locate(error["loc"])
    kind, found = error["type"], error["input"]
    if kind == "extra_forbidden":
        allowed = [field.alias or name for name, field in model.model_fields.items()]
        near = difflib.get_close_matches(str(path[-1]), allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(allowed)}"
        return path, f"unknown key {path[-1]!r}; {hint}"
    if kind == "missing":
        return path, f"missing key {path[-1]!r}{_purpose(str(path[-1]))}"
    if kind == "axis_kind" and isinstance(found, dict):
        near = [match for key in found for match in difflib.get_close_matches(str(key), AXIS_KINDS, n=1)]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return path, f"{error['msg']}; found keys {', '.join(map(str, found)) or 'none'}{hint}"
    return path, f"{error['msg']}; found {found!r}"


def _purpose(key: str) -> str:
    return {
        "why": ": say why the constraint exists",
        "source": ": say where it was published",
        "require": ": the condition, such as cost.macs <= 60e9",
    }.get(key, "")


def _locate(location: Sequence[str | int]) -> tuple[yaml_lines.Path, type[BaseModel]]:
    """Path in the file of a pydantic location (which holds union tags too), and the model around it."""
    match tuple(location):
        case ("axes", name, str(tag), *rest) if tag in _AXIS_MODELS:
            # Below a value of several kinds pydantic appends the kind it tried: keep keys and indices only.
            return ("axes", name, *_file_parts(rest)), _AXIS_MODELS[tag]
        case ("constraints", int(index), *rest):
            return ("constraints", index, *rest), Constraint
        case ("seeds", int(index), *rest):
            return ("seeds", index, *_file_parts(rest)), Seed
        case path:
            return path, SpaceDocument


def _file_parts(parts: Sequence[str | int]) -> tuple[str | int, ...]:
    noise = {"bool", "int", "float", "str", "constrained-float"}
    kept = [part for index, part in enumerate(parts) if index == 0 or part not in noise]
    return tuple(kept)
