"""From the values of a job file to a job: every mistake with the place where it was written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from segsweep.errors import InvalidJob, Problem
from segsweep.jobs.builtin import builtin_names, find_file
from segsweep.jobs.credentials import password_locations, password_problem, take_credentials
from segsweep.jobs.spec import (
    JOB_KINDS,
    STEP_KINDS,
    DataSettings,
    PseudoLabelsJob,
    StepJob,
    SweepJob,
    TrainJob,
)
from segsweep.jobs.storage import lasting_folder
from segsweep.redaction import without_passwords
from segsweep.search.yaml_lines import YamlDocument, parse_yaml
from segsweep.training.published_recipes import RECIPES
from segsweep.training.recipe import Recipe, overridden

BASE = "base"  # key of `recipe:` that names a published one


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a setting was written: in a line of the file, or in what replaces it.

    Attributes:
        path: The file.
        document: What it holds.
        prefix: Where the job is in it; nothing for a file of one job.
        replaced: Dotted key of the file -> what to call the place of what replaces it; the last of equal keys
            counts.
    """

    path: Path
    document: YamlDocument
    prefix: tuple[str | int, ...] = ()
    replaced: dict[str, str] = field(default_factory=dict)

    def __call__(self, location: Sequence[str | int]) -> str:
        """The place of a setting of the job."""
        complete = (*self.prefix, *location)
        key = ".".join(map(str, complete))
        for written in reversed(self.replaced):
            if key == written or key.startswith(f"{written}."):
                return self.replaced[written]
        return f"{self.path}:{self.document.line(complete)} {key}".strip()


def read_text(path: Path, *, what: str = "a job") -> str:
    """Text of a job file, or of ``what`` else is YAML; raises ``InvalidJob`` if it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidJob(
            [Problem(where=str(path), message=f"not a text file; {what} is YAML in UTF-8")]
        ) from None


def apply_overrides(
    values: dict[str, Any], overrides: Sequence[str], problems: list[Problem]
) -> dict[str, str]:
    """Replace settings as ``--set key.path=value`` says; gives what to call each place."""
    places: dict[str, str] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        where = f"--set {without_passwords(override)}"
        if not separator or not key:
            message = "write key.path=value, for example sweep.trials=8"
            problems.append(Problem(where=where, message=message))
            continue
        parsed = parse_yaml(text)
        replace_value(values, key, text if parsed.problems else parsed.value, where=where, problems=problems)
        places.pop(key, None)  # the last one of equal keys is looked at first
        places[key] = where
    return places


def replace_value(
    values: dict[str, Any], key: str, value: Any, *, where: str, problems: list[Problem]
) -> None:
    """Replace the value of a dotted key, making the mappings on the way."""
    *parents, leaf = key.split(".")
    target = values
    for parent in parents:
        inner = target.setdefault(parent, {})
        if not isinstance(inner, dict):
            message = f"{parent!r} holds {inner!r}, not a mapping"
            problems.append(Problem(where=where, message=message))
            return
        target = inner
    target[leaf] = value


def build_job(values: dict[str, Any], problems: list[Problem], *, place: Place, folder: Path) -> StepJob:
    """A job of one step with absolute paths.

    Args:
        values: Its settings; changed in place.
        problems: What was found before; raised together with what is found here.
        place: Where the settings were written.
        folder: Where relative paths start.

    Raises:
        InvalidJob: With every problem.
    """
    problems += [password_problem(place(location)) for location in password_locations(values)]
    _expand_recipe(values, problems, place=place)
    job = validated(values, problems, place=place)
    _look_for_space(values, problems, place=place, folder=folder)
    if job is None or problems:
        raise InvalidJob(problems)
    return with_absolute_paths(cast(StepJob, job), folder, where=str(place.path))


def _expand_recipe(values: dict[str, Any], problems: list[Problem], *, place: Place) -> None:
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


def validated(
    values: dict[str, Any],
    problems: list[Problem],
    *,
    place: Place,
    kinds: Mapping[str, type[BaseModel]] = STEP_KINDS,
) -> BaseModel | None:
    """The job of its kind; ``None`` and the problems if it is wrong."""
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        allowed = sorted(kinds if place.prefix else JOB_KINDS)
        problems.append(Problem(where=place(("kind",)), message=f"found {kind!r}, allowed: {allowed}"))
        return None
    try:
        return kinds[kind].model_validate(values)
    except ValidationError as error:
        problems += [
            Problem(where=place(item["loc"]), message=_explain(item, kinds[kind])) for item in error.errors()
        ]
        return None


def _explain(item: Any, kind: type[BaseModel]) -> str:
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


def _fields_at(kind: type[BaseModel], location: Sequence[Any]) -> list[str]:
    model: Any = kind
    for part in location:
        field_ = getattr(model, "model_fields", {}).get(part)
        if field_ is None:
            return []
        candidates = [field_.annotation, *getattr(field_.annotation, "__args__", ())]
        model = next((item for item in candidates if hasattr(item, "model_fields")), None)
    return sorted(getattr(model, "model_fields", {}))


def _look_for_space(values: dict[str, Any], problems: list[Problem], *, place: Place, folder: Path) -> None:
    """Note a missing space file of a sweep even if the rest of the job is wrong."""
    name = values.get("space")
    if values.get("kind") == "sweep" and isinstance(name, str):
        try:
            _space_file(name, beside=folder)
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


def with_absolute_paths(job: StepJob, folder: Path, *, where: str) -> StepJob:
    """Resolve the data root, the space and the files of a job against a folder: that of the job file.

    Raises:
        InvalidJob: If there is no such space.
    """
    updates: dict[str, Any] = {"data": with_absolute_root(job.data, folder), "out": lasting_folder(job.out)}
    if isinstance(job, SweepJob | TrainJob) and job.tracking.uri is not None:
        uri = take_credentials(job.tracking.uri)
        updates["tracking"] = job.tracking.model_copy(update={"uri": uri})
    if isinstance(job, SweepJob):
        try:
            updates["space"] = str(_space_file(job.space, beside=folder))
        except FileNotFoundError as error:
            raise InvalidJob([Problem(where=f"{where} space", message=str(error))]) from None
    if isinstance(job, SweepJob | TrainJob) and job.weights is not None:
        path = _absolute(job.weights.path, folder)
        updates["weights"] = job.weights.model_copy(update={"path": path})
    if isinstance(job, TrainJob) and job.pseudo_labels is not None:
        shards = _absolute(job.pseudo_labels.shards, folder)
        updates["pseudo_labels"] = job.pseudo_labels.model_copy(update={"shards": shards})
    if isinstance(job, PseudoLabelsJob) and (folder / job.teacher).exists():
        updates["teacher"] = str(_absolute(Path(job.teacher), folder))
    return job.model_copy(update=updates)


def with_absolute_root(data: DataSettings, folder: Path) -> DataSettings:
    """The data with their root resolved against a folder."""
    if data.root is None:
        return data
    return data.model_copy(update={"root": _absolute(data.root, folder)})


def _absolute(path: Path, folder: Path) -> Path:
    return (folder / path.expanduser()).resolve()
