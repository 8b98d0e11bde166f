"""Parameter groups by mmcv's rule, and learning rates in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segsweep.errors import InvalidInput
from segsweep.models.methods import METHODS
from segsweep.training.optim import (
    LR_MULTIPLIER,
    build_optimizer,
    learning_rate,
    multipliers,
    parameter_groups,
    set_learning_rate,
)
from segsweep.training.recipe import Recipe

# The custom keys of SenFormer's ResNet configs: (learning rate, decay) of the keys that they have.
RESNET = Recipe(
    lr=1e-4,
    weight_decay=1e-4,
    decay_norms=True,
    lr_multipliers={"backbone": 0.1},
    decay_multipliers={"norm": 0, "queries": 0, "relative_position_bias_table": 0, "pos_embed": 0},
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("backbone.conv1.weight", (0.1, 1)),
        ("backbone.norm1.weight", (0.1, 1)),  # "backbone" is longer than "norm": slower and still decayed
        ("neck.blocks.2.norm1.bias", (1, 0)),
        ("neck.blocks.2.attn.relative_position_bias_table", (1, 0)),
        ("backbone.attn.relative_position_bias_table", (1, 0)),  # the longer key wins: full rate, no decay
        ("head.learners.2.queries.weight", (1, 0)),
        ("head.learners.2.norm_embs.bias", (1, 0)),
        ("head.fusion.0.weight", (1, 1)),
        ("auxiliary.0.bias", (1, 1)),
    ],
)
def test_the_longest_key_in_a_name_decides_both_multipliers(name: str, expected: tuple[float, float]) -> None:
    assert multipliers(name, RESNET) == expected


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def _groups(recipe: Recipe) -> dict[tuple[float, float], set[str]]:
    """(learning rate, weight decay) -> names of the parameters."""
    model = Tiny()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, recipe)
    return {(g["lr"], g["weight_decay"]): {names[p] for p in g["params"]} for g in groups}


def test_norms_and_biases_are_not_decayed_by_default() -> None:
    assert _groups(Recipe(lr=0.5, weight_decay=0.01)) == {
        (0.5, 0.01): {"backbone.0.weight", "head.weight"},
        (0.5, 0.0): {
            "backbone.0.bias",
            "backbone.1.weight",
            "backbone.1.bias",
            "norm.weight",
            "norm.bias",
            "head.bias",
        },
    }


def test_the_groups_of_todays_checkpoints_keep_their_order() -> None:
    decays = [group["weight_decay"] for group in parameter_groups(Tiny(), Recipe(weight_decay=0.01))]
    assert decays == [0.01, 0.0]


def test_multipliers_make_groups() -> None:
    recipe = Recipe(
        lr=1.0,
        weight_decay=0.01,
        decay_norms=True,
        lr_multipliers={"backbone": 0.1},
        decay_multipliers={"norm": 0},
    )
    assert _groups(recipe) == {
        (0.1, 0.01): {"backbone.0.weight", "backbone.0.bias", "backbone.1.weight", "backbone.1.bias"},
        (1.0, 0.0): {"norm.weight", "norm.bias"},
        (1.0, 0.01): {"head.weight", "head.bias"},
    }


def test_biases_may_be_decayed_without_the_norms() -> None:
    groups = _groups(Recipe(lr=1.0, weight_decay=0.01, decay_biases=True))
    assert groups[1.0, 0.0] == {"backbone.1.weight", "backbone.1.bias", "norm.weight", "norm.bias"}
    assert groups[1.0, 0.01] == {"backbone.0.weight", "backbone.0.bias", "head.weight", "head.bias"}


def test_layers_far_from_the_head_learn_more_slowly() -> None:
    """mmsegmentation's ids of a ViT's layers: 0 before the blocks, i + 1 in block i, depth + 1 elsewhere;
    the factor is decay ** (depth + 1 - id).
    """
    config = {"backbone": {"name": "vit_nano"}, "sharing": {"policy": "nano"}, "crop": 64}
    model = METHODS["cts"].model_validate(config).build(3)
    recipe = Recipe(lr=1.0, weight_decay=0.0, layer_decay=0.5)
    names = {parameter: name for name, parameter in model.named_parameters()}
    rates = {names[p]: group["lr"] for group in parameter_groups(model, recipe) for p in group["params"]}
    assert rates.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, rate in rates.items():
        layer = 5
        if name.startswith(("encoder.backbone.patch_embed", "encoder.backbone.pos", "encoder.backbone.cls")):
            layer = 0
        elif name.startswith("encoder.backbone.blocks."):
            layer = int(name.split(".")[3]) + 1
        assert rate == 0.5 ** (5 - layer), name
    assert rates["encoder.backbone.norm.weight"] == rates["head.blocks.0.norm1.weight"] == 1.0


def test_layer_decay_needs_a_row_of_blocks() -> None:
    with pytest.raises(InvalidInput, match=r"recipe.layer_decay: found 0.5, .* no backbone.blocks"):
        build_optimizer(Tiny(), Recipe(layer_decay=0.5))


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = Tiny()
    found = [p for group in parameter_groups(model, RESNET) for p in group["params"]]
    assert len(found) == len(set(found)) == sum(p.requires_grad for p in model.parameters())


def test_betas_and_momentum_arrive() -> None:
    adam = build_optimizer(Tiny(), Recipe(optimizer="adamw", betas=(0.8, 0.95)))
    sgd = build_optimizer(Tiny(), Recipe(optimizer="sgd", momentum=0.7))
    assert {group["betas"] for group in adam.param_groups} == {(0.8, 0.95)}
    assert {group["momentum"] for group in sgd.param_groups} == {0.7}


def test_groups_follow_the_schedule_with_their_multiplier() -> None:
    recipe = Recipe(epochs=2, lr=1.0, schedule="poly", poly_power=1.0, lr_multipliers={"backbone": 0.1})
    optimizer = build_optimizer(Tiny(), recipe)
    assert set_learning_rate(optimizer, recipe, 5, steps_per_epoch=5) == pytest.approx(0.5)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.5 * group[LR_MULTIPLIER])
    assert {group[LR_MULTIPLIER] for group in optimizer.param_groups} == {0.1, 1.0}


def test_poly_is_that_of_torch() -> None:
    recipe = Recipe(iterations=40, lr=0.3, schedule="poly", poly_power=0.9)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=40, power=0.9)
    for step in range(40):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(recipe, step, steps_per_epoch=7) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()


def test_poly_ends_at_the_lowest_rate_of_mmcv() -> None:
    """mmcv: (lr - min_lr) (1 - i / n) ** power + min_lr; the multiplier is on lr alone."""
    recipe = Recipe(iterations=100, lr=0.01, min_lr=1e-4, schedule="poly", poly_power=0.9)
    for step in (0, 37, 99):
        for multiplier in (1.0, 0.1):
            expected = (0.01 * multiplier - 1e-4) * (1 - step / 100) ** 0.9 + 1e-4
            found = learning_rate(recipe, step, steps_per_epoch=9, multiplier=multiplier)
            assert found == pytest.approx(expected)


def test_warm_up_in_iterations_is_that_of_mmcv() -> None:
    """mmcv: the regular rate times 1 - (1 - i / w) (1 - ratio), with the decay under way from step 0."""
    recipe = Recipe(
        iterations=160_000,
        lr=6e-5,
        schedule="poly",
        poly_power=1.0,
        warmup_iterations=1500,
        warmup_start=1e-6,
    )
    rates = {step: learning_rate(recipe, step, steps_per_epoch=1263) for step in (0, 750, 1499, 1500, 80_000)}
    assert rates[0] == pytest.approx(6e-5 * 1e-6)
    assert rates[750] == pytest.approx(6e-5 * (1 - 750 / 160_000) * (1 - 0.5 * (1 - 1e-6)))
    assert rates[1500] == pytest.approx(6e-5 * (1 - 1500 / 160_000))
    assert rates[1499] < rates[1500]
    assert rates[80_000] == pytest.approx(3e-5)


def test_the_schedule_does_not_depend_on_how_steps_make_epochs_when_it_is_in_iterations() -> None:
    recipe = Recipe(iterations=60, lr=0.1)
    assert learning_rate(recipe, 31, steps_per_epoch=7) == learning_rate(recipe, 31, steps_per_epoch=60)
