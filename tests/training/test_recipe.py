"""Recipes: the two ways to give a length, and what does not fit together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from segsweep.errors import InvalidInput
from segsweep.training.recipe import Recipe, overridden


@pytest.mark.parametrize(
    ("iterations", "images", "epochs"),
    [
        (5, 8, 3),
        (6, 8, 3),
        (7, 8, 4),
        (6, 11, 3),
        (6, 12, 2),
        (1, 8, 1),
    ],  # 4 a batch, incomplete ones left out
)
def test_epochs_are_as_many_as_the_iterations_need(iterations: int, images: int, epochs: int) -> None:
    recipe = Recipe(iterations=iterations, batch_size=4).for_images(images)
    assert (recipe.epochs, recipe.iterations) == (epochs, iterations)


def test_a_recipe_in_epochs_stays_as_it_is() -> None:
    recipe = Recipe(epochs=7, batch_size=4, warmup_epochs=0.5)
    assert recipe.for_images(1000) == recipe


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"epochs": 2, "warmup_iterations": 4}, "recipe.warmup_iterations: the warm-up of 4 steps"),
        ({"iterations": 4, "warmup_epochs": 2.0}, "recipe.warmup_epochs: the warm-up of 4 steps"),
    ],
)
def test_a_warm_up_must_end_before_the_schedule_on_the_data(settings: dict[str, object], name: str) -> None:
    recipe = Recipe.model_validate({"batch_size": 4, **settings})
    with pytest.raises(InvalidInput, match=name):
        recipe.for_images(8)  # 2 steps an epoch
    assert recipe.for_images(4 if recipe.iterations else 100)


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup_epochs": 1, "warmup_iterations": 10},
        {"epochs": 2, "warmup_epochs": 2},
        {"iterations": 10, "warmup_iterations": 10},
        {"lr": 0.01, "min_lr": 0.02},
        {"batch_size": 4, "accumulate": 5},
        {"betas": (0.9, 1.0)},
        {"lr_multipliers": {"backbone": -1}},
        {"warmup_start": 0},
        {"iterations": 0},
    ],
)
def test_what_does_not_fit_together_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(wrong)


def test_overriding_replaces_only_what_is_named() -> None:
    base = Recipe(
        iterations=100,
        warmup_iterations=10,
        lr_multipliers={"backbone": 0.1},
        augment={"crop": (64, 64), "photometric": {"hue": 0.2}},  # type: ignore[arg-type]
    )
    values = {"lr": 0.5, "lr_multipliers": {"head": 2}, "augment": {"photometric": {"brightness": 1}}}
    recipe = Recipe.model_validate(overridden(base, values))
    assert (recipe.lr, recipe.iterations, recipe.warmup_iterations) == (0.5, 100, 10)
    assert recipe.lr_multipliers == {"backbone": 0.1, "head": 2}
    assert recipe.augment.crop == (64, 64) and recipe.augment.photometric is not None
    assert (recipe.augment.photometric.hue, recipe.augment.photometric.brightness) == (0.2, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"epochs": 3}, {"iterations": None, "epochs": 3, "warmup_iterations": 10}),
        ({"iterations": 50}, {"iterations": 50}),
        ({"warmup_epochs": 0.5}, {"warmup_epochs": 0.5, "warmup_iterations": 0}),
        ({"warmup_epochs": 0}, {"warmup_epochs": 0, "warmup_iterations": 0}),
    ],
)
def test_who_overrides_epochs_does_not_want_the_iterations_any_more(
    values: dict[str, object], expected: dict[str, object]
) -> None:
    recipe = Recipe.model_validate(overridden(Recipe(iterations=100, warmup_iterations=10), values))
    assert {key: getattr(recipe, key) for key in expected} == expected


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(iterations=9, augment={"photometric": {}})  # type: ignore[arg-type]
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
