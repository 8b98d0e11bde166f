"""SenFormer's sizes and costs against another program's counts and against the paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from segsweep.cost.measure import count_config
from segsweep.cost.module_counting import count_conventions, count_mmcv_macs
from segsweep.cost.published.row import PaperRow
from segsweep.cost.published.senformer import rows
from segsweep.models.heads.learners import LearnerBlock
from segsweep.models.methods.senformer import PRESETS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "senformer.json").read_text())
ROWS = list(rows())


def size(preset: str) -> tuple[int, int]:
    side = GOLDEN["size"].get(preset, 512)
    return side, side


def printed(giga: float) -> object:
    return pytest.approx(giga, rel=1e-4, abs=0.0051)  # the golden figures end at 0.01


@pytest.mark.parametrize("preset", GOLDEN["params_with_auxiliary"])
def test_parameters_with_the_auxiliary_head(preset: str) -> None:
    counts = count_conventions(PRESETS[preset], num_classes=150, size=size(preset))
    assert counts.params / 1e6 == printed(GOLDEN["params_with_auxiliary"][preset])


@pytest.mark.parametrize("preset", GOLDEN["params_without_auxiliary"])
def test_parameters_without_the_auxiliary_head(preset: str) -> None:
    counts = count_conventions(PRESETS[preset], num_classes=150, size=size(preset))
    assert counts.inference_params / 1e6 == printed(GOLDEN["params_without_auxiliary"][preset])


@pytest.mark.parametrize("preset", GOLDEN["mmcv_giga_macs"])
def test_costs_as_mmcv_prints_them(preset: str) -> None:
    macs = count_mmcv_macs(PRESETS[preset], num_classes=150, size=size(preset))
    assert macs / 1e9 == printed(GOLDEN["mmcv_giga_macs"][preset])


@pytest.mark.parametrize("preset", GOLDEN["giga_macs"])
def test_costs_with_all_matrix_products(preset: str) -> None:
    counts = count_conventions(PRESETS[preset], num_classes=150, size=size(preset))
    assert counts.macs / 1e9 == printed(GOLDEN["giga_macs"][preset])


def test_a_block_has_4204032_parameters() -> None:
    with torch.device("meta"):  # attention 4 x (512 x 512 + 512) twice, MLP, three norms
        block = LearnerBlock(512, 8)
    attention = 2 * (4 * 512 * 512 + 4 * 512)
    perceptron = 2 * 4 * 512 * 512 + 5 * 512
    assert attention + perceptron + 3 * 2 * 512 == 4_204_032
    assert sum(parameter.numel() for parameter in block.parameters()) == 4_204_032


def test_each_block_costs_13_612_giga_macs() -> None:
    def macs(depth: int) -> int:
        preset = "senformer-r50" if depth == 6 else f"senformer-r50-l{depth}"
        return count_mmcv_macs(PRESETS[preset], num_classes=150, size=(512, 512))

    slopes = [(macs(deep) - macs(1)) / (deep - 1) / 1e9 for deep in (3, 6, 9)]
    assert slopes == pytest.approx([13.612] * 3, rel=1e-3)


def test_keys_that_are_projected_once_save_five_projections_of_all_levels() -> None:
    config = PRESETS["senformer-r50"]
    lean = config.model_copy(update={"head": config.head.model_copy(update={"reuse_keys": True})})
    macs, lean_macs = (count_config(c, num_classes=150, size=(512, 512))[1].macs for c in (config, lean))
    assert macs - lean_macs == 5 * 21760 * 512 * 1024


def test_one_pass_for_all_conventions_agrees_with_the_cost_of_a_trial() -> None:
    params, operations = count_config(PRESETS["senformer-r50"], num_classes=150, size=(512, 512))
    counts = count_conventions(PRESETS["senformer-r50"], num_classes=150, size=(512, 512))
    assert (counts.inference_params, counts.macs) == (params, operations.macs)


def row_id(row: PaperRow) -> str:
    return f"{row.source}-{row.item}-{row.quantity}"


@pytest.mark.parametrize("row", [row for row in ROWS if row.quantity == "macs"], ids=row_id)
def test_published_costs_are_met_within_half_a_percent(row: PaperRow) -> None:
    assert row.ratio == pytest.approx(1, abs=0.005)
    assert row.complete_macs is not None


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.quantity == "params" and "cls" not in row.item], ids=row_id
)
def test_published_parameters_are_met_within_their_rounding(row: PaperRow) -> None:
    loose = row.unexplained or "cut" in row.note  # Swin-L, SenUperNet; Swin-T is truncated
    assert row.ratio == pytest.approx(1, abs=0.015 if loose else 0.01)


def test_unexplained_figures_say_so() -> None:
    unexplained = {row.item for row in ROWS if row.unexplained}
    assert unexplained == {"cls embeddings, L=6", "SenUperNet R50", "SenFormer Swin-L"}
    assert all(row.note for row in ROWS if row.unexplained)
    assert {row.method for row in ROWS} == {"senformer"}
