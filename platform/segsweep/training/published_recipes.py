"""The training recipes of the papers, by method and data set.

A job takes one with ``recipe: {base: senformer/ade20k}`` and may override any key. Sources are the papers,
their official configs where paper and code disagree or the paper is silent, and, marked "chosen", a decision
of ours where neither says anything. What belongs to the data (size at test, dropped zero label) or to the
model (pretrained weights) is not part of a recipe.
"""

from __future__ import annotations

from typing import Any

from segsweep.data.photometric import PhotometricDistortion
from segsweep.data.transforms import TrainTransform
from segsweep.training.recipe import Recipe, overridden


def _changed(recipe: Recipe, **values: Any) -> Recipe:
    return Recipe.model_validate(overridden(recipe, values))


# ESeg, training details of each data set. OHEM "as HRNet and OCR": their 0.9 and 131072. Decay of the moving
# average: EfficientDet's 0.9998. No warm-up is mentioned. 90k steps of 16 images are the paper's 484 epochs
# of 2975 images. The crop of Lite is only called larger: 1024x1024 is chosen.
_ESEG = Recipe(
    iterations=90_000,
    batch_size=16,
    optimizer="sgd",
    lr=0.08,
    momentum=0.9,
    weight_decay=5e-5,
    schedule="cosine",
    loss="ohem",
    ohem_threshold=0.9,
    ohem_min_kept=131072,
    ema_decay=0.9998,
    augment=TrainTransform(scale_range=(0.5, 2.0), crop=(512, 1024), flip=0.5),
)

# SenFormer, annex and official configs: AdamW, linear decay ("poly" of power 1) after 1500 warm-up
# steps. Learning rate of Swin: 6e-5 in every config, 6e-6 in the paper. Clipping: 0.1 or 1.0 in the configs,
# 3 in the paper. Crop of Pascal Context: 480 in annex and config, 512 in the text.
_UNDECAYED = {"absolute_pos_embed", "relative_position_bias_table", "norm", "queries", "pos_embed"}
_SENFORMER = Recipe(
    iterations=160_000,
    batch_size=16,
    optimizer="adamw",
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
    decay_norms=True,  # only what is named is spared; batch norms of the backbone are not
    lr_multipliers={"backbone": 0.1},
    decay_multipliers=dict.fromkeys(sorted(_UNDECAYED), 0.0),
    schedule="poly",
    poly_power=1.0,
    warmup_iterations=1500,
    warmup_start=1e-6,
    clip_norm=0.1,
    loss="cross_entropy",
    ema_decay=None,
    augment=TrainTransform(
        resize_base=(2048, 512),
        scale_range=(0.5, 2.0),
        crop=(512, 512),
        max_class_share=0.75,
        flip=0.5,
        photometric=PhotometricDistortion(),
    ),
)
_SENFORMER_COCO = _changed(_SENFORMER, iterations=80_000, clip_norm=1.0)
_SENFORMER_PASCAL = _changed(
    _SENFORMER, iterations=40_000, clip_norm=1.0, augment={"resize_base": (520, 520), "crop": (480, 480)}
)
_SENFORMER_CITYSCAPES = _changed(
    _SENFORMER,
    iterations=100_000,
    batch_size=8,
    clip_norm=1.0,
    augment={"resize_base": (2048, 1024), "crop": (512, 1024)},
)


def _with_swin(recipe: Recipe) -> Recipe:
    """The recipe of Swin backbones: no slower learning there, so that their norms are named ones, too."""
    return _changed(recipe, lr=6e-5, weight_decay=0.01).model_copy(update={"lr_multipliers": {}})


# UperNet as the SenFormer paper compares with it (Table 5): mmsegmentation's stock 160k configs.
_UPERNET = Recipe(
    iterations=160_000,
    batch_size=16,
    optimizer="sgd",
    lr=0.01,
    min_lr=1e-4,
    momentum=0.9,
    weight_decay=5e-4,
    decay_norms=True,
    schedule="poly",
    poly_power=0.9,
    loss="cross_entropy",
    ema_decay=None,
    augment=_SENFORMER.augment,
)

# HFGD, training details ("plain": ResNet-50 and all ablations; "advanced": Swin-L and ConvNeXt-L).
# Momentum, power, spared norms, scale steps, padding, brightness and distortion are those of the author's
# framework (iSeg, and the configs of CAR). Padding of 127.5 is 128 here.
_HFGD = Recipe(
    iterations=30_000,
    batch_size=16,
    optimizer="sgd",
    lr=0.01,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="poly",
    poly_power=0.9,
    loss="cross_entropy",
    ema_decay=None,
    precision="bfloat16",  # "mixed precision"
    augment=TrainTransform(
        scale_range=(0.5, 2.0),
        scale_step=0.1,
        crop=(513, 513),
        padding=(128, 128, 128),
        flip=0.5,
        photometric=PhotometricDistortion(brightness=32, contrast=(1, 1), saturation=(1, 1), hue=0),
    ),
)
_HFGD_LARGE = _changed(
    _HFGD,
    iterations=40_000,
    optimizer="adamw",
    lr=4e-5,
    weight_decay=0.05,
    augment={
        "photometric": {
            "contrast": (0.75, 1.25),
            "saturation": (0.75, 1.25),
            "hue": 0.1,
            "hue_probability": 1.0,
            "contrast_pivot": "channel_mean",
            "contrast_place": "first",
        }
    },
)
_WIDE_ODD = {"crop": (513, 1025)}  # stated for ConvNeXt-L; chosen for ResNet-50 ("per CAR default")

RECIPES: dict[str, Recipe] = {
    "eseg/cityscapes": _ESEG,
    "eseg/cityscapes-lite": _changed(_ESEG, augment={"crop": (1024, 1024)}),
    "eseg/ade20k": _changed(_ESEG, epochs=300, augment={"crop": (520, 520)}),
    "eseg/mapillary": _changed(
        _ESEG, epochs=500, augment={"resize_base": (2048, 2048), "crop": (1024, 1024)}
    ),
    "eseg/cityscapes-from-mapillary": _changed(_ESEG, epochs=200, lr=0.01),
    "eseg/cityscapes-self-training": _changed(_ESEG, epochs=1000, batch_size=128, lr=0.16),
    "senformer/ade20k": _SENFORMER,
    "senformer/ade20k-ablation": _changed(_SENFORMER, iterations=100_000),  # Tables 3 and 13
    "senformer/ade20k-swin": _with_swin(_SENFORMER),
    "senformer/ade20k-swin-large": _with_swin(
        _changed(_SENFORMER, clip_norm=1.0, augment={"crop": (640, 640)})
    ),
    "senformer/coco-stuff-10k": _SENFORMER_COCO,
    "senformer/coco-stuff-10k-swin": _with_swin(_SENFORMER_COCO),
    "senformer/pascal-context": _SENFORMER_PASCAL,
    "senformer/pascal-context-swin": _with_swin(_SENFORMER_PASCAL),
    "senformer/cityscapes": _SENFORMER_CITYSCAPES,
    "senformer/cityscapes-swin": _with_swin(_SENFORMER_CITYSCAPES),
    "upernet/ade20k": _UPERNET,
    "upernet/ade20k-swin": _changed(_with_swin(_SENFORMER), clip_norm=None),
    "upernet/ade20k-swin-large": _changed(
        _with_swin(_SENFORMER), clip_norm=None, augment={"crop": (640, 640)}
    ),
    "hfgd/pascal-context": _HFGD,
    "hfgd/pascal-context-large": _HFGD_LARGE,
    "hfgd/coco-stuff-164k-large": _HFGD_LARGE,  # the crop is not restated for COCO-Stuff
    "hfgd/coco-stuff-10k-large": _HFGD_LARGE,
    "hfgd/ade20k-large": _changed(_HFGD_LARGE, augment={"crop": (641, 641)}),  # 40k: not restated, chosen
    "hfgd/cityscapes": _changed(_HFGD, augment=_WIDE_ODD),
    "hfgd/cityscapes-large": _changed(_HFGD_LARGE, iterations=60_000, augment=_WIDE_ODD),
    "hfgd/cityscapes-large-os2": _changed(_HFGD_LARGE, iterations=80_000, augment=_WIDE_ODD),
}
