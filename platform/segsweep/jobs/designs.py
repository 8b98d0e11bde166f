"""From what a user names (method, preset, point) to a config."""

from __future__ import annotations

from collections.abc import Mapping

from segsweep.cost.measure import exact_cost
from segsweep.errors import InvalidPoint, Problem
from segsweep.jobs.spec import TrainJob
from segsweep.models.interface import MethodConfig
from segsweep.models.methods import METHODS, PRESETS
from segsweep.records import AxisValue, CostReport
from segsweep.training.configs import build_configs
from segsweep.training.recipe import Recipe


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


def cost_of(
    config: MethodConfig, *, num_classes: int, size: tuple[int, int], where: str = "point"
) -> CostReport:
    """Exact cost of a design that a user named.

    Raises:
        InvalidPoint: If the config has values that no model can be built from; an unknown backbone,
            or a size that the model does not take.
    """
    try:
        return exact_cost(config, num_classes=num_classes, size=size)
    except (RuntimeError, ValueError) as error:  # an ImageSizeError, too
        raise InvalidPoint([Problem(where=where, message=str(error))]) from error


def train_configs(job: TrainJob, *, where: str = "job") -> tuple[MethodConfig, Recipe]:
    """Method config and recipe of a train job; see ``configs``."""
    return configs(job.method, preset=job.preset, point=job.point, recipe=job.recipe, where=where)
