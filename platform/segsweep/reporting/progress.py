"""Live progress of a sweep in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from segsweep.records import CostReport, Evaluation, Score, TrialStatus

_STYLES = {
    TrialStatus.COMPLETE: "green",
    TrialStatus.STOPPED: "yellow",
    TrialStatus.FAILED: "bold red",
    TrialStatus.INFEASIBLE: "dim",
}


class SweepProgress:
    """Listener that keeps one bar for the sweep, one line per running trial, and prints each end.

    Args:
        console: Where to write; not a terminal gets one line per finished trial and no bars.
        trials: Trials that the sweep will train.
        epochs: Full schedule of a trial.
    """

    def __init__(self, console: Console, *, trials: int, epochs: int) -> None:
        self._console, self._epochs = console, epochs
        self._bars = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),  # last: a narrow terminal cuts the point, not the progress
            console=console,
            refresh_per_second=2,  # drawing takes CPU from the trials beside it
            disable=not console.is_terminal,
            transient=True,
        )
        self._sweep = self._bars.add_task("trials", total=trials)
        self._tasks: dict[int, int] = {}

    def __enter__(self) -> SweepProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def trial_started(self, stub: Evaluation) -> None:
        """Show the trial with its point."""
        axes = escape(
            " ".join(f"{axis.split('.')[-1]}={_short(value)}" for axis, value in stub.point.items())
        )
        self._tasks[stub.number] = int(
            self._bars.add_task(f"  {stub.number:>3} [dim]{axes}[/]", total=self._epochs)
        )

    def trial_cost(self, stub: Evaluation, cost: CostReport) -> None:
        """Costs are printed when the trial ends."""

    def trial_score(self, stub: Evaluation, score: Score) -> None:
        """Move the trial's bar."""
        task = self._tasks[stub.number]
        self._bars.update(task, completed=score.epoch)  # type: ignore[arg-type]

    def trial_finished(self, evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> None:
        """Print how the trial ended and drop its bar."""
        task = self._tasks.pop(evaluation.number)
        self._bars.remove_task(task)  # type: ignore[arg-type]
        if evaluation.status is not TrialStatus.INFEASIBLE:
            self._bars.advance(self._sweep)
        self._console.print(_line(evaluation), highlight=False, soft_wrap=True)


def _line(item: Evaluation) -> str:
    style = _STYLES[item.status]
    parts = [f"[{style}]{item.number:>3} {item.status:<10}[/]"]
    if item.scores:
        parts.append(f"mIoU {100 * item.scores[-1].miou:5.1f} % after {item.scores[-1].epoch} epochs")
    if item.cost is not None:
        parts.append(f"{item.cost.macs / 1e9:6.3f} GMACs")
        if item.cost.images_per_second is not None:
            parts.append(f"{item.cost.images_per_second:6.1f} images/s")
    if item.status in {TrialStatus.FAILED, TrialStatus.INFEASIBLE}:
        parts.append(f"[{style}]{escape(item.reason)}[/]")  # a reason may hold brackets
    return "  ".join(parts)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
