"""Keeps the networks of a sweep's front on disk and removes those that became dominated.

A trial writes its network before it reports its end, so the file of a finished trial is always there. Files
are only removed after the end of their trial is in the journal: after a crash there may be too many, which
the next start of the sweep removes, and never too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from segsweep.pareto.front import front_of
from segsweep.records import CostReport, Evaluation, Objective, Score
from segsweep.training.model_file import MODELS, SUFFIX, model_path


class ModelKeeper:
    """A ``SweepListener``.

    Args:
        folder: The sweep's folder; networks lie in its folder ``models``.
        objectives: Of the sweep: they decide what stands on the front.
    """

    def __init__(self, folder: Path, objectives: Sequence[Objective]) -> None:
        self._folder, self._objectives = folder, tuple(objectives)
        self._front: list[Evaluation] = []

    def tidy(self, evaluations: Sequence[Evaluation]) -> None:
        """Remove everything but the networks of the front; only while no trial runs."""
        self._front = front_of(evaluations, self._objectives)
        kept = {model_path(self._folder, item.trial_id) for item in self._front}
        for path in (self._folder / MODELS).glob(f"*{SUFFIX}*"):  # also what a killed writer left
            if path not in kept:
                _remove(path)

    def trial_started(self, stub: Evaluation) -> None:
        """Nothing is there yet."""

    def trial_cost(self, stub: Evaluation, cost: CostReport) -> None:
        """A cost alone puts nothing on the front."""

    def trial_score(self, stub: Evaluation, score: Score) -> None:
        """Only complete trials are kept."""

    def trial_finished(self, evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> None:
        """Keep the new network if it is on the front, and drop those that it dominates."""
        if evaluation.miou is None:
            return
        # What was dominated before stays so: the front and the new trial decide alone.
        candidates = [*self._front, evaluation]
        self._front = front_of(candidates, self._objectives)
        on_front = {item.trial_id for item in self._front}
        for item in candidates:
            if item.trial_id not in on_front:
                _remove(model_path(self._folder, item.trial_id))


def _remove(path: Path) -> None:
    with suppress(OSError):  # a file too many does no harm
        path.unlink(missing_ok=True)
