"""Read a job file: every mistake at once, with its line; paths relative to the file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segsweep.errors import InvalidJob, Problem
from segsweep.jobs.builtin import builtin_names, find_file
from segsweep.jobs.spec import JOB_KINDS, DataSettings, Job, SweepJob
from segsweep.search.yaml_lines import YamlDocument, parse_yaml
from segsweep.training.published_recipes import RECIPES
from segsweep.training.recipe import Recipe, overridden

BASE = "base"  # key of `recipe:` that names a published one


def load_job(path: Path, *, overrides: Sequence[str] = ()) -> Job:
    """Load and check a job file.

    Args:
        path: YAML file with ``kind: sweep``, ``train`` or ``prepare``.
        overrides: ``key.path=value`` settings that replace those of the file; values are YAML.

    Raises:
        InvalidJob: With every problem of the file and of the overrides.
    """
    if not path.is_file():
        raise InvalidJob(
            [Problem(where=str(path), message="no such file; name a job YAML, for example jobs/*.yaml")]
        )
    document = parse_yaml(_text(path))
    problems = [Problem(where=f"{path}:{line}", message=message) for line, message in document.problems]
    values = document.value
    if not isinstance(values, dict):
        problems.append(
            Problem(where=str(path), message="a job is a mapping with `kind:`, `name:`, `data:` ...")
        )
        raise InvalidJob(problems)
    for override in overrides:
        _apply(values, override, problems)
    place = _Place(path=path, document=document, overrides=overrides)
    _expand_recipe(values, problems, place=place)
    job = _validate(values, problems, place=place)
    _look_for_space(values, problems, place=place)
    if job is None or problems:
        raise InvalidJob(problems)
    return with_absolute_paths(job, path.parent, where=str(path))


def data_settings(path: Path) -> DataSettings | None:
    """The data section of a job file whose other parts may be wrong; ``None`` if it is wrong itself."""
    values = parse_yaml(_text(path)).value
    try:
        data = DataSettings.model_validate(values.get("data") if isinstance(values, dict) else None)
    except ValidationError:
        return None
    return _with_absolute_root(data, path.parent)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidJob(
            [Problem(where=str(path), message="not a text file; a job is YAML in UTF-8")]
        ) from None


def _apply(values: dict[str, Any], override: str, problems: list[Problem]) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        problems.append(
            Problem(where=f"--set {override}", message="write key.path=value, for example sweep.trials=8")
        )
        return
    *parents, leaf = key.split(".")
    target = values
    for parent in parents:
        inner = target.setdefault(parent, {})
        if not isinstance(inner, dict):
            problems.append(
                Problem(where=f"--set {override}", message=f"{parent!r} holds {inner!r}, not a mapping")
            )
            return
        target = inner
    parsed = parse_yaml(text)
    target[leaf] = text if parsed.problems else parsed.value


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a setting was written: in a line of the file, or on the command line."""

    path: Path
    document: YamlDocument
    overrides: Sequence[str]

    def __call__(self, location: Sequence[str | int]) -> str:
        key = ".".join(map(str, location))
        for override in reversed(self.overrides):
            written = override.partition("=")[0]
            if key == written or key.startswith(f"{written}."):
                return f"--set {override}"
        return f"{self.path}:{self.document.line(tuple(location))} {key}".strip()


def _expand_recipe(values: dict[str, Any], problems: list[Problem], *, place: _Place) -> None:
    """Put a named recipe under what `recipe:` says itself: `{base: senformer/ade20k, batch_size: 4}`."""
    written = values.get("recipe")
    if not isinstance(written, dict):
        return
    if written.get("epochs") and written.get("iterations"):
        message = "epochs and iterations are two lengths of one schedule; keep one"
        problems.append(Problem(where=place(("recipe", "iterations")), message=message))
    if BASE not in written:
        return
    own = {key: value for key, value in written.items() if key != BASE}
    base, name = Recipe(), written[BASE]
    if isinstance(name, str) and name in RECIPES:
        base = RECIPES[name]
    else:
        near = difflib.get_close_matches(str(name), RECIPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(RECIPES)}"
        problems.append(Problem(where=place(("recipe", BASE)), message=f"found no recipe {name!r}; {hint}"))
    values["recipe"] = overridden(base, own)


def _validate(values: dict[str, Any], problems: list[Problem], *, place: _Place) -> Job | None:
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in JOB_KINDS:
        problems.append(
            Problem(where=place(("kind",)), message=f"found {kind!r}, allowed: {sorted(JOB_KINDS)}")
        )
        return None
    try:
        return JOB_KINDS[kind].model_validate(values)
    except ValidationError as error:
        problems += [
            Problem(where=place(item["loc"]), message=_explain(item, kind)) for item in error.errors()
        ]
        return None


def _explain(item: Any, kind: str) -> str:
    location, message = item["loc"], str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = _fields_at(kind, location[:-1])
        if location[:-1] == ("recipe",):
            known = sorted([*known, BASE])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(known)}"
        return f"unknown key {location[-1]!r}; {hint}"
    if item["type"] == "missing":
        return "missing; add it"
    found = item["input"]
    return message if isinstance(found, dict) else f"{message}, found {found!r}"


def _fields_at(kind: str, location: Sequence[Any]) -> list[str]:
    model: Any = JOB_KINDS[kind]
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((item for item in candidates if hasattr(item, "model_fields")), None)
    return sorted(getattr(model, "model_fields", {}))


def _look_for_space(values: dict[str, Any], problems: list[Problem], *, place: _Place) -> None:
    """Note a missing space file of a sweep even if the rest of the job is wrong."""
    name = values.get("space")
    if values.get("kind") == "sweep" and isinstance(name, str):
        try:
            _space_file(name, beside=place.path.parent)
        except FileNotFoundError as error:
            problems.append(Problem(where=place(("space",)), message=str(error)))


def _space_file(name: str, *, beside: Path) -> Path:
    space = find_file(name, kind="search_spaces", beside=beside)
    if space is None:
        names = ", ".join(builtin_names("search_spaces"))
        raise FileNotFoundError(
            f"found no space {name!r}; give a path relative to the job file, or one of: {names}"
        )
    return space


def with_absolute_paths(job: Job, folder: Path, *, where: str) -> Job:
    """Resolve the data root and the space of a job against a folder: that of the job file.

    Raises:
        InvalidJob: If there is no such space.
    """
    updates: dict[str, Any] = {"data": _with_absolute_root(job.data, folder)}
    if isinstance(job, SweepJob):
        try:
            updates["space"] = str(_space_file(job.space, beside=folder))
        except FileNotFoundError as error:
            raise InvalidJob([Problem(where=f"{where} space", message=str(error))]) from None
    return job.model_copy(update=updates)


def _with_absolute_root(data: DataSettings, folder: Path) -> DataSettings:
    if data.root is None:
        return data
    return data.model_copy(update={"root": (folder / data.root.expanduser()).resolve()})
