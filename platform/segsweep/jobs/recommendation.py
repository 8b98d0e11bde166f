"""What ``segsweep recommend`` answers: records and their JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from segsweep.jobs.finished_sweep import FinishedSweep
from segsweep.records import AxisValue, Evaluation
from segsweep.tracking.registry import RegisteredModel

KNEE = "knee"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A complete trial of one of the sweeps.

    Attributes:
        sweep: Where it was trained.
        evaluation: Its record.
        on_front: Whether no other trial of its sweep dominates it: only then its weights may be at hand.
    """

    sweep: FinishedSweep
    evaluation: Evaluation
    on_front: bool

    @property
    def trial_id(self) -> str:
        """Its id in the sweep."""
        return self.evaluation.trial_id

    @property
    def metrics(self) -> dict[str, float]:
        """Its metrics by name; mIoU in [0, 1]."""
        return self.evaluation.metrics()

    @property
    def miou(self) -> float:
        """Its validation mIoU in [0, 1]."""
        return self.metrics["miou"]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "sweep_id": self.sweep.sweep_id,
            "trial_id": self.trial_id,
            "method": self.sweep.method,
            "source": self.evaluation.source,
            "point": self.evaluation.point.as_dict(),
            "metrics": self.metrics,
            "on_front": self.on_front,
        }


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a model's mIoU lies with 95 % confidence.

    Attributes:
        low: Lower end, in [0, 1]; ``high`` likewise.
        over: What was varied: the validation images (bootstrap) or the training seeds (Student's t).
        count: Number of those.
    """

    low: float
    high: float
    over: Literal["images", "seeds"]
    count: int

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"low": self.low, "high": self.high, "level": 0.95, "over": self.over, "count": self.count}


@dataclass(frozen=True, kw_only=True)
class RunnerUp:
    """The second choice.

    Attributes:
        candidate: The trial.
        miou_difference: mIoU of the chosen one minus that of this one.
        interval: 95 % interval of that difference over the same resampled images; ``None`` without counts.
        share_better: Share of the resampled splits on which the chosen one has the higher mIoU.
    """

    candidate: Candidate
    miou_difference: float
    interval: Interval | None = None
    share_better: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **self.candidate.to_json(),
            "miou_difference": self.miou_difference,
            "difference_interval": self.interval.to_json() if self.interval else None,
            "share_better": self.share_better,
        }


@dataclass(frozen=True, kw_only=True)
class StepUp:
    """The next member of the front in the direction of more cost.

    Attributes:
        metric: The cost that grows (images per second fall).
        candidate: The trial.
        factor: Its cost over that of the chosen one; for images per second the other way round.
        miou_gain: What that buys.
        breaks: Conditions of the user that it does not meet.
    """

    metric: str
    candidate: Candidate
    factor: float
    miou_gain: float
    breaks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **self.candidate.to_json(),
            "cost_metric": self.metric,
            "cost_factor": self.factor,
            "miou_gain": self.miou_gain,
            "breaks": list(self.breaks),
        }


@dataclass(frozen=True, kw_only=True)
class Miss:
    """A trial that comes near the conditions.

    Attributes:
        candidate: The trial.
        broken: Each condition that it does not meet, with the values that it has of the names in it.
    """

    candidate: Candidate
    broken: tuple[tuple[str, dict[str, AxisValue | None]], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        broken = [{"condition": text, "values": values} for text, values in self.broken]
        return {**self.candidate.to_json(), "broken": broken}


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer.

    Attributes:
        sweeps: The sweeps that were asked.
        objective: What the choice is best in: a metric, or ``knee``.
        conditions: The user's, as written.
        complete: Complete trials; ``satisfying``: those that meet all conditions.
        chosen: The model to take; ``None`` if none satisfies.
        roles: What the chosen one is among all complete trials: ``knee``, ``max-miou``, ``min-macs``, ...
        interval: Of its mIoU; ``None``: see ``interval_note``.
        seeds: Interval over training seeds, where sweeps with other seeds trained the same point.
        interval_note: Why there is no interval.
        runner_up: Second choice; ``None`` if only one trial satisfies.
        step_up: What one more step in cost would buy; ``None``: nothing, see ``step_note``.
        step_note: Why not.
        misses: If none satisfies, the trials that come nearest, the nearest first.
        notes: What else a reader must know.
        registered: Where the model was registered, if that was asked for.
    """

    sweeps: tuple[FinishedSweep, ...]
    objective: str
    conditions: tuple[str, ...]
    complete: int
    satisfying: int
    chosen: Candidate | None = None
    roles: tuple[str, ...] = ()
    interval: Interval | None = None
    seeds: Interval | None = None
    interval_note: str = ""
    runner_up: RunnerUp | None = None
    step_up: StepUp | None = None
    step_note: str = ""
    misses: tuple[Miss, ...] = ()
    notes: tuple[str, ...] = ()
    registered: RegisteredModel | None = field(default=None)

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "sweeps": [sweep.sweep_id for sweep in self.sweeps],
            "objective": self.objective,
            "where": list(self.conditions),
            "complete": self.complete,
            "satisfying": self.satisfying,
            "chosen": self.chosen.to_json() if self.chosen else None,
            "roles": list(self.roles),
            "interval": self.interval.to_json() if self.interval else None,
            "seed_interval": self.seeds.to_json() if self.seeds else None,
            "interval_note": self.interval_note,
            "runner_up": self.runner_up.to_json() if self.runner_up else None,
            "step_up": self.step_up.to_json() if self.step_up else None,
            "step_note": self.step_note,
            "nearest_misses": [miss.to_json() for miss in self.misses],
            "notes": list(self.notes),
            "registered": self.registered.to_json() if self.registered else None,
        }
