"""Our counts against the figures that ESeg printed, its DeepLabV3+ baselines included."""

from __future__ import annotations

import pytest

from segsweep.cost.measure import exact_cost
from segsweep.cost.published import PaperRow, paper_rows
from segsweep.models.methods.eseg import PRESETS

ROWS = paper_rows("eseg")
ESEG_COSTS = [
    row for row in ROWS if row.method == "eseg" and row.quantity == "macs" and row.item != "ESeg-Lite-S"
]
DEEPLAB_COSTS = [row for row in ROWS if row.method == "deeplab" and not row.unexplained]


def row_id(row: PaperRow) -> str:
    return f"{row.source}-{row.item}-{row.quantity}"


@pytest.mark.parametrize("row", [r for r in ROWS if r.quantity == "params"], ids=row_id)
def test_parameters_are_within_the_rounding_of_the_printed_digit(row: PaperRow) -> None:
    assert row.ratio == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("row", ESEG_COSTS, ids=row_id)
def test_costs_by_the_papers_convention_are_within_half_a_percent(row: PaperRow) -> None:
    assert row.ratio == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("row", DEEPLAB_COSTS, ids=row_id)
def test_costs_of_deeplab_are_within_four_percent(row: PaperRow) -> None:
    # ESeg does not describe the decoder, so its blocks are known only to a few per cent.
    assert row.ratio == pytest.approx(1, abs=0.04)
    assert "low" in row.note


def test_the_atrous_resnet_row_is_the_only_one_without_an_explanation() -> None:
    (row,) = [row for row in ROWS if row.unexplained]
    assert (row.source, row.item) == ("ESeg, Table 8", "R50 + DeepLabV3+, atrous")
    assert "88.6 G" in row.note
    assert row.ratio > 1.2


def test_cost_of_lite_s_is_within_the_rounding_of_its_two_digits() -> None:
    (row,) = [row for row in ROWS if row.item == "ESeg-Lite-S"]
    assert row.ratio == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("preset", "published"),
    [("eseg-s", 34.5e9), ("eseg-m", 112e9), ("eseg-l", 343e9), ("eseg-s-resnet50", 188.0e9),
     ("eseg-s-fpn-p5", 39.8e9), ("eseg-s-fpn-p9", 40.0e9)],
)  # fmt: skip
def test_plain_macs_are_up_to_two_and_a_half_percent_below_the_paper(preset: str, published: float) -> None:
    macs = exact_cost(PRESETS[preset], num_classes=19, size=(1024, 2048)).macs
    assert 0.975 <= macs / published <= 1.005


def test_rows_say_how_they_were_counted() -> None:
    assert {row.method for row in ROWS} == {"eseg", "deeplab"}
    assert all("19 classes" in row.convention for row in ROWS)
    assert all(row.ratio == row.computed / row.published for row in ROWS)


def test_a_method_without_figures_is_unknown() -> None:
    with pytest.raises(KeyError, match="unet"):
        paper_rows("unet")
