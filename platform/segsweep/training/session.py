"""What training code may ask of the world around it: rank, world size, report.

Method code never imports Ray. The plain session below serves notebooks and tests; the back ends for
trials in a forked child and for Ray Train live in ``segsweep.distributed``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from segsweep.records import CostReport, Score

SaveCheckpoint = Callable[[Path], None]  # writes the training state to a file


class Session(Protocol):
    """The seam between training code and what runs it."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """Number of workers that train one model together."""
        ...

    def cost(self, report: CostReport) -> None:
        """Record the cost; called before the first training step."""

    def report(self, score: Score, save: SaveCheckpoint) -> bool:
        """Record a validation; returns whether to train on. ``save`` writes a checkpoint on demand."""

    def computing(self) -> AbstractContextManager[None]:
        """Held during each piece of work, so that a speed measurement can have the machine alone."""

    def mark(self, name: str) -> None:
        """Note the time of an event (``first_step``, ``last_step``) for overhead figures."""


class PlainSession:
    """One process, nothing around it: keeps what it was told."""

    rank = 0
    world_size = 1

    def __init__(self, *, save_to: Path | None = None) -> None:
        self.scores: list[Score] = []
        self.costs: list[CostReport] = []
        self._save_to = save_to

    def cost(self, report: CostReport) -> None:
        """Keep the cost report."""
        self.costs.append(report)

    def report(self, score: Score, save: SaveCheckpoint) -> bool:
        """Keep the score, write the checkpoint if a path was given, and go on."""
        self.scores.append(score)
        if self._save_to is not None:
            save(self._save_to)
        return True

    def computing(self) -> AbstractContextManager[None]:
        """Nothing to wait for."""
        return nullcontext()

    def mark(self, name: str) -> None:
        """Nobody asks for times here."""
