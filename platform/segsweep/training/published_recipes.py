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


def _by_shorter_side(shorter: int, longest: int, **values: Any) -> dict[str, Any]:
    """Augmentation as detectron2 writes it: a shorter side, times a factor, and a bound of the longer one."""
    return {"resize_base": (16 * shorter, shorter), "longest": longest, **values}


# MaskFormer, supplement and official configs. "Norms, query embeddings and Swin's bias tables are not
# decayed": biases are. Sizes are those of detectron2, the colours are padded with 128, and the gradient norm
# of the whole model is clipped at 0.01. Its ResNets have frozen batch norms.
_MASKFORMER = Recipe(
    iterations=160_000,
    batch_size=16,
    optimizer="adamw",
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
    decay_biases=True,
    lr_multipliers={"backbone": 0.1},
    decay_multipliers={"decoder.queries": 0.0},
    schedule="poly",
    poly_power=0.9,
    clip_norm=0.01,
    loss="cross_entropy",
    ema_decay=None,
    augment=TrainTransform(
        resize_base=(16 * 512, 512),
        longest=2048,
        scale_range=(0.5, 2.0),
        scale_step=0.1,
        crop=(512, 512),
        padding=(128, 128, 128),
        flip=0.5,
        photometric=PhotometricDistortion(),
    ),
)
_MASKFORMER_SWIN = _changed(
    _MASKFORMER,
    lr=6e-5,
    weight_decay=0.01,
    decay_multipliers={"relative_position_bias_table": 0.0},
    warmup_iterations=1500,
    warmup_start=1e-6,
).model_copy(update={"lr_multipliers": {}})

# CTS trains its Segmenters as Strudel et al. 2021 do: official configs; batches of 8 also on Pascal Context,
# as the paper says (16 in the official code). Padding of 0 after normalisation to -1..1 is 128 here.
_CTS = Recipe(
    epochs=64,
    batch_size=8,
    optimizer="sgd",
    lr=1e-3,
    min_lr=1e-5,
    momentum=0.9,
    weight_decay=0.0,
    schedule="poly",
    poly_power=0.9,
    loss="cross_entropy",
    ema_decay=None,
    augment=TrainTransform(
        resize_base=(2048, 512),
        scale_range=(0.5, 2.0),
        crop=(512, 512),
        max_class_share=0.75,
        padding=(128, 128, 128),
        flip=0.5,
        photometric=PhotometricDistortion(),
    ),
)
_TOKENS = dict.fromkeys(("cls_token", "dist_token", "pos_embed"), 0.0)

# CTS, supplement and official code: the policy networks. "small" has a learning rate of 1e-3. ADE20K is
# prepared at 512x512, whatever the proportions.
_POLICY = Recipe(
    iterations=50_000,
    batch_size=8,
    optimizer="adamw",
    lr=5e-5,
    weight_decay=1e-3,
    decay_norms=True,
    schedule="constant",
    loss="cross_entropy",
    ema_decay=None,
    augment=TrainTransform(scale_range=(1.0, 1.0), flip=0.5),
)

# UPerNet on ViT and BEiT: mmsegmentation's configs, as CTS's supplement names them. BEiT's layer decay spares
# biases, norms and tokens of weight decay, and was trained in half precision.
_UPERNET_VIT = _changed(_with_swin(_SENFORMER), clip_norm=None).model_copy(
    update={"decay_multipliers": {"cls_token": 0.0, "norm": 0.0, "pos_embed": 0.0}}
)
_UPERNET_BEIT = _changed(
    _UPERNET_VIT,
    iterations=320_000,
    batch_size=8,
    lr=2e-5,
    weight_decay=0.05,
    decay_norms=False,
    layer_decay=0.95,
    warmup_iterations=3000,
    precision="bfloat16",
    augment={"resize_base": (2560, 640), "crop": (640, 640)},
).model_copy(update={"decay_multipliers": _TOKENS})

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
    "maskformer/ade20k": _MASKFORMER,
    "maskformer/ade20k-swin": _MASKFORMER_SWIN,
    "maskformer/ade20k-swin-large": _changed(  # Swin-B and Swin-L
        _MASKFORMER_SWIN, augment=_by_shorter_side(640, 2560, crop=(640, 640))
    ),
    "maskformer/ade20k-full": _changed(_MASKFORMER, iterations=200_000),
    "maskformer/coco-stuff-10k": _changed(
        _MASKFORMER,
        iterations=60_000,
        batch_size=32,
        augment=_by_shorter_side(640, 2560, scale_range=(0.5, 1.5), crop=(640, 640)),
    ),
    "maskformer/cityscapes": _changed(
        _MASKFORMER, iterations=90_000, augment=_by_shorter_side(1024, 4096, crop=(512, 1024))
    ),
    "maskformer/mapillary": _changed(
        _MASKFORMER, iterations=300_000, augment=_by_shorter_side(2048, 8192, crop=(1280, 1280))
    ),
    "cts/ade20k": _CTS,
    "cts/ade20k-640": _changed(_CTS, augment={"resize_base": (2560, 640), "crop": (640, 640)}),  # ViT-L
    # BEiT (supplement); its rate is the lowest, so it stays. Tokens are spared: timm's default, chosen.
    "cts/ade20k-beit": _changed(
        _CTS,
        optimizer="adamw",
        lr=1e-5,
        weight_decay=1e-3,
        decay_multipliers=_TOKENS,
        augment={"resize_base": (2560, 640), "crop": (640, 640)},
    ),
    "cts/pascal-context": _changed(
        _CTS, epochs=256, augment={"resize_base": (4160, 520), "crop": (480, 480)}
    ),
    "cts/cityscapes": _changed(
        _CTS, epochs=216, lr=1e-2, augment={"resize_base": (2048, 1024), "crop": (768, 768)}
    ),
    "cts/policy": _POLICY,
    "cts/policy-pascal-context": _changed(_POLICY, augment=_by_shorter_side(512, 16 * 512, crop=(480, 480))),
    "cts/policy-cityscapes": _changed(_POLICY, augment={"crop": (768, 768)}),
    "upernet-vit/ade20k": _UPERNET_VIT,
    "upernet-beit/ade20k": _UPERNET_BEIT,  # BEiT-L
}
