"""What a sweep needs from a search strategy: who proposes points, and who stops trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from segsweep.records import Point, TrialStatus


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A point to try.

    Attributes:
        number: Order of asking, from 0.
        point: The axis values.
        source: ``"seed:<name>"`` for a published point, ``"sampler"`` or ``"random"`` else.
    """

    number: int
    point: Point
    source: str


class Suggester(Protocol):
    """Proposes points and learns from what became of them."""

    def ask(self) -> Suggestion:
        """A point that was never asked before.

        Raises:
            SpaceExhausted: If there is none left.
        """
        ...

    def tell(self, number: int, *, status: TrialStatus, values: Mapping[str, float] | None) -> None:
        """How suggestion ``number`` ended; ``values`` by metric where it is complete."""
        ...


class PromotionRule(Protocol):
    """Decides at a rung whether a trial goes on."""

    @property
    def rungs(self) -> tuple[float, ...]:
        """Fidelities in (0, 1) at which it decides, rising."""
        ...

    def decide(self, trial_id: str, fidelity: float, values: Mapping[str, float]) -> bool:
        """Whether the trial goes on, given its objectives at this rung."""
        ...
