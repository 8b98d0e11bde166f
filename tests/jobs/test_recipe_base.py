"""Jobs that begin with the recipe of a paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_files import write_tiny_sweep, write_tiny_training

from segsweep.errors import InvalidJob
from segsweep.jobs.load import load_job
from segsweep.jobs.spec import SweepJob, TrainJob
from segsweep.training.published_recipes import RECIPES

WRITTEN = "recipe: {epochs: 2, batch_size: 4, loss: cross_entropy, ema_decay: 0.5}"


def _training(folder: Path, recipe: str) -> Path:
    return write_tiny_training(folder, (WRITTEN, f"recipe: {recipe}"))


def _problems(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, str]:
    with pytest.raises(InvalidJob) as caught:
        load_job(path, overrides=overrides)
    return {problem.where: problem.message for problem in caught.value.problems}


def test_a_base_alone_is_the_published_recipe(tmp_path: Path) -> None:
    job = load_job(_training(tmp_path, "{base: senformer/ade20k}"))
    assert isinstance(job, TrainJob) and job.recipe == RECIPES["senformer/ade20k"]


def test_keys_beside_the_base_override_it(tmp_path: Path) -> None:
    text = "{base: senformer/ade20k, epochs: 3, batch_size: 4, warmup_epochs: 0.5, augment: {crop: [64, 64]}}"
    job = load_job(_training(tmp_path, text))
    assert isinstance(job, TrainJob)
    recipe, base = job.recipe, RECIPES["senformer/ade20k"]
    assert (recipe.epochs, recipe.iterations, recipe.batch_size) == (3, None, 4)
    assert (recipe.warmup_epochs, recipe.warmup_iterations) == (0.5, 0)
    assert (recipe.lr, recipe.decay_multipliers) == (base.lr, base.decay_multipliers)
    assert recipe.augment == base.augment.model_copy(update={"crop": (64, 64)})


def test_a_base_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    job = load_job(write_tiny_training(tmp_path), overrides=["recipe.base=hfgd/pascal-context"])
    assert isinstance(job, TrainJob)
    assert (job.recipe.augment.crop, job.recipe.epochs, job.recipe.iterations) == ((513, 513), 2, None)


def test_an_unknown_base_is_named_with_its_place_and_the_nearest(tmp_path: Path) -> None:
    path = _training(tmp_path, "\n  base: senformer/ade2k\n  epoch: 2")
    line = path.read_text().splitlines().index("  base: senformer/ade2k") + 1
    assert _problems(path) == {
        f"{path}:{line} recipe.base": "found no recipe 'senformer/ade2k'; did you mean 'senformer/ade20k'?",
        f"{path}:{line + 1} recipe.epoch": "unknown key 'epoch'; did you mean 'epochs'?",
    }
    assert (
        "did you mean 'hfgd/ade20k-large'"
        in _problems(path, ("recipe.base=hfgd/ade20k-big",))["--set recipe.base=hfgd/ade20k-big"]
    )


@pytest.mark.parametrize("base", ["7", "[a, b]", "zzzzzzzz", "null"])
def test_what_is_no_name_gets_the_list(tmp_path: Path, base: str) -> None:
    (message,) = _problems(_training(tmp_path, f"{{base: {base}}}")).values()
    assert "allowed: eseg/cityscapes, " in message


def test_two_lengths_are_a_mistake(tmp_path: Path) -> None:
    path = _training(tmp_path, "{epochs: 2, iterations: 9}")
    (message,) = _problems(path).values()
    assert message == "epochs and iterations are two lengths of one schedule; keep one"


def test_a_sweep_counts_in_epochs(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, (WRITTEN, "recipe: {base: senformer/pascal-context}"))
    (message,) = _problems(path).values()
    assert message.startswith("recipe.iterations = 40000: a sweep compares its trials after equal epochs")
    job = load_job(path, overrides=["recipe.epochs=4"])
    assert isinstance(job, SweepJob) and (job.recipe.epochs, job.recipe.iterations) == (4, None)


def test_every_part_of_a_workers_share_needs_an_image(tmp_path: Path) -> None:
    path = _training(tmp_path, "{epochs: 2, batch_size: 4, accumulate: 3}")
    assert load_job(path)
    (message,) = _problems(path, ("scaling.workers=2",)).values()
    assert "recipe.accumulate = 3 need more images than recipe.batch_size = 4" in message
