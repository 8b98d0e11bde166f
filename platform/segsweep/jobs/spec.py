"""What a user writes in a job file, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segsweep.cost.measure import SpeedConditions
from segsweep.jobs.folders import OUT
from segsweep.records import DEFAULT_OBJECTIVES, Objective
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.recipe import Recipe

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Size = tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(_Written):
    """Which data, where it lies, and the size at which it is prepared once.

    Attributes:
        source: Key of ``DATASETS``.
        root: The data set's folder, relative to the job file; sources without files need none.
        size: Height and width in pixels to which images and labels are resized when prepared.
        options: Settings of the source, for example ``{train: 64}`` of ``synthetic``.
    """

    source: str
    root: Path | None = None
    size: Size | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class ObjectiveSettings(_Written):
    """One objective of a sweep."""

    metric: Literal[
        "miou",
        "macs",
        "num_params",
        "images_per_second",
        "latency_ms_p50",
        "latency_ms_p90",
        "latency_ms_p99",
    ]
    direction: Literal["maximize", "minimize"]


class ConstraintSettings(_Written):
    """A constraint added to those of the space."""

    name: str
    require: str
    why: str


class SweepSettings(_Written):
    """How points are proposed, stopped and scheduled.

    Attributes:
        trials: Trials to train; infeasible proposals do not count.
        rungs: Epochs after which trials may be stopped, rising, below ``recipe.epochs``.
        eta: One trial in ``eta`` goes on at a rung.
        workers: Trials at the same time.
        cpus_per_trial: CPUs of one trial, also its torch threads; default: all cores / workers.
        gpus_per_trial: GPUs of one trial; may be a fraction; default: one where there are any.
        max_minutes: After this no new trial begins.
        keep_models: Trials whose trained networks stay in the sweep's folder: those of the front, or none.
        reference: Corner of the hypervolume by metric; give the costs if sweeps are to be compared.
    """

    trials: int = Field(ge=1)
    seed: int = 0
    sampler: Literal["tpe", "nsga2", "random"] = "tpe"
    use_seeds: bool = True
    rungs: tuple[Annotated[int, Field(ge=1)], ...] = ()
    eta: float = Field(default=3.0, gt=1)
    workers: int = Field(default=1, ge=1)
    cpus_per_trial: int | None = Field(default=None, ge=1)
    gpus_per_trial: float | None = Field(default=None, ge=0)
    max_infeasible: int = Field(default=200, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    keep_models: Literal["front", "none"] = "front"
    objectives: tuple[ObjectiveSettings, ...] = Field(
        default=tuple(ObjectiveSettings(metric=o.metric, direction=o.direction) for o in DEFAULT_OBJECTIVES),
        min_length=2,
        max_length=4,
    )

    reference: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rungs_rise(self) -> SweepSettings:
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs {list(self.rungs)} must rise without repeats, for example [2, 6]")
        return self

    def objective_records(self) -> tuple[Objective, ...]:
        """The objectives as records."""
        return tuple(Objective(metric=o.metric, direction=o.direction) for o in self.objectives)


class TrackingSettings(_Written):
    """Where MLflow records go; by default an SQLite file in the job's ``out`` folder."""

    uri: str | None = None
    experiment: str | None = None


class SweepTrackingSettings(TrackingSettings):
    """What a sweep records besides.

    Attributes:
        baselines: Whether published figures of the method are shown, marked as not measured here.
    """

    baselines: bool = True


class ScalingSettings(_Written):
    """Workers that train one model together."""

    workers: int = Field(default=1, ge=1)
    cpus_per_worker: int = Field(default=1, ge=1)
    gpus_per_worker: float | None = Field(default=None, ge=0)
    max_failures: int = Field(default=2, ge=0)


class _Job(_Written):
    name: Name
    data: DataSettings
    out: Path = OUT


class WeightsSettings(_Written):
    """Initial weights from a file; a bare path means all of it.

    Attributes:
        path: Weights of timm, of an official release, or a checkpoint of segsweep; relative to the job file.
            ``{backbone.name}`` in it stands for the name of the design's backbone.
        part: ``all``: whatever fits; ``backbone``: only the backbone.
    """

    path: Path
    part: Literal["all", "backbone"] = "all"

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value


class PseudoLabelsSettings(_Written):
    """Images with the labels of a teacher that join the labelled training images.

    Attributes:
        shards: Folder that a ``kind: pseudo_labels`` job made, relative to the job file.
        share: Of each batch (ESeg: half of it).
    """

    shards: Path
    share: float = Field(default=0.5, gt=0, lt=1)


class SweepJob(_Job):
    """A search over a space (``kind: sweep``)."""

    kind: Literal["sweep"] = "sweep"
    space: str
    fixed: dict[str, Any] = Field(default_factory=dict)
    weights: WeightsSettings | None = None
    recipe: Recipe = Field(default_factory=Recipe)
    sweep: SweepSettings
    speed: SpeedConditions | None = Field(default_factory=SpeedConditions)
    constraints: tuple[ConstraintSettings, ...] = ()
    tracking: SweepTrackingSettings = Field(default_factory=SweepTrackingSettings)

    @model_validator(mode="after")
    def _reference_is_of_objectives(self) -> SweepJob:
        metrics = [objective.metric for objective in self.sweep.objectives]
        unknown = sorted(set(self.sweep.reference) - set(metrics))
        if unknown:
            raise ValueError(f"sweep.reference names {unknown}, allowed are the objectives {metrics}")
        return self

    @model_validator(mode="after")
    def _schedule_is_in_epochs(self) -> SweepJob:
        if self.recipe.iterations is not None:
            raise ValueError(
                f"recipe.iterations = {self.recipe.iterations}: a sweep compares its trials after equal "
                f"epochs; set recipe.epochs instead"
            )
        return self

    @model_validator(mode="after")
    def _rungs_before_the_end(self) -> SweepJob:
        late = [epoch for epoch in self.sweep.rungs if epoch >= self.recipe.epochs]
        if late:
            raise ValueError(f"sweep.rungs {late} must lie below recipe.epochs = {self.recipe.epochs}")
        needs_speed = {"images_per_second", "latency_ms_p50", "latency_ms_p90", "latency_ms_p99"}
        wanted = [o.metric for o in self.sweep.objectives if o.metric in needs_speed]
        if wanted and self.speed is None:
            raise ValueError(f"objectives {wanted} need `speed:` conditions; remove `speed: null`")
        return self


class TrainJob(_Job):
    """The full training of one point (``kind: train``)."""

    kind: Literal["train"] = "train"
    method: str
    preset: str | None = None
    point: dict[str, bool | int | float | str] = Field(default_factory=dict)
    weights: WeightsSettings | None = None
    pseudo_labels: PseudoLabelsSettings | None = None
    recipe: Recipe = Field(default_factory=Recipe)
    seed: int = 0
    speed: SpeedConditions | None = Field(default_factory=SpeedConditions)
    scaling: ScalingSettings = Field(default_factory=ScalingSettings)
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)

    @model_validator(mode="after")
    def _every_worker_gets_an_image(self) -> TrainJob:
        if self.scaling.workers > self.recipe.batch_size:
            raise ValueError(
                f"scaling.workers = {self.scaling.workers} is more than recipe.batch_size = "
                f"{self.recipe.batch_size}; every worker needs at least one image of a batch"
            )
        if self.scaling.workers * self.recipe.accumulate > self.recipe.batch_size:
            raise ValueError(
                f"scaling.workers = {self.scaling.workers} with recipe.accumulate = "
                f"{self.recipe.accumulate} need more images than recipe.batch_size = "
                f"{self.recipe.batch_size}; lower one of them"
            )
        return self


class PrepareJob(_Job):
    """A data set turned into shards once (``kind: prepare``)."""

    kind: Literal["prepare"] = "prepare"


class PseudoLabelsJob(_Job):
    """Images labelled by a trained model (``kind: pseudo_labels``; ESeg, Sec. 4.4).

    ``data`` says which images and at what size they are prepared; its labels are not used. The source
    ``images`` takes any folder of pictures.

    Attributes:
        teacher: A training: its folder, its checkpoint file, its id, or ``latest``.
        split: Of the data.
        threshold: Pixels whose highest probability does not exceed it become void.
        scales: The teacher sees each image at these factors of its training size.
        flip: Whether it sees the mirror images, too; probabilities are averaged.
    """

    kind: Literal["pseudo_labels"] = "pseudo_labels"
    teacher: str
    split: str = "train"
    threshold: float = Field(default=0.5, ge=0, lt=1)
    scales: tuple[Annotated[float, Field(gt=0, le=8)], ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    flip: bool = True


class StepSettings(_Written):
    """One step of a chain as it was written: a job whose references are not filled in yet.

    Attributes:
        values: The job's settings.
        file: Where it was written; relative paths in it start there.
    """

    values: dict[str, Any]
    file: Path


class ChainJob(_Written):
    """Jobs one after the other, later ones using what earlier ones made (``kind: chain``).

    Attributes:
        steps: By name, in the order in which they run.
    """

    kind: Literal["chain"] = "chain"
    name: Name
    out: Path = OUT
    steps: dict[Name, StepSettings] = Field(min_length=1)


StepJob = SweepJob | TrainJob | PrepareJob | PseudoLabelsJob
Job = StepJob | ChainJob
STEP_KINDS: dict[str, type[SweepJob] | type[TrainJob] | type[PrepareJob] | type[PseudoLabelsJob]] = {
    "sweep": SweepJob,
    "train": TrainJob,
    "prepare": PrepareJob,
    "pseudo_labels": PseudoLabelsJob,
}
JOB_KINDS: dict[str, type[BaseModel]] = {**STEP_KINDS, "chain": ChainJob}
