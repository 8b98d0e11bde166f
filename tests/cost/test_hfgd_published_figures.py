"""Our counts against the costs that HFGD printed."""

from __future__ import annotations

import pytest

from segsweep.cost.measure import count_config
from segsweep.cost.published.hfgd import rows
from segsweep.cost.published.row import PaperRow
from segsweep.models.methods.hfgd import PRESETS, HFGDConfig

ROWS = list(rows())
SLIM = [row for row in ROWS if "resnet50" not in row.item]
STAND_INS = [row for row in ROWS if "resnet50" in row.item]


def row_id(row: PaperRow) -> str:
    return row.item


def test_all_four_designs_are_counted_with_three_backbones() -> None:
    assert (len(SLIM), len(STAND_INS)) == (4, 8)
    assert [row.published for row in SLIM] == [158.96e9, 45.65e9, 71.63e9, 153.62e9]


@pytest.mark.parametrize("row", SLIM, ids=row_id)
def test_costs_with_the_slim_stem_are_within_one_percent(row: PaperRow) -> None:
    assert row.ratio == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("row", STAND_INS, ids=row_id)
def test_costs_with_a_stand_in_backbone_are_within_two_and_a_half_percent(row: PaperRow) -> None:
    assert row.ratio == pytest.approx(1, abs=0.025)


# HFGD specification, computed independently, GMACs
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("SemanticFPN", 45.84),
        ("HFGD, stride 4", 71.64),
        ("HFGD, stride 2", 153.86),
        ("SemanticFPN, resnet50d", 45.98),
        ("HFGD, stride 4, resnet50d", 71.79),
        ("HFGD, stride 2, resnet50d", 154.00),
        ("SemanticFPN, resnet50", 44.72),
        ("HFGD, stride 4, resnet50", 70.53),
        ("HFGD, stride 2, resnet50", 152.74),
    ],
)
def test_costs_are_those_of_the_specification(item: str, expected: float) -> None:
    (row,) = [row for row in ROWS if row.item == item]
    assert row.computed / 1e9 == pytest.approx(expected, abs=0.03)


def test_sa_car_at_the_width_of_its_own_code_costs_what_the_specification_says() -> None:
    values = PRESETS["hfgd-r50-d8-sa-car"].model_dump()
    values["upsampler"]["channels"] = 512
    _, operations = count_config(HFGDConfig.model_validate(values), num_classes=59, size=(513, 513))
    assert operations.macs / 1e9 == pytest.approx(159.91, abs=0.01)  # linear map not merged


def test_stride_2_costs_more_than_twice_stride_4() -> None:
    stride_4, stride_2 = (row.computed for row in SLIM[2:])
    assert stride_2 > 2 * stride_4


def test_rows_say_how_they_were_counted() -> None:
    for row in ROWS:
        assert row.method == "hfgd"
        assert row.complete_macs == row.computed
        assert "513x513, 59 classes" in row.convention
        assert "stem" in row.note
        assert row.ratio == row.computed / row.published
