"""One trial from point to evaluation: exact cost, gate, training at rising fidelity. No Ray here."""

from __future__ import annotations

import dataclasses
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segsweep.cost.device_card import device_card
from segsweep.cost.machine_lock import MachineLock
from segsweep.cost.measure import SpeedConditions, exact_cost, measure_speed
from segsweep.cost.speed_cache import SpeedCache
from segsweep.data.shards import ShardSet, open_shards
from segsweep.errors import EnvironmentProblem, ImageSizeError, SegsweepError
from segsweep.models.interface import MethodConfig
from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus
from segsweep.search.space import SearchSpace
from segsweep.training.configs import build_configs
from segsweep.training.initial_weights import InitialWeights
from segsweep.training.loop import Schedule, fit
from segsweep.training.model_file import TrialModel, model_path, save_model
from segsweep.training.recipe import Recipe
from segsweep.training.session import SaveCheckpoint, Session

REASON_LENGTH = 1500  # characters kept of an error in an evaluation; the log file has the rest


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What all trials of a sweep share.

    Attributes:
        space: Gives the method and the constraints.
        fixed: Nested values of the method's config that are not searched.
        recipe: Base recipe; axes under ``recipe.`` override it.
        shards: Folder of the prepared data.
        seed: Seeds initial weights, data order and augmentation alike in every trial.
        rung_epochs: Epochs after which the scheduler decides.
        speed: Conditions of the speed measurement; ``None`` measures no speed.
        scratch: Folder on this machine for the machine lock and the speed cache.
        threads: Threads for torch; ``None`` leaves its default.
        use_gpu: Whether the trial was given a GPU.
        models: The sweep's folder if complete trials leave their networks there; ``None``: they leave none.
        weights: Initial weights of all trials; ``None``: random ones. Each trial's log lists what fits.
    """

    space: SearchSpace
    recipe: Recipe
    shards: Path
    scratch: Path
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    rung_epochs: frozenset[int] = frozenset()
    speed: SpeedConditions | None = dataclasses.field(default_factory=SpeedConditions)
    threads: int | None = None
    use_gpu: bool = False
    models: Path | None = None
    weights: InitialWeights | None = None


class OverConstraint(SegsweepError):
    """The design's cost breaks a constraint of the space."""


def evaluate_point(point: Point, task: TrialTask, session: Session, *, stub: Evaluation) -> Evaluation:
    """Run one trial to its end; never raises for what goes wrong inside the trial.

    Args:
        point: The axis values.
        task: What all trials share.
        session: Receives the cost before the first training step, and every score.
        stub: Carries trial id, number and source into the result.

    Returns:
        The evaluation: complete, stopped by the session, failed with its reason, or infeasible.
    """
    started = time.perf_counter()
    recorder = _Recorder(session)
    try:
        status, reason = _run(point, task, recorder, stub=stub), ""
        if status is TrialStatus.STOPPED:
            reason = f"stopped by the scheduler at fidelity {recorder.scores[-1].fidelity:.3g}"
    except (OverConstraint, ImageSizeError) as error:
        status, reason = TrialStatus.INFEASIBLE, str(error)
    except Exception as error:  # a trial fails alone: whatever it raised is its reason
        traceback.print_exc()
        status, reason = TrialStatus.FAILED, _reason(error)
    return dataclasses.replace(
        stub,
        point=point,
        status=status,
        reason=reason[:REASON_LENGTH],
        cost=recorder.latest_cost,
        scores=tuple(recorder.scores),
        seconds=time.perf_counter() - started,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory: {error}; lower recipe.batch_size or constrain cost.macs"
    if isinstance(error, SegsweepError):
        return f"{type(error).__name__}: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {last.name}, {Path(last.filename).name}:{last.lineno})"


class _Recorder:
    """Passes everything on to the session and keeps what the evaluation needs."""

    def __init__(self, session: Session) -> None:
        self.rank, self.world_size = session.rank, session.world_size
        self.computing, self.mark = session.computing, session.mark
        self._session = session
        self.latest_cost: CostReport | None = None
        self.scores: list[Score] = []

    def cost(self, report: CostReport) -> None:
        self.latest_cost = report
        self._session.cost(report)

    def report(self, score: Score, save: SaveCheckpoint) -> bool:
        self.scores.append(score)
        return self._session.report(score, save)


def _run(point: Point, task: TrialTask, session: Session, *, stub: Evaluation) -> TrialStatus:
    """Count, gate, measure, train, keep."""
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    device = training_device(use_gpu=task.use_gpu)
    with session.computing():
        config, recipe = build_configs(task.space.method, point, fixed=task.fixed, recipe=task.recipe)
        shards = open_shards(task.shards)
        num_classes = shards.info.num_classes
        cost = exact_cost(config, num_classes=num_classes, size=training_size(shards))
        session.cost(cost)
        _gate(point, cost, task.space)
        torch.manual_seed(task.seed)
        model = config.build(num_classes)
    if task.speed is not None:
        cost = with_speed(model, config, cost, conditions=task.speed, scratch=task.scratch, device=device)
        session.cost(cost)
        _gate(point, cost, task.space)
        torch.manual_seed(task.seed)  # the same training whether the speed was measured or known
    if task.weights is not None:
        print(task.weights.load(model, config).text())  # a trial prints to its log
    schedule = Schedule(
        shards=shards,
        recipe=recipe,
        criterion=config.criterion,
        targets=config.targets,
        seed=task.seed,
        rung_epochs=task.rung_epochs,
    )
    keeper = None if task.models is None else _Keeper(task.models, stub, config, shards)
    scores = fit(model, schedule, session, device=device, keep=keeper)
    return TrialStatus.COMPLETE if scores[-1].fidelity == 1.0 else TrialStatus.STOPPED


@dataclass(frozen=True)
class _Keeper:
    """Leaves the network of a complete trial in the sweep's folder."""

    folder: Path
    stub: Evaluation
    config: MethodConfig
    shards: ShardSet

    def __call__(self, model: nn.Module) -> None:
        stub = self.stub
        facts = {"trial_id": stub.trial_id, "point": stub.point.as_dict(), "source": stub.source}
        trained = TrialModel(
            model=model,
            config=self.config,
            info=self.shards.info,
            size=training_size(self.shards),
            facts=facts,
        )
        try:
            save_model(model_path(self.folder, stub.trial_id), trained)
        except SegsweepError as error:  # a full disk must not cost a finished training
            print(f"the network was not kept: {error}", file=sys.stderr)


def training_device(*, use_gpu: bool) -> torch.device:
    """The first GPU that this process may see, or the CPU.

    Raises:
        EnvironmentProblem: If a GPU is wanted and torch finds none.
    """
    if use_gpu and not torch.cuda.is_available():
        raise EnvironmentProblem("a GPU was asked for and torch finds none; see `segsweep doctor`")
    return torch.device("cuda" if use_gpu else "cpu")


def training_size(shards: ShardSet) -> tuple[int, int]:
    """Height and width at which a model is costed and validated: the prepared size."""
    if shards.size is None:
        raise SegsweepError(
            f"the prepared data {shards.path} has images of several sizes; cost needs one: "
            f"prepare it with a size"
        )
    return shards.size


def with_speed(
    model: nn.Module,
    config: MethodConfig,
    cost: CostReport,
    *,
    conditions: SpeedConditions,
    scratch: Path,
    device: torch.device,
) -> CostReport:
    """Add measured speed to an exact cost: of trials that share ``scratch`` alone on the machine.

    Args:
        model: The built model; moved to ``device``.
        config: What it was built from: with size, conditions, device and versions the key of the cache.
        cost: Exact cost.
        conditions: Of the measurement.
        scratch: Folder on this machine with lock and cache.
        device: Where to measure.
    """
    card = device_card()
    key = {
        "segsweep": version("segsweep"),
        "method": type(config).__name__,
        "config": config.model_dump(mode="json"),
        "size": list(cost.size),
        "num_classes": cost.num_classes,
        "conditions": conditions.model_dump(mode="json"),
        "card": card.id,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
    cache = SpeedCache(scratch / "speeds")
    speed = cache.get(key)
    if speed is None:
        with MachineLock(scratch).exclusive():
            speed = measure_speed(
                model.to(device=device, memory_format=torch.channels_last),  # type: ignore[call-overload]
                size=cost.size,
                conditions=conditions,
            )
        cache.put(key, speed)
    return dataclasses.replace(
        cost, device=card.id, threads=torch.get_num_threads(), **dataclasses.asdict(speed)
    )


def _gate(point: Point, cost: CostReport, space: SearchSpace) -> None:
    broken = space.violated(point, cost)
    if broken:
        raise OverConstraint(
            "; ".join(
                f"{item.name}: {item.require} does not hold (macs {cost.macs:,}, params {cost.num_params:,}"
                + (f", {cost.images_per_second:.1f} images/s" if cost.images_per_second else "")
                + f"): {item.why}"
                for item in broken
            )
        )
