"""What a comparison of searches found, as plain records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segsweep.pareto.leads import Lead
from segsweep.pareto.statistics import SeedTest
from segsweep.records import Evaluation, Objective

Surface = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class SearchRun:
    """One sweep."""

    sweep_id: str
    seed: int
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Sweeps that differ only in their seed, compared as one.

    Attributes:
        label: Short name, unique in the comparison.
        method: Method that was searched.
        runs: One per sweep.
    """

    label: str
    method: str
    runs: tuple[SearchRun, ...]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trial on a front, with the sweep that it belongs to."""

    label: str
    sweep_id: str
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What one contender reached.

    Attributes:
        label: The contender.
        trials: Complete trials of all runs that have every objective.
        hypervolumes: One per run that took part, at the common reference.
        best: Best first objective per run that has a complete trial.
        front: Non-dominated trials of all runs together.
        on_united_front: How many of them no other contender dominates.
        knees: Where the front bends.
        surface: With two objectives, what at least half of the runs reach: corners ``(second, first)``, that
            is (cost, what it buys), in stored units; with one run its front.
        reached_once: The same of what any run reaches; empty with one run.
        reached_always: The same of what every run reaches; empty with one run.
    """

    label: str
    trials: tuple[Member, ...]
    hypervolumes: tuple[float, ...]
    best: tuple[float, ...]
    front: tuple[Member, ...]
    on_united_front: int
    knees: tuple[Member, ...]
    surface: Surface = ()
    reached_once: Surface = ()
    reached_always: Surface = ()

    @property
    def hypervolume(self) -> float:
        """Median over the runs."""
        return float(np.median(self.hypervolumes))


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two contenders; every indicator is the median over all pairs of their runs.

    Attributes:
        first: Label.
        second: Label.
        hypervolume_ratio: First over second; ``None`` if the second has no volume at the reference.
        coverage: Share of the second front that the first equals or dominates, and the other way round.
        epsilon: Additive epsilon both ways, in ranges of all contenders' fronts.
        factor: Multiplicative epsilon both ways; ``None`` if a value is not positive.
        hypervolume_test: Over the runs; ``None`` unless both have two or more.
        best_test: The same of the best first objective.
    """

    first: str
    second: str
    hypervolume_ratio: float | None
    coverage: tuple[float, float]
    epsilon: tuple[float, float]
    factor: tuple[float, float] | None
    hypervolume_test: SeedTest | None
    best_test: SeedTest | None


@dataclass(frozen=True, kw_only=True)
class FrontComparison:
    """Contenders compared in one space of objectives.

    Attributes:
        objectives: The first is what a cost buys.
        conditions: Under what its speeds were measured; empty if it has none or all are alike.
        reference: Corner of the hypervolumes by metric.
        standings: Those who have a complete trial here.
        absent: Labels of the others.
        united_hypervolume: Of all contenders together.
        pairings: Every two standings.
        leads: With two objectives, who is ahead at which budget; ``leader`` counts ``standings``.
    """

    objectives: tuple[Objective, ...]
    reference: dict[str, float]
    standings: tuple[Standing, ...]
    united_hypervolume: float
    conditions: str = ""
    absent: tuple[str, ...] = ()
    pairings: tuple[Pairing, ...] = ()
    leads: tuple[Lead, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Searches compared on every axis that they share.

    Attributes:
        contenders: In the order given.
        panels: One per cost (and per device where speeds were measured on several), each with its own 2-D
            fronts.
        joint: All objectives together; ``None`` if there is one cost only.
        conditions: What the figures hold for, as (name, value) in words.
        notes: What a reader must know before trusting a difference.
    """

    contenders: tuple[Contender, ...]
    panels: tuple[FrontComparison, ...]
    joint: FrontComparison | None
    conditions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def spaces(self) -> Iterator[FrontComparison]:
        """All panels, then the joint space."""
        yield from self.panels
        if self.joint is not None:
            yield self.joint

    @property
    def headline(self) -> FrontComparison:
        """The space whose hypervolume stands for the whole: the joint one, else the first panel."""
        return self.joint or self.panels[0]
