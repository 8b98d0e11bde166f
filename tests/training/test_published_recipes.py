"""The recipes of the papers against their tables."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from segsweep.models.methods import METHODS, PRESETS
from segsweep.training.optim import multipliers, parameter_groups
from segsweep.training.published_recipes import RECIPES
from segsweep.training.recipe import Recipe

# SenFormer, annex and configs: iterations, batch, crop, resize base, clipping (ResNet | Swin-L).
SENFORMER = {
    "ade20k": (160_000, 16, (512, 512), (2048, 512), 0.1),
    "ade20k-swin": (160_000, 16, (512, 512), (2048, 512), 0.1),
    "ade20k-swin-large": (160_000, 16, (640, 640), (2048, 512), 1.0),
    "ade20k-ablation": (100_000, 16, (512, 512), (2048, 512), 0.1),
    "coco-stuff-10k": (80_000, 16, (512, 512), (2048, 512), 1.0),
    "coco-stuff-10k-swin": (80_000, 16, (512, 512), (2048, 512), 1.0),
    "pascal-context": (40_000, 16, (480, 480), (520, 520), 1.0),
    "pascal-context-swin": (40_000, 16, (480, 480), (520, 520), 1.0),
    "cityscapes": (100_000, 8, (512, 1024), (2048, 1024), 1.0),
    "cityscapes-swin": (100_000, 8, (512, 1024), (2048, 1024), 1.0),
}

# ESeg: length, batch, learning rate, crop.
ESEG = {
    "cityscapes": (90_000, None, 16, 0.08, (512, 1024)),
    "cityscapes-lite": (90_000, None, 16, 0.08, (1024, 1024)),
    "ade20k": (None, 300, 16, 0.08, (520, 520)),
    "mapillary": (None, 500, 16, 0.08, (1024, 1024)),
    "cityscapes-from-mapillary": (None, 200, 16, 0.01, (512, 1024)),
    "cityscapes-self-training": (None, 1000, 128, 0.16, (512, 1024)),
}

# HFGD: iterations, crop, optimiser, learning rate, weight decay.
HFGD = {
    "pascal-context": (30_000, (513, 513), "sgd", 0.01, 1e-4),
    "pascal-context-large": (40_000, (513, 513), "adamw", 4e-5, 0.05),
    "coco-stuff-164k-large": (40_000, (513, 513), "adamw", 4e-5, 0.05),
    "coco-stuff-10k-large": (40_000, (513, 513), "adamw", 4e-5, 0.05),
    "ade20k-large": (40_000, (641, 641), "adamw", 4e-5, 0.05),
    "cityscapes": (30_000, (513, 1025), "sgd", 0.01, 1e-4),
    "cityscapes-large": (60_000, (513, 1025), "adamw", 4e-5, 0.05),
    "cityscapes-large-os2": (80_000, (513, 1025), "adamw", 4e-5, 0.05),
}

# MaskFormer, supplement and configs: iterations, batch, crop, shorter side, its factors, longest side.
MASKFORMER = {
    "ade20k": (160_000, 16, (512, 512), 512, (0.5, 2.0), 2048),
    "ade20k-swin": (160_000, 16, (512, 512), 512, (0.5, 2.0), 2048),
    "ade20k-swin-large": (160_000, 16, (640, 640), 640, (0.5, 2.0), 2560),
    "ade20k-full": (200_000, 16, (512, 512), 512, (0.5, 2.0), 2048),
    "coco-stuff-10k": (60_000, 32, (640, 640), 640, (0.5, 1.5), 2560),
    "cityscapes": (90_000, 16, (512, 1024), 1024, (0.5, 2.0), 4096),
    "mapillary": (300_000, 16, (1280, 1280), 2048, (0.5, 2.0), 8192),
}

# CTS, official configs: epochs, batch, learning rate, crop, resize base.
CTS = {
    "ade20k": (64, 8, 1e-3, (512, 512), (2048, 512)),
    "ade20k-640": (64, 8, 1e-3, (640, 640), (2560, 640)),
    "ade20k-beit": (64, 8, 1e-5, (640, 640), (2560, 640)),
    "pascal-context": (256, 8, 1e-3, (480, 480), (4160, 520)),
    "cityscapes": (216, 8, 1e-2, (768, 768), (2048, 1024)),
}


@pytest.mark.parametrize("name", SENFORMER)
def test_senformer(name: str) -> None:
    recipe = RECIPES[f"senformer/{name}"]
    augment = recipe.augment
    found = (recipe.iterations, recipe.batch_size, augment.crop, augment.resize_base, recipe.clip_norm)
    assert found == SENFORMER[name]
    assert (recipe.warmup_iterations, recipe.warmup_start, recipe.poly_power) == (1500, 1e-6, 1.0)
    assert augment.max_class_share == 0.75 and augment.photometric is not None
    swin = "swin" in name
    assert (recipe.lr, recipe.weight_decay) == ((6e-5, 0.01) if swin else (1e-4, 1e-4))
    assert recipe.lr_multipliers == ({} if swin else {"backbone": 0.1})
    assert (recipe.loss, recipe.ema_decay) == ("cross_entropy", None)


@pytest.mark.parametrize("name", ESEG)
def test_eseg(name: str) -> None:
    recipe = RECIPES[f"eseg/{name}"]
    iterations, epochs, batch, rate, crop = ESEG[name]
    assert (recipe.iterations, recipe.batch_size, recipe.lr) == (iterations, batch, rate)
    assert recipe.augment.crop == crop
    if epochs is not None:
        assert recipe.epochs == epochs
    assert (recipe.schedule, recipe.loss, recipe.momentum, recipe.weight_decay) == (
        "cosine",
        "ohem",
        0.9,
        5e-5,
    )


def test_esegs_90k_steps_are_the_484_epochs_of_the_paper() -> None:
    recipe = RECIPES["eseg/cityscapes"]
    assert recipe.iterations is not None
    assert recipe.iterations * recipe.batch_size / 2975 == pytest.approx(484.0, abs=0.05)
    steps = 2975 // 16  # here an incomplete last batch is left out, so there are a few epochs more
    assert recipe.for_images(2975).epochs == math.ceil(90_000 / steps) == 487


@pytest.mark.parametrize("name", HFGD)
def test_hfgd(name: str) -> None:
    recipe = RECIPES[f"hfgd/{name}"]
    augment = recipe.augment
    assert (recipe.iterations, augment.crop, recipe.optimizer, recipe.lr, recipe.weight_decay) == HFGD[name]
    assert (recipe.batch_size, recipe.schedule, recipe.min_lr, recipe.warmup_iterations) == (16, "poly", 0, 0)
    assert (augment.scale_range, augment.scale_step, augment.resize_base) == ((0.5, 2.0), 0.1, None)
    assert augment.photometric is not None and augment.photometric.brightness == 32
    assert augment.photometric.contrast == ((0.75, 1.25) if "large" in name else (1, 1))
    assert (recipe.loss, recipe.ema_decay) == ("cross_entropy", None)


def test_upernets_of_mmsegmentation() -> None:
    resnet, swin = RECIPES["upernet/ade20k"], RECIPES["upernet/ade20k-swin"]
    assert (resnet.optimizer, resnet.lr, resnet.min_lr, resnet.weight_decay) == ("sgd", 0.01, 1e-4, 5e-4)
    assert (swin.optimizer, swin.lr, swin.weight_decay, swin.clip_norm) == ("adamw", 6e-5, 0.01, None)
    assert (resnet.iterations, swin.iterations) == (160_000, 160_000)
    assert (resnet.warmup_iterations, swin.warmup_iterations) == (0, 1500)


@pytest.mark.parametrize("name", MASKFORMER)
def test_maskformer(name: str) -> None:
    recipe = RECIPES[f"maskformer/{name}"]
    augment = recipe.augment
    assert augment.resize_base is not None
    shorter = min(augment.resize_base)
    found = (
        recipe.iterations,
        recipe.batch_size,
        augment.crop,
        shorter,
        augment.scale_range,
        augment.longest,
    )
    assert found == MASKFORMER[name]
    assert (augment.scale_step, augment.padding, augment.max_class_share) == (0.1, (128, 128, 128), 1.0)
    assert augment.photometric is not None
    assert (recipe.optimizer, recipe.schedule, recipe.poly_power, recipe.clip_norm) == (
        "adamw",
        "poly",
        0.9,
        0.01,
    )
    swin = "swin" in name
    assert (recipe.lr, recipe.weight_decay) == ((6e-5, 0.01) if swin else (1e-4, 1e-4))
    assert (recipe.warmup_iterations, recipe.lr_multipliers) == (
        (1500, {}) if swin else (0, {"backbone": 0.1})
    )


@pytest.mark.parametrize("name", CTS)
def test_cts(name: str) -> None:
    recipe = RECIPES[f"cts/{name}"]
    augment = recipe.augment
    found = (recipe.epochs, recipe.batch_size, recipe.lr, augment.crop, augment.resize_base)
    assert found == CTS[name]
    optimizer = ("adamw", 1e-3) if "beit" in name else ("sgd", 0.0)
    assert (recipe.optimizer, recipe.weight_decay) == optimizer
    assert (recipe.schedule, recipe.poly_power, recipe.min_lr, recipe.iterations) == ("poly", 0.9, 1e-5, None)
    assert (augment.max_class_share, augment.flip, augment.scale_range) == (0.75, 0.5, (0.5, 2.0))
    assert augment.photometric is not None


def test_policies_of_cts_train_at_one_rate_on_flips_alone() -> None:
    crops = {"": None, "-pascal-context": (480, 480), "-cityscapes": (768, 768)}
    for name, crop in crops.items():
        recipe = RECIPES[f"cts/policy{name}"]
        assert (recipe.iterations, recipe.batch_size, recipe.optimizer, recipe.lr) == (
            50_000,
            8,
            "adamw",
            5e-5,
        )
        assert (recipe.weight_decay, recipe.decay_norms, recipe.schedule) == (1e-3, True, "constant")
        assert (recipe.augment.crop, recipe.augment.scale_range) == (crop, (1.0, 1.0))
        assert recipe.augment.photometric is None and recipe.augment.flip == 0.5


def test_upernets_on_plain_transformers() -> None:
    vit, beit = RECIPES["upernet-vit/ade20k"], RECIPES["upernet-beit/ade20k"]
    assert (vit.iterations, vit.batch_size, vit.lr, vit.weight_decay) == (160_000, 16, 6e-5, 0.01)
    assert (beit.iterations, beit.batch_size, beit.lr, beit.weight_decay) == (320_000, 8, 2e-5, 0.05)
    assert (vit.warmup_iterations, beit.warmup_iterations, vit.layer_decay, beit.layer_decay) == (
        1500,
        3000,
        None,
        0.95,
    )
    assert (vit.augment.crop, beit.augment.crop) == ((512, 512), (640, 640))
    for recipe in (vit, beit):
        assert (recipe.poly_power, recipe.warmup_start, recipe.clip_norm) == (1.0, 1e-6, None)
        assert recipe.lr_multipliers == {}


def _undecayed(model: nn.Module, recipe: Recipe) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, recipe)
    return {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}


@pytest.mark.parametrize(
    ("preset", "recipe"),
    [("maskformer-r50", "maskformer/ade20k"), ("maskformer-swin-t", "maskformer/ade20k-swin")],
)
def test_maskformers_norms_queries_and_bias_tables_are_not_decayed(preset: str, recipe: str) -> None:
    with torch.device("meta"):
        model = PRESETS["maskformer"][preset].build(150)
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
    spared = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, kinds)
        or name == "relative_position_bias_table"
        or parameter.shape == (100, 256)
    }
    assert _undecayed(model, RECIPES[recipe]) == spared
    slow = {group["lr"] for group in parameter_groups(model, RECIPES[recipe])}
    assert slow == ({1e-4, 1e-5} if preset == "maskformer-r50" else {6e-5})


@pytest.mark.parametrize(
    ("preset", "recipe"),
    [("upernet-vit-b", "upernet-vit/ade20k"), ("upernet-beit-l", "upernet-beit/ade20k")],
)
def test_upernets_tokens_positions_and_norms_are_not_decayed(preset: str, recipe: str) -> None:
    with torch.device("meta"):
        model = PRESETS["cts"][preset].build(150)
    spared = {name for name, _ in model.named_parameters() if name.endswith(("cls_token", "pos_embed"))}
    if recipe.startswith("upernet-beit"):  # mmseg's layer decay spares all of one axis
        spared |= {name for name, parameter in model.named_parameters() if parameter.ndim <= 1}
    else:
        for path, module in model.named_modules():
            if isinstance(module, nn.LayerNorm):
                spared |= {f"{path}.{name}" for name, _ in module.named_parameters()}
    assert _undecayed(model, RECIPES[recipe]) == spared


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json_and_names_a_method_and_a_data_set(name: str) -> None:
    recipe = RECIPES[name]
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    method, data = name.split("/")
    assert data and (method in METHODS or method in {"upernet", "upernet-vit", "upernet-beit"})


@pytest.mark.parametrize(
    ("preset", "recipe"),
    [("senformer-r50", "senformer/ade20k"), ("senformer-swin-t", "senformer/ade20k-swin")],
)
def test_senformers_norms_queries_and_bias_tables_are_not_decayed(preset: str, recipe: str) -> None:
    """By the type of the module, not by its name: what the recipe's names are meant to find in our models."""
    with torch.device("meta"):
        model = PRESETS["senformer"][preset].build(150)
    spared = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    spared |= {id(p) for name, p in model.named_parameters() if name.endswith("relative_position_bias_table")}
    spared |= {id(p) for p in model.parameters() if p.ndim == 3 and p.shape[:2] == (1, 150)}  # class queries
    found = {id(p) for name, p in model.named_parameters() if multipliers(name, RECIPES[recipe])[1] == 0}
    assert found == spared
    slow = {
        name.split(".")[0]
        for name, _ in model.named_parameters()
        if multipliers(name, RECIPES[recipe])[0] != 1
    }
    assert slow == ({"backbone"} if preset == "senformer-r50" else set())
