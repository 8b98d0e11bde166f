"""From axis values to a method config and a recipe."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from segsweep.errors import InvalidPoint, Problem
from segsweep.models.interface import MethodConfig
from segsweep.models.methods import METHODS
from segsweep.training.recipe import Recipe, overridden

T = TypeVar("T", bound=BaseModel)
RECIPE_PREFIX = "recipe"


def build_configs(
    method: str, values: Mapping[str, Any], *, fixed: Mapping[str, Any], recipe: Recipe
) -> tuple[MethodConfig, Recipe]:
    """Method config and recipe of a point.

    Args:
        method: Key of ``METHODS``.
        values: Dotted axis name -> value.
        fixed: Nested config values that the point may override.
        recipe: Base recipe that axes under ``recipe.`` override.

    Raises:
        InvalidPoint: With every value that the config or the recipe refuses.
    """
    nested = copy.deepcopy(dict(fixed))
    for axis, value in values.items():
        *parents, leaf = axis.split(".")
        target = nested
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value
    overrides = nested.pop(RECIPE_PREFIX, {})
    problems: list[Problem] = []
    config = _validated(METHODS[method], nested, "point", problems)
    trained = _validated(Recipe, overridden(recipe, overrides), f"point {RECIPE_PREFIX}", problems)
    if config is None or trained is None:
        raise InvalidPoint(problems)
    return config, trained


def _validated(kind: type[T], values: Any, where: str, problems: list[Problem]) -> T | None:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        for item in error.errors():
            path = ".".join(str(part) for part in item["loc"])
            found = f", found {item['input']!r}" if not isinstance(item["input"], dict) else ""
            problems.append(Problem(where=f"{where} {path}".strip(), message=f"{item['msg']}{found}"))
        return None
