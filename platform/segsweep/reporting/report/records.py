"""What the report needs to know of a sweep; a sweep opened from disk has it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from segsweep.records import Evaluation, Objective


class Conditions(Protocol):
    """Under what a sweep's figures were taken."""

    @property
    def data(self) -> str:
        """Name of the data set."""

    @property
    def data_digest(self) -> str:
        """Digest of the prepared data; empty if it was not recorded."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""

    @property
    def num_classes(self) -> int:
        """Classes of the head."""

    @property
    def epochs(self) -> int:
        """Full schedule."""

    @property
    def seed(self) -> int:
        """Seed of sampler, initial weights and data order."""

    @property
    def device(self) -> str:
        """Device card that measured the speeds; empty without speeds."""

    @property
    def threads(self) -> int:
        """Torch threads of the speed measurement; 0 if not recorded."""

    @property
    def speed(self) -> Mapping[str, Any] | None:
        """Settings of the speed measurement; ``None`` if no speed was measured."""


class Sweep(Protocol):
    """A sweep as the report reads it."""

    @property
    def sweep_id(self) -> str:
        """Unique name."""

    @property
    def method(self) -> str:
        """Method that was searched."""

    @property
    def objectives(self) -> Sequence[Objective]:
        """What was optimised; the first is on the y axes."""

    @property
    def reference(self) -> Mapping[str, float]:
        """Corner of the hypervolume by metric; may be empty."""

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """Trials that ended, of any status."""

    @property
    def axes(self) -> Sequence[str]:
        """Names of the design axes in the order of the space."""

    @property
    def conditions(self) -> Conditions:
        """What the figures hold for."""

    @property
    def job(self) -> Mapping[str, Any]:
        """The job as JSON values; may be empty."""

    @property
    def interrupted(self) -> bool:
        """Whether it ended before its budget."""


@dataclass(frozen=True, kw_only=True)
class RecordedConditions:
    """Conditions as plain values, for sweeps that do not come from a folder."""

    data: str
    size: tuple[int, int]
    num_classes: int
    epochs: int
    data_digest: str = ""
    seed: int = 0
    device: str = ""
    threads: int = 0
    speed: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class RecordedSweep:
    """A sweep as plain values, for evaluations that do not come from a folder."""

    sweep_id: str
    method: str
    objectives: tuple[Objective, ...]
    evaluations: tuple[Evaluation, ...]
    conditions: RecordedConditions
    axes: tuple[str, ...] = ()
    reference: dict[str, float] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
