"""The scores of an evaluation as text: over all classes, and class by class."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.table import Table

from segsweep.evaluation.report import EvaluationReport

_NAMES = {
    "miou": "mIoU",
    "miou_gt": "mIoU over classes in the truth",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "fwiou": "frequency-weighted IoU",
    "ade_score": "(pixel accuracy + mIoU) / 2",
    "void_share": "labelled pixels without a prediction",
    "pq_st": "PQ St",
    "sq_st": "SQ St",
    "rq_st": "RQ St",
}
_HEADER = ("class", "pixels", "IoU", "accuracy", "PQ St", "SQ St", "RQ St")


def score_rows(report: EvaluationReport) -> list[tuple[str, str]]:
    """Name and per cent of every score of the split that is defined."""
    return [(_NAMES[name], _per_cent(value)) for name, value in report.metrics().items()]


def class_rows(report: EvaluationReport) -> list[tuple[str, ...]]:
    """Cells of the table class by class, in per cent; ``-`` where a score is not defined."""
    return [
        (item.name, *map(_per_cent, (item.share, item.iou, item.accuracy, item.pq, item.sq, item.rq)))
        for item in report.classes()
    ]


def evaluation_markdown(report: EvaluationReport, *, title: str) -> str:
    """The whole evaluation as Markdown."""
    lines = [f"# {title}", "", conditions(report), "", "| score | % |", "|---|---:|"]
    lines += [f"| {name} | {value} |" for name, value in score_rows(report)]
    lines += ["", "| " + " | ".join(_HEADER) + " |", "|---" + "|---:" * (len(_HEADER) - 1) + "|"]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in class_rows(report)
    ]
    return "\n".join(lines) + "\n"


def class_table(report: EvaluationReport, *, title: str = "") -> Table:
    """The table class by class for a terminal."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, caption=conditions(report))
    table.add_column(_HEADER[0], overflow="fold")
    for name in _HEADER[1:]:
        table.add_column(name, justify="right")
    for row in class_rows(report):
        table.add_row(*row)
    return table


def conditions(report: EvaluationReport) -> str:
    """How it was evaluated, in one line."""
    images = f"{len(report.images)} images of {report.info.name} {report.split}"
    return f"{images}; {report.protocol.summary}; values in per cent"


def _per_cent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
