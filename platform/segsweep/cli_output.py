"""What the command line prints: results for people on standard output, or one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from segsweep.cost.published import PaperRow, Quantity
    from segsweep.data.shards import ShardSet
    from segsweep.jobs.result import SweepResult, TrainResult


def console(*, stderr: bool = True) -> Console:
    """A console; news goes to standard error, results to standard output."""
    from rich.console import Console

    return Console(stderr=stderr)


def say(line: str) -> None:
    """News of a running command on standard error."""
    print(line, file=sys.stderr, flush=True)


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=1, allow_nan=False))


def print_sweep(result: SweepResult) -> None:
    """The front as a table, and where everything lies."""
    from segsweep.records import TrialStatus
    from segsweep.reporting.tables import front_rich_table

    console(stderr=False).print(front_rich_table(result.evaluations, result.objectives))
    counts = ", ".join(f"{result.count(status)} {status}" for status in TrialStatus)
    print(f"trials      {counts}")
    for item in result.evaluations:
        if item.status is TrialStatus.FAILED:
            print(f"  failed {item.trial_id}: {item.reason}")
    if result.exhausted:
        print("            the space has no further point")
    reference = ", ".join(f"{metric} {value:g}" for metric, value in result.reference.items())
    print(f"hypervolume {result.hypervolume:.6g} (reference: {reference})")
    print(f"figure      {result.figure}")
    print(f"report      {result.folder / 'report.html'}")
    print(f"records     {result.folder}")
    if result.mlflow.problem:
        print(f"MLflow      {result.mlflow.problem}")
    print(f"compare     {result.mlflow.url}")
    if result.mlflow.tracking_uri.startswith("sqlite:"):
        print(f"start UI    segsweep ui --uri {result.mlflow.tracking_uri}")


def print_training(result: TrainResult) -> None:
    """What the training reached, and where it lies."""
    print(f"mIoU        {100 * result.scores[-1].miou:.2f} % after {result.scores[-1].epoch} epochs")
    print(f"cost        {result.cost.num_params:,} parameters, {result.cost.macs:,} MACs")
    print(f"checkpoint  {result.checkpoint}")
    print(f"MLflow      {result.mlflow.problem or result.mlflow.url}")


def print_paper(rows: Sequence[PaperRow]) -> None:
    """Published beside computed; then those rows whose difference nobody can explain, and the conventions."""
    from rich.table import Table

    conventions = list(dict.fromkeys(row.convention for row in rows))
    explained = [row for row in rows if not row.unexplained]
    table = Table(
        "source", "item", "", "published", "computed", "ratio", "all MACs", "conv.", "note", box=None
    )
    for row in [*explained, *(row for row in rows if row.unexplained)]:
        if row.unexplained and row is next(item for item in rows if item.unexplained):
            table.add_section()
            table.add_row("[bold]unexplained[/bold]")
        table.add_row(
            row.source,
            row.item,
            row.quantity,
            _engineering(row.published, row.quantity),
            _engineering(row.computed, row.quantity),
            f"{row.ratio:.3f}",
            _engineering(row.complete_macs, "macs") if row.complete_macs else "",
            str(conventions.index(row.convention) + 1),
            row.note,
        )
    console(stderr=False).print(table)
    print(f"{len(rows)} published figures, {len(rows) - len(explained)} of them unexplained. Conventions:")
    for number, convention in enumerate(conventions, 1):
        print(f"  {number} {convention}")


def _engineering(value: float, quantity: Quantity) -> str:
    if quantity == "reduction":
        return f"{100 * value:.1f} %"
    return f"{value / 1e9:.2f}G" if value >= 1e9 else f"{value / 1e6:.2f}M"


def _print_histogram(names: tuple[str, ...], histogram: Any) -> None:
    for split, counts in histogram.items():
        total = max(sum(counts), 1)
        shares = "  ".join(
            f"{name} {100 * count / total:.1f}%" for name, count in zip(names, counts, strict=True)
        )
        print(f"  {split}: {shares}")


def print_shards(shards: ShardSet, json_: bool) -> None:
    """What was prepared, with the share of each class."""
    document = {
        "path": str(shards.path),
        "counts": dict(shards.counts),
        "class_names": list(shards.info.class_names),
        "class_histogram": {split: list(counts) for split, counts in shards.class_histogram.items()},
        "digest": shards.digest,
    }
    if json_:
        print_json(document)
        return
    counts = ", ".join(f"{count} {split}" for split, count in shards.counts.items())
    print(f"{shards.path}: {counts} images, {shards.info.num_classes} classes")
    _print_histogram(shards.info.class_names, shards.class_histogram)
