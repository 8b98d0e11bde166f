"""The waist of the system: what a trial is asked (Point) and what it answers (Evaluation).

Left of an Evaluation nobody knows Pareto, right of it nobody knows Ray. Everything here is plain,
frozen and made of JSON values, so a record can be journalled, replayed and put in an Arrow table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

AxisValue = bool | int | float | str


class Point(Mapping[str, AxisValue]):
    """One choice for every active axis: dotted axis name -> value. Immutable and hashable.

    Two points are equal when their values are, whatever the order of their axes.
    """

    __slots__ = ("_key", "_values")

    def __init__(self, values: Mapping[str, AxisValue]) -> None:
        self._values = dict(values)
        canonical = json.dumps(self._values, sort_keys=True, separators=(",", ":"))
        self._key = hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name the point in files, tags and caches."""
        return self._key

    def __getitem__(self, axis: str) -> AxisValue:
        return self._values[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Point({self._values!r})"

    def as_dict(self) -> dict[str, AxisValue]:
        """The values as a new dict, in the order of the axes."""
        return dict(self._values)


class TrialStatus(StrEnum):
    """How a trial ended. Only ``COMPLETE`` trials reached full fidelity and may stand on a front."""

    COMPLETE = "complete"
    STOPPED = "stopped"  # ended at a rung by the scheduler, at low fidelity
    FAILED = "failed"  # raised, diverged, ran out of memory, or was killed
    INFEASIBLE = "infeasible"  # over a constraint: never trained


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One thing to optimise; ``metric`` is a key of ``Evaluation.metrics()``."""

    metric: str
    direction: Literal["maximize", "minimize"]

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"


SPEED_METRICS = ("images_per_second", "latency_ms_p50", "latency_ms_p90", "latency_ms_p99")
COST_METRICS = ("macs", "flops", "num_params", *SPEED_METRICS)
METRICS = ("miou", *COST_METRICS)  # all that ``Evaluation.metrics`` may have
MORE_IS_BETTER = frozenset({"miou", "images_per_second"})
# Costs span decades: 1 GMAC more is everything for a small design and nothing for a large one.
RATIO_METRICS = frozenset(COST_METRICS)


def objective_of(metric: str) -> Objective:
    """The objective of a metric in its better direction."""
    return Objective(metric=metric, direction="maximize" if metric in MORE_IS_BETTER else "minimize")


DEFAULT_OBJECTIVES = tuple(objective_of(metric) for metric in ("miou", "macs", "images_per_second"))


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """What a model costs: exact counts, and speed where it was measured.

    Attributes:
        num_params: Trainable parameters.
        macs: Multiply-accumulates per image at ``size``, matmuls included (1 MAC = 2 FLOPs).
        size: Height and width of the input in pixels.
        num_classes: Number of classes of the head.
        images_per_second: Batch size over the median latency; ``None`` if not measured.
        latency_ms_p50: Median time of one batch in ms; p90 and p99 likewise.
        batch_size: Images per batch of the latency measurement.
        samples: Number of timed batches behind the percentiles.
        threads: Torch threads of the measurement.
        device: Identity of the device card of the machine that measured.
    """

    num_params: int
    macs: int
    size: tuple[int, int]
    num_classes: int
    images_per_second: float | None = None
    latency_ms_p50: float | None = None
    latency_ms_p90: float | None = None
    latency_ms_p99: float | None = None
    batch_size: int | None = None
    samples: int | None = None
    threads: int | None = None
    device: str | None = None

    @property
    def flops(self) -> int:
        """FLOPs per image: 2 x MACs."""
        return 2 * self.macs

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; ``from_json`` reads them back."""
        return {**dataclasses.asdict(self), "size": list(self.size), "flops": self.flops}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CostReport:
        """The record that ``to_json`` wrote."""
        values = {key: value for key, value in document.items() if key != "flops"}
        return cls(**{**values, "size": tuple(values["size"])})


@dataclass(frozen=True, kw_only=True)
class Score:
    """One validation during training.

    Attributes:
        epoch: Finished epochs.
        fidelity: Share of the full schedule, in (0, 1].
        miou: Validation mIoU in [0, 1] from one confusion matrix over the split.
        train_loss: Mean training loss of the epoch.
        seconds: Wall time of the trial since its first training step.
        is_rung: Whether the scheduler decides here whether the trial goes on.
    """

    epoch: int
    fidelity: float
    miou: float
    train_loss: float
    seconds: float
    is_rung: bool = False

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; ``Score(**values)`` reads them back."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The record of one trial.

    Attributes:
        trial_id: Unique in the sweep, for example ``"0007-1f3a..."`` (number and point key).
        number: Order of asking, from 0.
        point: The axis values.
        status: How it ended.
        reason: Why it was stopped, failed or infeasible; empty when complete.
        source: Who proposed the point: ``"seed:ESeg-S"``, ``"sampler"``.
        cost: Exact cost; ``None`` only if the trial failed before it was counted.
        scores: Validations in order of epoch.
        seconds: Wall time of the trial, waits at rungs included.
    """

    trial_id: str
    number: int
    point: Point
    status: TrialStatus
    reason: str = ""
    source: str = "sampler"
    cost: CostReport | None = None
    scores: tuple[Score, ...] = ()
    seconds: float = 0.0

    @property
    def fidelity(self) -> float:
        """Share of the full schedule that was trained; 0 if none."""
        return self.scores[-1].fidelity if self.scores else 0.0

    @property
    def miou(self) -> float | None:
        """Final mIoU at full fidelity; ``None`` unless the trial is complete."""
        return self.scores[-1].miou if self.status is TrialStatus.COMPLETE else None

    def metrics(self) -> dict[str, float]:
        """Values of a complete trial by metric name; of any other trial only its cost."""
        values: dict[str, float] = {}
        if self.miou is not None:
            values["miou"] = self.miou
        if self.cost is not None:
            values.update(macs=self.cost.macs, flops=self.cost.flops, num_params=self.cost.num_params)
            for name in ("images_per_second", "latency_ms_p50", "latency_ms_p90", "latency_ms_p99"):
                value = getattr(self.cost, name)
                if value is not None:
                    values[name] = value
        return values

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values; ``from_json`` reads them back."""
        return {
            "trial_id": self.trial_id,
            "number": self.number,
            "point": self.point.as_dict(),
            "status": str(self.status),
            "reason": self.reason,
            "source": self.source,
            "cost": self.cost.to_json() if self.cost else None,
            "scores": [score.to_json() for score in self.scores],
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evaluation:
        """The record that ``to_json`` wrote."""
        return cls(
            **{
                **document,
                "point": Point(document["point"]),
                "status": TrialStatus(document["status"]),
                "cost": CostReport.from_json(document["cost"]) if document["cost"] else None,
                "scores": tuple(Score(**score) for score in document["scores"]),
            }
        )
