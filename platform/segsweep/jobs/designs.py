"""From what a user names (method, preset, point) to a config."""

from __future__ import annotations

from collections.abc import Mapping

from segsweep.errors import InvalidPoint, Problem
from segsweep.models.interface import MethodConfig
from segsweep.models.methods import METHODS, PRESETS
from segsweep.records import AxisValue
from segsweep.training.recipe import Recipe
from segsweep.trial import build_configs


def configs(
    method: str, *, preset: str | None, point: Mapping[str, AxisValue], recipe: Recipe, where: str = ""
) -> tuple[MethodConfig, Recipe]:
    """Config and recipe of a preset, a point, or a point over a preset.

    Raises:
        InvalidPoint: If method or preset do not exist, or with every value that a config refuses.
    """
    if method not in METHODS:
        raise InvalidPoint(
            [
                Problem(
                    where=f"{where} method".strip(),
                    message=f"found {method!r}, allowed: {', '.join(METHODS)}",
                )
            ]
        )
    fixed = {}
    if preset is not None:
        presets = PRESETS[method]
        if preset not in presets:
            raise InvalidPoint(
                [
                    Problem(
                        where=f"{where} preset".strip(),
                        message=f"found {preset!r}, allowed: {', '.join(sorted(presets))}",
                    )
                ]
            )
        fixed = presets[preset].model_dump(exclude_unset=True)
    return build_configs(method, point, fixed=fixed, recipe=recipe)


def design(method: str, *, preset: str | None, point: Mapping[str, AxisValue]) -> MethodConfig:
    """Only the config; see ``configs``."""
    return configs(method, preset=preset, point=point, recipe=Recipe())[0]
