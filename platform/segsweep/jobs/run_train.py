"""Run a train job: check, prepare data, count the cost, train, record."""

from __future__ import annotations

import json

import torch

from segsweep.cost.measure import exact_cost
from segsweep.data.shards import ShardSet
from segsweep.distributed.sweep import only_one_driver
from segsweep.distributed.training_job import CHECKPOINT, TrainingPlan, run_training
from segsweep.errors import SegsweepError
from segsweep.jobs.check import check_job, train_configs
from segsweep.jobs.common import (
    Say,
    experiment_name,
    gpus_or_default,
    prepared,
    scratch_folder,
    silent,
    tracking_uri,
)
from segsweep.jobs.environment import environment
from segsweep.jobs.folders import remember, run_folder
from segsweep.jobs.result import TrainResult
from segsweep.jobs.spec import TrainJob
from segsweep.records import CostReport, Point, Score, TrialStatus
from segsweep.tracking.background import BackgroundRunLogger
from segsweep.tracking.run_logger import MlflowRunLogger
from segsweep.trial import training_device, training_size, with_speed

MAY_CHANGE = ("out", "tracking", "data.root", "scaling", "speed")  # settings that a resume may change


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
        InvalidInput: If the job is wrong; nothing has started then.
        TrainingDiverged: If the loss became NaN or infinite.
    """
    check_job(job, where=where)
    folder = run_folder(job.out / "trainings", job.name, resume=resume, new_id=run_id)
    with only_one_driver(folder):
        remember(folder, job.model_dump(mode="json"), may_change=MAY_CHANGE)
        shards = prepared(job.data, job.out, say=say)
        config, recipe = train_configs(job, where=where)
        recipe = recipe.for_images(shards.counts.get("train", 0))
        plan = TrainingPlan(
            folder=folder.resolve(),
            config=config,
            recipe=recipe,
            shards=shards.path.resolve(),
            seed=job.seed,
            workers=job.scaling.workers,
            threads=job.scaling.cpus_per_worker,
            gpus_per_worker=gpus_or_default(job.scaling.gpus_per_worker),
            max_failures=job.scaling.max_failures,
        )
        cost = _cost(job, plan, shards)
        logger = BackgroundRunLogger(
            lambda: MlflowRunLogger(tracking_uri(job), experiment=experiment_name(job))
        )
        try:
            logger.start_run(
                folder.name,
                params=_params(job, plan, shards),
                tags={"segsweep.run_id": folder.name},
                artifacts=_artifacts(job),
            )
            logger.log(0, _cost_metrics(cost))
            scores = _train(plan, logger, say)
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


def _train(plan: TrainingPlan, logger: BackgroundRunLogger, say: Say) -> list[Score]:
    """Train and record each epoch; a run that raises is failed, an interrupted one is left open."""

    def on_score(score: Score) -> None:
        logger.log(score.epoch, {"val_miou": score.miou, "train_loss": score.train_loss})
        say(f"epoch {score.epoch:>3}  loss {score.train_loss:.4f}  mIoU {100 * score.miou:.2f} %")

    try:
        scores = run_training(plan, on_score=on_score)
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
    }


def _artifacts(job: TrainJob) -> dict[str, str]:
    return {
        "job.json": json.dumps(job.model_dump(mode="json"), indent=1),
        "environment.json": json.dumps(environment(), indent=1),
    }
