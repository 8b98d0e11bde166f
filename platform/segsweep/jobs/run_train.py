"""Run a train job: check, prepare data, count the cost, train, record."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from segsweep.cost.measure import exact_cost
from segsweep.data.joined_shards import TRAIN, join_shards
from segsweep.data.shards import ShardSet
from segsweep.distributed.sweep import only_one_driver
from segsweep.distributed.training_job import CHECKPOINT, TrainingPlan, run_training
from segsweep.errors import InvalidJob, Problem, SegsweepError
from segsweep.files import write_whole
from segsweep.jobs.check import check_job
from segsweep.jobs.classes import write_classes
from segsweep.jobs.common import experiment_name, gpus_or_default, prepared, scratch_folder, tracking_uri
from segsweep.jobs.designs import train_configs
from segsweep.jobs.environment import environment
from segsweep.jobs.folders import (
    JOB,
    LATEST,
    TRAININGS,
    parse_remembered,
    read_remembered,
    refuse_changes,
    remember,
    run_folder,
)
from segsweep.jobs.initial_weights import FITTING, lay_out, listing
from segsweep.jobs.news import Say, silent
from segsweep.jobs.result import TrainResult
from segsweep.jobs.spec import TrainJob
from segsweep.records import CostReport, Point, Score, TrialStatus
from segsweep.tracking.background import BackgroundRunLogger
from segsweep.tracking.durable import durable_run_logger
from segsweep.tracking.spool import SPOOL
from segsweep.training.checkpoint_store import open_store
from segsweep.trial import training_device, training_size, with_speed

MAY_CHANGE = ("out", "tracking", "data.root", "scaling", "speed", "checkpoints")  # what a resume may change


def run_train_job(
    job: TrainJob,
    *,
    where: str = "job",
    resume: str | None = None,
    run_id: str | None = None,
    say: Say = silent,
) -> TrainResult:
    """Train one point at its full schedule.

    Args:
        job: The checked job.
        where: Name of the job in messages.
        resume: Id of an interrupted training, or ``latest``.
        run_id: Name of a new training; by default the job's name and the time.
        say: Takes one line of news at a time.

    Raises:
        InvalidInput: If the job is wrong, a resumed one or its data changed, or the checkpoint store holds
            another training of this name; nothing has started then.
        EnvironmentProblem: If the checkpoint store cannot be written; nothing has started then.
        TrainingDiverged: If the loss became NaN or infinite.
    """
    check_job(job, where=where)
    if resume is not None:
        _fetch_job(job, resume)
    folder = run_folder(job.out / TRAININGS, job.name, resume=resume, new_id=run_id)
    with only_one_driver(folder):
        shards = _begun(job, folder, resumed=resume is not None, say=say)
        write_classes(folder, shards.info)
        plan = _plan(job, shards, folder, where=where, say=say)
        cost = _cost(job, plan, shards)
        logger = durable_run_logger(tracking_uri(job), experiment=experiment_name(job), spool=folder / SPOOL)
        try:
            logger.start_run(
                folder.name,
                params=_params(job, plan, shards),
                tags={"segsweep.run_id": folder.name},
                artifacts={**_artifacts(job), **listing(folder)},
            )
            logger.log(0, _cost_metrics(cost))
            scores = _train(plan, logger, say)
            (folder / FITTING).unlink(missing_ok=True)
        finally:
            link = logger.close()
    return TrainResult(
        run_id=folder.name,
        folder=folder,
        method=job.method,
        point=Point(job.point),
        cost=cost,
        scores=tuple(scores),
        checkpoint=folder / CHECKPOINT,
        workers=job.scaling.workers,
        mlflow=link,
    )


def _begun(job: TrainJob, folder: Path, *, resumed: bool, say: Say) -> ShardSet:
    """The data of a training that is kept in its folder and its store, or is still the one kept there."""
    document = job.model_dump(mode="json")
    _refuse_another(job, folder, resumed=resumed)
    remember(folder, document, may_change=MAY_CHANGE)
    _copy_job(job, folder)  # before data are prepared: it shows whether the store can be written
    shards = _training_data(job, say)
    remember(folder, document, may_change=MAY_CHANGE, data_digest=shards.digest)
    _copy_job(job, folder)
    return shards


def _training_data(job: TrainJob, say: Say) -> ShardSet:
    """The prepared data, joined by pseudo labels if the job names some."""
    shards = prepared(job.data, job.out, say=say)
    if job.pseudo_labels is None:
        return shards
    joined = join_shards(shards, job.pseudo_labels.shards, share=job.pseudo_labels.share)
    counts = f"{shards.counts[TRAIN]} labelled and {joined.extra.counts[TRAIN]} pseudo-labelled images"
    say(f"training on {counts}, {100 * joined.share:g} % of each batch of the latter")
    return joined


def _plan(job: TrainJob, shards: ShardSet, folder: Path, *, where: str, say: Say) -> TrainingPlan:
    config, recipe = train_configs(job, where=where)
    weights = None
    if job.weights is not None:
        classes = shards.info.num_classes
        weights = lay_out(job.weights, config, num_classes=classes, folder=folder, say=say)
    mixed = job.pseudo_labels
    return TrainingPlan(
        folder=folder.resolve(),
        config=config,
        recipe=recipe.for_images(shards.counts.get(TRAIN, 0)),
        shards=shards.path.resolve(),
        seed=job.seed,
        workers=job.scaling.workers,
        threads=job.scaling.cpus_per_worker,
        gpus_per_worker=gpus_or_default(job.scaling.gpus_per_worker),
        max_failures=job.scaling.max_failures,
        checkpoints=job.checkpoints.absolute(),
        extra=mixed.shards.resolve() if mixed else None,
        extra_share=mixed.share if mixed else 0.0,
        initial_weights=weights,
    )


def _refuse_another(job: TrainJob, folder: Path, *, resumed: bool) -> None:
    """A store knows a training by its name alone: a new one must not go on with the weights of another."""
    text = _stored_job(job, folder)
    if text is None:
        return
    where = f"checkpoints.store {job.checkpoints.store}"
    if not resumed:
        message = (
            f"it holds a training {folder.name!r} already; go on with that: --resume {folder.name}, or "
            "choose another name or store"
        )
        raise InvalidJob([Problem(where=where, message=message)])
    stored = parse_remembered(text, where=f"{where}: {folder.name}/{JOB}")
    refuse_changes(
        stored, read_remembered(folder / JOB), may_change=MAY_CHANGE, where=f"{where}: {folder.name}"
    )


def _stored_job(job: TrainJob, folder: Path) -> str | None:
    """What a store outside the folder knows of the training."""
    if job.checkpoints.store is None:
        return None
    return open_store(job.checkpoints.absolute(), folder, patient=False).read_text(JOB)


def _copy_job(job: TrainJob, folder: Path) -> None:
    """Put the job into a store outside the folder; so its training can go on when the folder is lost."""
    if job.checkpoints.store is not None:
        store = open_store(job.checkpoints.absolute(), folder, patient=False)
        store.write_text(JOB, (folder / JOB).read_text(encoding="utf-8"))


def _fetch_job(job: TrainJob, resume: str) -> None:
    """Bring back the folder of a training that only the store knows any more."""
    folder = job.out / TRAININGS / resume
    if job.checkpoints.store is None or resume == LATEST or (folder / JOB).is_file():
        return
    text = _stored_job(job, folder)
    if text is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / JOB, text)


def _train(plan: TrainingPlan, logger: BackgroundRunLogger, say: Say) -> list[Score]:
    """Train and record each epoch; a run that raises is failed, an interrupted one is left open."""

    def on_score(score: Score) -> None:
        logger.log(score.epoch, {"val_miou": score.miou, "train_loss": score.train_loss})
        say(f"epoch {score.epoch:>3}  loss {score.train_loss:.4f}  mIoU {100 * score.miou:.2f} %")

    try:
        scores = run_training(plan, on_score=on_score, say=say)
    except SegsweepError as error:
        logger.finish(TrialStatus.FAILED, str(error))
        raise
    except KeyboardInterrupt:
        say(f"interrupted; go on with: --resume {plan.folder.name}")
        raise
    logger.log(scores[-1].epoch, {"miou": scores[-1].miou})
    logger.finish(TrialStatus.COMPLETE)
    return scores


def _cost(job: TrainJob, plan: TrainingPlan, shards: ShardSet) -> CostReport:
    """Exact cost, and speed on the kind of device and the threads that will train."""
    num_classes = shards.info.num_classes
    cost = exact_cost(plan.config, num_classes=num_classes, size=training_size(shards))
    if job.speed is None:
        return cost
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        return with_speed(
            plan.config.build(num_classes),
            plan.config,
            cost,
            conditions=job.speed,
            scratch=scratch_folder(job.out),
            device=training_device(use_gpu=plan.gpus_per_worker > 0),
        )
    finally:
        torch.set_num_threads(threads)


def _cost_metrics(cost: CostReport) -> dict[str, float]:
    values: dict[str, float | None] = {
        "macs": cost.macs,
        "num_params": cost.num_params,
        "images_per_second": cost.images_per_second,
        "latency_ms_p50": cost.latency_ms_p50,
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _params(job: TrainJob, plan: TrainingPlan, shards: ShardSet) -> dict[str, str | float | int]:
    size = training_size(shards)
    return {
        "method": job.method,
        "preset": job.preset or "",
        "config": plan.config.model_dump_json(),
        "data": job.data.source,
        "data_digest": shards.digest,
        "input_size": f"{size[0]}x{size[1]}",
        "epochs": plan.recipe.epochs,
        "batch_size": plan.recipe.batch_size,
        "lr": plan.recipe.lr,
        "seed": plan.seed,
        "workers": plan.workers,
        "weights": str(job.weights.path) if job.weights else "",
        "pseudo_labels": str(job.pseudo_labels.shards) if job.pseudo_labels else "",
    }


def _artifacts(job: TrainJob) -> dict[str, str]:
    return {
        "job.json": json.dumps(job.model_dump(mode="json"), indent=1),
        "environment.json": json.dumps(environment(), indent=1),
    }
