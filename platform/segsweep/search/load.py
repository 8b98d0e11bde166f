"""Read a search space file; every mistake is reported, with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from segsweep.errors import InvalidSpace, Problem
from segsweep.search.document import (
    AXIS_KINDS,
    AnyAxisDocument,
    AxisDocument,
    ChoiceDocument,
    Constraint,
    FloatDocument,
    IntDocument,
    Seed,
    SpaceDocument,
)
from segsweep.search.space import SearchSpace
from segsweep.search.validate import Finding, all_findings
from segsweep.search.yaml_lines import KeyPath, YamlDocument, parse_yaml

_AXIS: TypeAdapter[AnyAxisDocument] = TypeAdapter(AxisDocument)
_VALUE_KINDS = ("bool", "int", "float", "str")  # tags of the union behind one value
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
    if not isinstance(yaml.value, dict):
        if not problems:
            problems = [Problem(where=f"{file}:1", message="a search space is a mapping with the key axes")]
        raise InvalidSpace(problems)
    problems += _problems(file, yaml, _findings(yaml.value))
    if problems:
        raise InvalidSpace(_by_line(problems))
    document = SpaceDocument.model_validate(yaml.value)
    return SearchSpace(
        name=document.name or Path(file).stem,
        method=document.method,
        source=document.source,
        axes=tuple(axis.axis(name) for name, axis in document.axes.items()),
        constraints=document.constraints,
        seeds=document.seeds,
    )


def _findings(value: dict[str, Any]) -> list[Finding]:
    """Mistakes of form, then those of meaning in whatever part has a right form."""
    form: list[Finding] = []
    broken: set[tuple[str | int, ...]] = set()
    try:
        SpaceDocument.model_validate(value)
    except ValidationError as error:
        # One value tried as four kinds gives four equal findings: keep one.
        form = list(dict.fromkeys(_form_finding(item) for item in error.errors()))
        broken = {item["loc"][:2] for item in error.errors()}
    axes = _sound_items(value, "axes", broken)
    space = SearchSpace(
        name="",
        method="",
        source="",
        axes=tuple(_AXIS.validate_python(axis).axis(name) for name, axis in axes.items()),
    )
    return form + all_findings(
        space,
        {
            i: Constraint.model_validate(item)
            for i, item in _sound_items(value, "constraints", broken).items()
        },
        {i: Seed.model_validate(item) for i, item in _sound_items(value, "seeds", broken).items()},
        unreadable=frozenset(str(path[1]) for path in broken if path[0] == "axes" and len(path) > 1),
    )


def _sound_items(value: dict[str, Any], section: str, broken: set[tuple[str | int, ...]]) -> dict[Any, Any]:
    """Entries of a section by key or position, without those of a wrong form."""
    entries = value.get(section)
    if isinstance(entries, list):
        entries = dict(enumerate(entries))
    if (section,) in broken or not isinstance(entries, dict):
        return {}
    return {key: entry for key, entry in entries.items() if (section, key) not in broken}


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
    if path and path[-1] != error["loc"][-1]:  # the last part is a kind that pydantic tried
        return path, f"found {found!r}; allowed: a number, text, true or false"
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


def _locate(location: Sequence[str | int]) -> tuple[KeyPath, type[BaseModel]]:
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
    return tuple(part for index, part in enumerate(parts) if index == 0 or part not in _VALUE_KINDS)
