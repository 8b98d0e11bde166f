"""Evaluations as Arrow, Markdown and terminal tables."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from segsweep.records import DEFAULT_OBJECTIVES, CostReport, Evaluation, Point, Score, TrialStatus
from segsweep.reporting.tables import evaluations_table, front_markdown, front_rich_table


def evaluation(
    number: int, *, miou: float, macs: int, speed: float | None = 10.0, **changes: Any
) -> Evaluation:
    values: dict[str, Any] = {
        "trial_id": f"{number:04d}",
        "number": number,
        "point": Point({"neck.channels": 32 * (number + 1)}),
        "status": TrialStatus.COMPLETE,
        "cost": CostReport(
            num_params=1_500_000,
            macs=macs,
            size=(360, 480),
            num_classes=11,
            images_per_second=speed,
            latency_ms_p50=None if speed is None else 1000 / speed,
            batch_size=1,
            device="cpu-1",
        ),
        "scores": (Score(epoch=3, fidelity=1.0, miou=miou, train_loss=0.5, seconds=9.0),),
        "seconds": 12.5,
    }
    return Evaluation(**{**values, **changes})


SWEEP = [
    evaluation(0, miou=0.40, macs=2_000_000_000, source="seed:ESeg-S"),
    evaluation(1, miou=0.55, macs=4_000_000_000),
    evaluation(2, miou=0.50, macs=5_000_000_000),  # dominated by 1
    evaluation(3, miou=0.90, macs=1_000_000_000, status=TrialStatus.STOPPED, reason="rung 0.33"),
    evaluation(4, miou=0.0, macs=1, status=TrialStatus.FAILED, cost=None, scores=(), reason="out of memory"),
]


def test_arrow_table_has_a_row_per_trial_and_a_column_per_axis() -> None:
    table = evaluations_table(SWEEP)
    assert table.column("trial_id").to_pylist() == ["0000", "0001", "0002", "0003", "0004"]
    assert table.column("point.neck.channels").to_pylist() == [32, 64, 96, 128, 160]
    assert table.column("on_front").to_pylist() == [True, True, False, False, False]


def test_arrow_table_has_no_miou_where_a_trial_is_not_complete() -> None:
    table = evaluations_table(SWEEP)
    assert table.column("miou").to_pylist() == [0.40, 0.55, 0.50, None, None]
    assert table.column("last_val_miou").to_pylist() == [0.40, 0.55, 0.50, 0.90, None]
    assert table.column("macs").to_pylist()[-1] is None


def test_axes_keep_their_types_and_inactive_ones_are_null() -> None:
    points = [
        {"a": 1, "b": 0.5, "c": "x", "d": True, "e": 1},
        {"a": 2, "b": 1, "c": "y", "d": False, "e": "auto"},
        {},
    ]
    rows = [evaluation(index, miou=0.5, macs=1, point=Point(point)) for index, point in enumerate(points)]
    table = evaluations_table(rows)
    kinds = [table.schema.field(f"point.{axis}").type for axis in "abcde"]
    assert kinds == [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.string()]
    assert table.column("point.e").to_pylist() == ["1", "auto", None]


def test_table_survives_parquet(tmp_path: Path) -> None:
    table = evaluations_table(SWEEP)
    pq.write_table(table, tmp_path / "evaluations.parquet")
    assert pq.read_table(tmp_path / "evaluations.parquet").equals(table)


def test_the_table_of_an_empty_sweep_has_the_same_columns() -> None:
    full, empty = evaluations_table(SWEEP), evaluations_table([])
    assert empty.num_rows == 0
    fixed = [name for name in full.column_names if not name.startswith("point.")]
    assert empty.column_names == fixed
    assert [empty.schema.field(name).type for name in fixed] == [
        full.schema.field(name).type for name in fixed
    ]


def test_markdown_lists_the_front_best_first_in_units_that_people_read() -> None:
    lines = front_markdown(SWEEP, DEFAULT_OBJECTIVES).splitlines()
    assert lines[0] == (
        "| trial | mIoU (%) | GMACs per image | images/s | parameters (M) | median latency (ms) "
        "| neck.channels | source |"
    )
    assert lines[2] == "| 1 | 55.00 | 4.000 | 10.0 | 1.500 | 100.00 | 64 | sampler |"
    assert lines[3] == "| 0 | 40.00 | 2.000 | 10.0 | 1.500 | 100.00 | 32 | seed:ESeg-S |"
    assert lines[4] == ""


def test_markdown_states_the_conditions() -> None:
    last = front_markdown(SWEEP, DEFAULT_OBJECTIVES).splitlines()[-1]
    assert last == (
        "Conditions: 5 trials (3 complete, 1 stopped, 1 failed); input 360x480; speed at batch 1; "
        "device cpu-1. "
        "Objectives: maximize mIoU (%), minimize GMACs per image, maximize images/s."
    )


def test_markdown_cells_cannot_break_the_table() -> None:
    odd = [evaluation(0, miou=0.5, macs=1, point=Point({"neck.kind": "a|b"}))]
    row = front_markdown(odd, DEFAULT_OBJECTIVES).splitlines()[2]
    assert r"a\|b" in row


@pytest.mark.parametrize("sweep", [[], SWEEP[3:]])
def test_no_front_is_said_in_words(sweep: list[Evaluation]) -> None:
    assert front_markdown(sweep, DEFAULT_OBJECTIVES).startswith("No complete trial yet")


def test_terminal_table_shows_the_same_front() -> None:
    console = Console(file=StringIO(), width=160)
    console.print(front_rich_table(SWEEP, DEFAULT_OBJECTIVES, title="ESeg"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ESeg" in text
    assert "55.00" in text
    assert "50.00" not in text
    assert "5 trials (3 complete" in text
