"""Who proposes points: Optuna behind ask and tell. The only module that knows Optuna.

All conversions between a sweep's words and Optuna's are here, each checked by running Optuna 5.0:

- A complete trial is told with its values, costs as log10. Dominance sees only their order; where TPE breaks
  ties by hypervolume, plain MACs would let the dearest designs decide.
- A stopped or failed trial is told as PRUNED without a value: TPE counts it among the bad ones, unless nearly
  none is complete, and NSGA-II leaves it out. So a low-fidelity mIoU never poses as a final one. A failed
  trial is not told as FAIL, which TPE does not see at all: it then proposed designs that always fail 1.2 to
  1.9 times as often as random search, here half as often.
- An infeasible trial is told as PRUNED with a positive constraint, which TPE ranks last of all.
- A proposal that is not passed on (known, or against a constraint on axes) is told as FAIL.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from segsweep.records import DEFAULT_OBJECTIVES, AxisValue, Objective, Point, TrialStatus
from segsweep.search.axes import Axis, ChoiceAxis, FloatAxis, IntAxis
from segsweep.search.draw import SpaceExhausted, draw_unseen, random_points
from segsweep.search.scale import comparable_values
from segsweep.search.space import SearchSpace
from segsweep.search.strategy import Suggestion

__all__ = ["SAMPLERS", "SpaceExhausted", "Study", "Suggestion", "random_points"]

SAMPLERS = ("tpe", "nsga2", "random")
MAX_REASKS = 20  # proposals of known or forbidden points before an unseen one is drawn at random
NSGA2_POPULATION = 20  # trials of a generation; Optuna's 50 would be random search in most sweeps
_OPTUNA_STATES = {
    TrialStatus.COMPLETE: TrialState.COMPLETE,
    TrialStatus.STOPPED: TrialState.PRUNED,
    TrialStatus.INFEASIBLE: TrialState.PRUNED,
    TrialStatus.FAILED: TrialState.PRUNED,
}


class Study:
    """Proposes points of a space, published ones first, and learns from what became of them.

    The same seed and the same sequence of ``ask`` and ``tell`` give the same points, in any process.

    Args:
        space: The search space.
        objectives: What is optimised; at least one.
        seed: Seed of every random choice.
        sampler: ``"tpe"`` (multivariate, knows of running trials), ``"nsga2"`` or ``"random"``.
        use_seeds: Whether the published points come first.
    Raises:
        ValueError: If the sampler is unknown or there is no objective.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        objectives: Sequence[Objective] = DEFAULT_OBJECTIVES,
        seed: int,
        sampler: str = "tpe",
        use_seeds: bool = True,
    ) -> None:
        if not objectives:
            raise ValueError("a study needs at least one objective")
        self.space = space
        self.objectives = tuple(objectives)
        self._rng = random.Random(seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(
            sampler=_make_sampler(sampler, seed), directions=[objective.direction for objective in objectives]
        )
        self._seeds = (
            [(seed.name, space.check_point(seed.point)) for seed in space.seeds] if use_seeds else []
        )
        self._seen: set[str] = set()
        self._running: dict[int, Trial] = {}
        self._asked = 0

    def ask(self) -> Suggestion:
        """A point that was never asked before and meets the constraints on axes.

        Raises:
            SpaceExhausted: If there is none left.
        """
        trial, point, source = self._next_seed() or self._proposed() or self._drawn()
        number = self._asked
        self._asked += 1
        self._seen.add(point.key)
        self._running[number] = trial
        return Suggestion(number=number, point=point, source=source)

    def tell(self, number: int, *, status: TrialStatus, values: Mapping[str, float] | None) -> None:
        """How a suggestion ended.

        Args:
            number: ``Suggestion.number``.
            status: Only ``COMPLETE`` counts with its values.
            values: Final value of every objective by metric, where complete; else not looked at.
        Raises:
            ValueError: If the number is not running, or a complete trial lacks an objective or has one that
                is not finite. The suggestion is then still running.
        """
        if number not in self._running:
            raise ValueError(f"suggestion {number} is not running; running: {sorted(self._running)}")
        losses = comparable_values(self.objectives, values or {}) if status is TrialStatus.COMPLETE else None
        trial = self._running.pop(number)
        if status is TrialStatus.INFEASIBLE:
            trial.set_constraint("infeasible", 1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.tell(trial, losses, state=_OPTUNA_STATES[status])

    def _next_seed(self) -> tuple[Trial, Point, str] | None:
        while self._seeds:
            name, point = self._seeds.pop(0)
            if self._is_new(point):
                return self._enqueued(point), point, f"seed:{name}"
        return None

    def _proposed(self) -> tuple[Trial, Point, str] | None:
        for _ in range(MAX_REASKS):
            trial = self._ask_optuna()
            point = self._suggest(trial)
            if self._is_new(point):
                return trial, point, "sampler"
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _drawn(self) -> tuple[Trial, Point, str]:
        point = draw_unseen(self.space, self._seen, self._rng)
        return self._enqueued(point), point, "random"

    def _is_new(self, point: Point) -> bool:
        return point.key not in self._seen and not self.space.violated(point, None)

    def _enqueued(self, point: Point) -> Trial:
        self._study.enqueue_trial(point.as_dict())
        trial = self._ask_optuna()
        self._suggest(trial)
        return trial

    def _ask_optuna(self) -> Trial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._study.ask()

    def _suggest(self, trial: Trial) -> Point:
        values: dict[str, AxisValue] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for axis in self.space.axes:
                if axis.is_active(values):
                    values[axis.name] = _suggest_value(trial, axis)
        return self.space.check_point(values)


def _make_sampler(name: str, seed: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `group` is marked experimental
        match name:
            case "tpe":
                # group: axes that exist only together are modelled apart, else one condition would
                # reduce the joint model to the axes that every trial has.
                return optuna.samplers.TPESampler(
                    seed=seed, multivariate=True, group=True, constant_liar=True
                )
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=NSGA2_POPULATION)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
    raise ValueError(f"unknown sampler {name!r}; allowed: {', '.join(SAMPLERS)}")


def _suggest_value(trial: Trial, axis: Axis) -> AxisValue:
    match axis:
        case ChoiceAxis(choices=choices):
            value: AxisValue = trial.suggest_categorical(axis.name, choices)
        case IntAxis(low=low, high=high, step=step, log=log):
            value = trial.suggest_int(axis.name, low, high, step=step, log=log)
        case FloatAxis(low=low, high=high, step=step, log=log):
            value = trial.suggest_float(axis.name, low, high, step=step, log=log)
        case _:
            raise AssertionError(f"no distribution for {type(axis).__name__}")
    return value
