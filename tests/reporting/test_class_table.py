"""The words and numbers of an evaluation's table."""

from __future__ import annotations

import io

import torch
from rich.console import Console

from segsweep.data.interface import DatasetInfo
from segsweep.evaluation.protocols import EvaluationProtocol
from segsweep.evaluation.report import EvaluationReport, ImageScore
from segsweep.reporting.class_table import class_rows, class_table, evaluation_markdown, score_rows

INFO = DatasetInfo(name="test", class_names=("a|b", "car", "bus"), palette=((0, 0, 0),) * 3, ignore_index=255)
REPORT = EvaluationReport(
    info=INFO,
    split="val",
    protocol=EvaluationProtocol(),
    matrix=torch.tensor([[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]]),
    segments=torch.tensor([[0.75, 1, 0, 0], [0.8, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.float64),
    images=(ImageScore(row=0, key="x", miou=0.775, pixel_accuracy=0.875),),
    seconds=1.0,
)


def test_rows_are_in_per_cent_and_undefined_scores_a_dash() -> None:
    assert class_rows(REPORT) == [
        ("a|b", "50.00", "75.00", "75.00", "75.00", "75.00", "100.00"),
        ("car", "50.00", "80.00", "100.00", "80.00", "80.00", "100.00"),
        ("bus", "0.00", "-", "-", "-", "-", "-"),
    ]
    assert ("mIoU", "77.50") in score_rows(REPORT) and ("pixel accuracy", "87.50") in score_rows(REPORT)


def test_markdown_states_the_conditions_and_keeps_its_columns() -> None:
    text = evaluation_markdown(REPORT, title="run 1")
    assert "1 images of test val; labels original, whole, scale 1" in text
    rows = [
        line.replace("\\|", "") for line in text.splitlines() if line.startswith("| ") and "%" not in line
    ]
    assert {line.count("|") for line in rows[-4:]} == {8}


def test_table_for_a_terminal_has_a_line_for_every_class() -> None:
    stream = io.StringIO()
    Console(file=stream, width=100).print(class_table(REPORT))
    assert all(name in stream.getvalue() for name in ("a|b", "car", "bus", "80.00"))
