"""The axes of a search space: what values a design choice may take, and when it exists at all."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import override

from segsweep.records import AxisValue

Kind = Literal["number", "text", "truth"]


def kind_of(value: AxisValue) -> Kind:
    """What a value may be compared with; a bool is no number."""
    if isinstance(value, bool):
        return "truth"
    return "text" if isinstance(value, str) else "number"


def same(left: AxisValue, right: AxisValue) -> bool:
    """Equality that tells ``True`` from ``1``."""
    return kind_of(left) == kind_of(right) and left == right


@dataclass(frozen=True, kw_only=True)
class Axis(ABC):
    """One design choice.

    Attributes:
        name: Dotted path into the method's config, for example ``"neck.top_level"``.
        when: Axis name -> values; the axis exists only where each named axis has one of its values.
    """

    name: str
    when: Mapping[str, tuple[AxisValue, ...]]

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What its values are."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """Its values in words, for messages."""

    @abstractmethod
    def values(self) -> tuple[AxisValue, ...] | None:
        """All values in order, or ``None`` if it is continuous."""

    @abstractmethod
    def match(self, value: object) -> AxisValue | None:
        """The axis' own spelling of ``value`` (a float axis: ``1`` to ``1.0``); ``None`` if outside."""

    @abstractmethod
    def draw(self, rng: random.Random) -> AxisValue:
        """A value at random: uniform, or log-uniform on a ``log`` axis."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What defines the axis, without its name."""

    def is_active(self, values: Mapping[str, AxisValue]) -> bool:
        """Whether the axis exists beside ``values`` of the axes above it."""
        return all(
            axis in values and any(same(values[axis], allowed) for allowed in choices)
            for axis, choices in self.when.items()
        )

    def _when_json(self) -> dict[str, Any]:
        return {"when": {axis: list(values) for axis, values in self.when.items()}} if self.when else {}


@dataclass(frozen=True, kw_only=True)
class ChoiceAxis(Axis):
    """One of a list of values."""

    choices: tuple[AxisValue, ...]

    @property
    @override
    def kind(self) -> Kind:
        return kind_of(self.choices[0])

    @property
    @override
    def allowed(self) -> str:
        return "one of " + ", ".join(map(str, self.choices))

    @override
    def values(self) -> tuple[AxisValue, ...]:
        return self.choices

    @override
    def match(self, value: object) -> AxisValue | None:
        if not isinstance(value, (bool, int, float, str)):
            return None
        return next((choice for choice in self.choices if same(choice, value)), None)

    @override
    def draw(self, rng: random.Random) -> AxisValue:
        return rng.choice(self.choices)

    @override
    def to_json(self) -> dict[str, Any]:
        return {"choice": list(self.choices), **self._when_json()}


@dataclass(frozen=True, kw_only=True)
class IntAxis(Axis):
    """Whole numbers ``low, low + step, ... <= high``."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    @property
    @override
    def kind(self) -> Kind:
        return "number"

    @property
    @override
    def allowed(self) -> str:
        return f"whole numbers {self.low}..{self.high}" + (
            f" in steps of {self.step}" if self.step != 1 else ""
        )

    @override
    def values(self) -> tuple[AxisValue, ...]:
        return tuple(range(self.low, self.high + 1, self.step))

    @override
    def match(self, value: object) -> AxisValue | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        fits = self.low <= value <= self.high and (value - self.low) % self.step == 0
        return value if fits else None

    @override
    def draw(self, rng: random.Random) -> AxisValue:
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
            return min(max(round(drawn), self.low), self.high)
        return rng.randrange(self.low, self.high + 1, self.step)

    @override
    def to_json(self) -> dict[str, Any]:
        return {"int": [self.low, self.high], "step": self.step, "log": self.log, **self._when_json()}


@dataclass(frozen=True, kw_only=True)
class FloatAxis(Axis):
    """Real numbers from ``low`` to ``high``, both included; with ``step`` only ``low + i * step``."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    @override
    def kind(self) -> Kind:
        return "number"

    @property
    @override
    def allowed(self) -> str:
        return f"numbers {self.low:g}..{self.high:g}" + (f" in steps of {self.step:g}" if self.step else "")

    @override
    def values(self) -> tuple[AxisValue, ...] | None:
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        # Rounding takes 0.1 + 2 * 0.1 = 0.30000000000000004 back to 0.3, so that equal points are equal.
        return tuple(float(f"{self.low + index * self.step:.12g}") for index in range(count))

    @override
    def match(self, value: object) -> AxisValue | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        values = self.values()
        if values is not None:
            return next((v for v in values if math.isclose(float(v), value, rel_tol=1e-9)), None)
        return float(value) if self.low <= value <= self.high else None

    @override
    def draw(self, rng: random.Random) -> AxisValue:
        values = self.values()
        if values is not None:
            return rng.choice(values)
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = rng.uniform(self.low, self.high)
        return min(max(drawn, self.low), self.high)

    @override
    def to_json(self) -> dict[str, Any]:
        return {"float": [self.low, self.high], "step": self.step, "log": self.log, **self._when_json()}
