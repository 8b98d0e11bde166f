"""Sizes and costs of MaskFormer: exact integers, and the printed figures to their last digit."""

from __future__ import annotations

import pytest
import torch

from segsweep.cost.fvcore_counting import count_fvcore_macs, count_semantic_macs
from segsweep.cost.measure import count_config
from segsweep.cost.published.maskformer import rows
from segsweep.cost.published.row import PaperRow
from segsweep.models.methods.maskformer import PRESETS, MaskFormerConfig

ADE = 150
# parameters; G MACs of the network, with the product of classes and masks, and by fvcore's rules (Table 1)
FIGURES = {
    "maskformer-r50": (512, 41_307_863, 48.66, 52.59, 53.08),
    "maskformer-r101": (512, 60_299_991, 68.05, 71.98, 72.53),
    "maskformer-r101c": (512, 60_423_767, 75.13, 79.06, 79.63),
    "maskformer-swin-t": (512, 41_757_009, 50.79, 54.73, 55.21),
    "maskformer-swin-s": (512, 63_074_913, 74.51, 78.45, 78.98),
    "maskformer-swin-b": (640, 101_829_391, 188.06, 194.21, 195.12),
    "maskformer-swin-l": (640, 211_575_627, 367.64, 373.79, 374.86),
}
PARTS = {  # of ResNet-50, 150 classes
    "backbone": 23_508_032,
    "neck": 7_540_480,
    "head.decoder": 10_023_168,
    "head.classifier": 38_807,
    "head.mask_embedding": 197_376,
}
ROWS = list(rows())


def params(config: MaskFormerConfig, classes: int = ADE) -> int:
    with torch.device("meta"):
        model = config.build(classes)
    return sum(parameter.numel() for parameter in model.parameters())


def giga(value: float) -> object:
    return pytest.approx(value, abs=0.0051)  # printed to 0.01


@pytest.mark.parametrize("preset", FIGURES)
def test_table_1(preset: str) -> None:
    side, parameters, network, merged, rules = FIGURES[preset]
    config, size = PRESETS[preset], (side, side)
    counted, operations = count_config(config, num_classes=ADE, size=size)
    assert counted == parameters
    assert operations.macs / 1e9 == giga(network)
    assert count_semantic_macs(config, num_classes=ADE, size=size) / 1e9 == giga(merged)
    assert count_fvcore_macs(config, num_classes=ADE, size=size) / 1e9 == giga(rules)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.source}-{row.item}-{row.quantity}")
def test_published_figures_come_out_as_printed(row: PaperRow) -> None:
    if "Enc" in row.item and row.quantity == "macs":
        assert row.note  # a mean over images of many sizes
        return
    unit = 1e6 if row.quantity == "params" else 1e9
    decimals = 0 if row.published % unit == 0 else 3 if row.quantity == "params" else 2
    if decimals == 2:  # fvcore counts a few other functions: 81.07 and 49.38 against 81.079 and 49.38
        assert row.computed == pytest.approx(row.published, rel=2e-4)
    else:
        assert round(row.computed / unit, decimals) == round(row.published / unit, decimals)
    assert row.quantity == "params" or row.complete_macs is not None


@pytest.mark.parametrize("classes", [150, 171, 847])
def test_baselines(classes: int) -> None:
    expected = {  # M parameters and G MACs without resizing
        "perpixel-r50": {150: (31.087, 47.42), 171: (31.092, 47.50), 847: (31.266, 50.34)},
        "perpixel-plus-r50": {150: (41.282, 49.27), 171: (41.287, 49.58), 847: (41.460, 61.04)},
    }
    for preset, figures in expected.items():
        counted, operations = count_config(PRESETS[preset], num_classes=classes, size=(512, 512))
        assert round(counted / 1e6, 3) == figures[classes][0]
        assert operations.macs / 1e9 == giga(figures[classes][1])


@pytest.mark.parametrize(("preset", "expected"), [("r50", 45_065_158), ("r101", 64_057_286)])
def test_panoptic_models(preset: str, expected: int) -> None:
    assert params(PRESETS[f"maskformer-{preset}-6enc"], 133) == expected


@pytest.mark.parametrize(("preset", "expected"), [("r50", 164.5), ("r101", 228.9)])
def test_panoptic_costs_at_800_by_1088(preset: str, expected: float) -> None:
    config = PRESETS[f"maskformer-{preset}-6enc"]
    _, operations = count_config(config, num_classes=133, size=(800, 1088))
    assert round(operations.macs / 1e9, 1) == expected


@pytest.mark.parametrize("layers", range(1, 7))
def test_depth_and_self_attention(layers: int) -> None:
    def depth(self_attention: bool) -> int:
        decoder = {"layers": layers, "self_attention": self_attention}
        return params(MaskFormerConfig.model_validate({"decoder": decoder}))

    assert depth(True) == 33_414_103 + 1_578_752 * (layers - 1)
    assert depth(False) == 33_150_423 + 1_315_072 * (layers - 1)
    assert depth(True) - depth(False) == 263_680 * layers


@pytest.mark.parametrize(
    ("queries", "network", "merged"),
    [(20, 47.43, 48.21), (50, 47.88, 49.85), (100, 48.66, 52.59), (150, 49.45, 55.35), (300, 51.91, 63.71)],
)
def test_number_of_queries(queries: int, network: float, merged: float) -> None:
    config = MaskFormerConfig.model_validate({"decoder": {"queries": queries}})
    counted, operations = count_config(config, num_classes=ADE, size=(512, 512))
    assert counted == 41_307_863 + 256 * (queries - 100)
    assert operations.macs / 1e9 == giga(network)
    assert count_semantic_macs(config, num_classes=ADE, size=(512, 512)) / 1e9 == giga(merged)


def test_parts_of_resnet_50() -> None:
    with torch.device("meta"):
        model = PRESETS["maskformer-r50"].build(ADE)
    for name, expected in PARTS.items():
        assert sum(p.numel() for p in model.get_submodule(name).parameters()) == expected
    assert sum(PARTS.values()) == 41_307_863


def test_frozen_norms_are_no_parameters() -> None:
    for backbone, expected in (("resnet50", 41.255), ("resnet101", 60.195)):
        config = MaskFormerConfig.model_validate({"backbone": {"name": backbone, "norm": "frozen"}})
        assert round(params(config) / 1e6, 3) == expected
