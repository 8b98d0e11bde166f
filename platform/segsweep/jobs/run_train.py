"""Run a train job: check, prepare data, count the cost, train, record."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from segsweep.cost.measure import exact_cost
from segsweep.data.shards import ShardSet
from segsweep.distributed.training_job import CHECKPOINT, TrainingPlan, run_training
from segsweep.errors import InvalidJob, Problem, SegsweepError
from segsweep.jobs.check import check_job, train_configs
from segsweep.jobs.environment import environment
from segsweep.jobs.result import TrainResult
from segsweep.jobs.run_sweep import LATEST, experiment_name, prepared, tracking_uri
from segsweep.jobs.spec import TrainJob
from segsweep.models.interface import MethodConfig
from segsweep.records import CostReport, Point, Score, TrialStatus
from segsweep.tracking.background import BackgroundRunLogger
from segsweep.tracking.run_logger import MlflowRunLogger
from segsweep.trial import training_size, with_speed


def run_train_job(
    job: TrainJob,
    *,
    where: str = "job",
    resume: str | None = None,
    run_id: str | None = None,
    say: Callable[[str], None] = lambda line: None,
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
    config, recipe = train_configs(job, where=where)
    folder = _folder(job, resume, run_id)
    logger = BackgroundRunLogger(lambda: MlflowRunLogger(tracking_uri(job), experiment=experiment_name(job)))
    scores: list[Score] = []
    try:
        shards = prepared(job.data, job.out, say=say)
        cost = _cost(job, config, shards)
        folder.mkdir(parents=True, exist_ok=True)
        _remember(job, folder)
        logger.start_run(
            folder.name, params=_params(job, config, shards), tags=_tags(folder), artifacts=_artifacts(job)
        )
        logger.log(0, _cost_metrics(cost))

        def on_score(score: Score) -> None:
            logger.log(score.epoch, {"val_miou": score.miou, "train_loss": score.train_loss})
            say(f"epoch {score.epoch:>3}  loss {score.train_loss:.4f}  mIoU {100 * score.miou:.2f} %")

        plan = TrainingPlan(
            folder=folder.resolve(),
            config=config,
            recipe=recipe,
            shards=shards.path.resolve(),
            seed=job.seed,
            workers=job.scaling.workers,
            threads=job.scaling.cpus_per_worker,
            gpus_per_worker=job.scaling.gpus_per_worker,
            max_failures=job.scaling.max_failures,
        )
        try:
            scores = run_training(plan, on_score=on_score)
        except SegsweepError as error:
            logger.finish(TrialStatus.FAILED, str(error))
            raise
        logger.log(scores[-1].epoch, {"miou": scores[-1].miou})
        logger.finish(TrialStatus.COMPLETE)
        return TrainResult(
            run_id=folder.name,
            folder=folder,
            method=job.method,
            point=Point(job.point),
            cost=cost,
            scores=tuple(scores),
            checkpoint=folder / CHECKPOINT,
            workers=job.scaling.workers,
            mlflow=logger.close(),
        )
    finally:
        logger.close()


def _folder(job: TrainJob, resume: str | None, run_id: str | None) -> Path:
    runs = job.out / "trainings"
    if resume is None:
        return runs / (run_id or f"{job.name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}")
    started = sorted(path.parent for path in runs.glob(f"{job.name}-*/job.json"))
    folder = runs / resume if resume != LATEST else (started[-1] if started else None)
    if folder is None or not (folder / "job.json").is_file():
        raise InvalidJob(
            [Problem(where="--resume", message=f"no training {resume!r} of {job.name!r} in {runs}")]
        )
    return folder


def _remember(job: TrainJob, folder: Path) -> None:
    """Keep the job; a resumed training must be the same, workers and places apart."""
    path, now = folder / "job.json", job.model_dump(mode="json")
    before = json.loads(path.read_text()) if path.is_file() else now
    changed = [
        key
        for key in now
        if key not in {"out", "tracking", "scaling", "speed"} and now[key] != before.get(key)
    ]
    if changed:
        message = f"{', '.join(changed)} changed since the training began; undo that, or start a new one"
        raise InvalidJob([Problem(where=f"--resume {folder.name}", message=message)])
    path.write_text(json.dumps(now, indent=1))


def _cost(job: TrainJob, config: MethodConfig, shards: ShardSet) -> CostReport:
    cost = exact_cost(config, num_classes=shards.info.num_classes, size=training_size(shards))
    if job.speed is None:
        return cost
    torch.manual_seed(job.seed)
    model = config.build(shards.info.num_classes)
    scratch = (job.out / "machine").resolve()
    return with_speed(model, config, cost, conditions=job.speed, scratch=scratch)


def _cost_metrics(cost: CostReport) -> dict[str, float]:
    values: dict[str, float | None] = {
        "macs": cost.macs,
        "num_params": cost.num_params,
        "images_per_second": cost.images_per_second,
        "latency_ms_p50": cost.latency_ms_p50,
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _params(job: TrainJob, config: MethodConfig, shards: ShardSet) -> dict[str, str | float | int]:
    size = training_size(shards)
    return {
        "method": job.method,
        "preset": job.preset or "",
        "config": config.model_dump_json(),
        "data": job.data.source,
        "data_digest": shards.digest,
        "input_size": f"{size[0]}x{size[1]}",
        "epochs": job.recipe.epochs,
        "batch_size": job.recipe.batch_size,
        "lr": job.recipe.lr,
        "seed": job.seed,
        "workers": job.scaling.workers,
        **job.point,
    }


def _tags(folder: Path) -> dict[str, str]:
    return {"segsweep.run_kind": "train", "segsweep.run_id": folder.name}


def _artifacts(job: TrainJob) -> dict[str, str]:
    return {
        "job.json": json.dumps(job.model_dump(mode="json"), indent=1),
        "environment.json": json.dumps(environment(), indent=1),
    }
