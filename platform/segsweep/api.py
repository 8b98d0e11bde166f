"""The calls behind the command line, for notebooks and scripts. Each returns records, not text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from segsweep.api_chain import label as label
from segsweep.api_chain import run_chain as run_chain
from segsweep.api_cluster import cluster_job as cluster_job
from segsweep.api_cluster import cluster_jobs as cluster_jobs
from segsweep.api_cluster import follow_job as follow_job
from segsweep.api_cluster import job_logs as job_logs
from segsweep.api_cluster import stop_job as stop_job
from segsweep.api_cluster import submit as submit
from segsweep.api_cluster import top as top
from segsweep.api_sweeps import compare as compare
from segsweep.api_sweeps import recommend as recommend
from segsweep.api_sweeps import register as register
from segsweep.api_sweeps import report as report
from segsweep.api_ui import serve_ui as serve_ui
from segsweep.api_ui import ui_command as ui_command
from segsweep.api_ui import ui_plan as ui_plan
from segsweep.errors import InvalidInput, InvalidJob, Problem
from segsweep.jobs.builtin import builtin_names, find_file
from segsweep.jobs.folders import OUT
from segsweep.jobs.news import Say, silent
from segsweep.jobs.spec import Job, PrepareJob, SweepJob, TrainJob
from segsweep.records import AxisValue, CostReport, Point

if TYPE_CHECKING:
    from rich.console import Console

    from segsweep.cost.published import PaperRow
    from segsweep.data.findings import Finding as DataFinding
    from segsweep.data.shards import ShardSet
    from segsweep.jobs.doctor import Finding
    from segsweep.jobs.predict import PredictedImage
    from segsweep.jobs.result import SweepResult, TrainResult
    from segsweep.jobs.run_eval import EvalResult
    from segsweep.jobs.sync import SyncedRun

DEMO_JOB = "demo"
JobType = TypeVar("JobType", SweepJob, TrainJob, PrepareJob)


def sweep(
    job: str | Path | SweepJob,
    *,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    sweep_id: str | None = None,
    console: Console | None = None,
) -> SweepResult:
    """Search a space: propose, train, stop, record, draw.

    Args:
        job: A job file (or the name of a built-in one), or the job itself.
        overrides: ``key.path=value`` settings that replace those of the file.
        resume: Id of an interrupted sweep, or ``latest``.
        sweep_id: Name of a new sweep.
        console: Where to show live progress; ``None`` shows none.

    Returns:
        The result: evaluations, front, hypervolume, MLflow link; ``.table()`` is an Arrow table.

    Raises:
        InvalidInput: If the job, its space or its data are wrong; nothing has started then.
    """
    from segsweep.jobs.run_sweep import run_sweep_job
    from segsweep.reporting.progress import SweepProgress

    loaded, where = _load(job, SweepJob, overrides)
    if console is None:
        return run_sweep_job(loaded, where=where, resume=resume, sweep_id=sweep_id)
    with SweepProgress(console, trials=loaded.sweep.trials, epochs=loaded.recipe.epochs) as progress:
        return run_sweep_job(
            loaded,
            where=where,
            resume=resume,
            sweep_id=sweep_id,
            listeners=[progress],
            say=lambda line: console.print(line, highlight=False, soft_wrap=True),
        )


def demo(
    *,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    console: Console | None = None,
) -> SweepResult:
    """The built-in sweep: tiny ESeg designs on procedural street scenes; at most 3 minutes on 2 cores.

    Args:
        out: Folder for everything it writes; default ``segsweep-runs`` in the working directory.
        overrides: As for ``sweep``.
        resume: As for ``sweep``.
        console: As for ``sweep``.
    """
    settings = [*overrides, *([f"out={out}"] if out else [])]
    return sweep(DEMO_JOB, overrides=settings, resume=resume, console=console)


def train(
    job: str | Path | TrainJob,
    *,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    run_id: str | None = None,
    say: Say = silent,
) -> TrainResult:
    """Train one point at its full schedule with Ray Train on 1..N workers.

    Args:
        job: A job file (or the name of a built-in one), or the job itself.
        overrides: ``key.path=value`` settings that replace those of the file.
        resume: Id of an interrupted training, or ``latest``.
        run_id: Name of a new training.
        say: Takes one line of news at a time.
    """
    from segsweep.jobs.run_train import run_train_job

    loaded, where = _load(job, TrainJob, overrides)
    return run_train_job(loaded, where=where, resume=resume, run_id=run_id, say=say)


def prepare(
    source: str,
    *,
    out: Path,
    root: Path | None = None,
    size: tuple[int, int] | None = None,
    options: Mapping[str, object] | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ShardSet:
    """Turn a data set into Arrow shards once.

    Args:
        source: Key of ``DATASETS``: for example ``camvid`` or ``folder``.
        out: Folder of the shards; must not exist, or hold shards.
        root: Folder of the data set.
        size: Height and width to resize to; ``None`` keeps each image's own.
        options: Settings of the source.
        workers: Processes; 0 for threads of this one. Where this process is connected to a Ray cluster,
            that does the work.
        progress: Called with the number of images done and in all.

    Raises:
        DataError: With every problem of the data that was found.
    """
    from segsweep.data.shards import prepare as prepare_shards
    from segsweep.data.sources import open_source
    from segsweep.distributed.part_map import cluster_part_map

    opened = open_source(source, root=root, options=options)
    with cluster_part_map() as part_map:
        return prepare_shards(opened, out, size=size, progress=progress, workers=workers, part_map=part_map)


def check_data(
    source: str,
    *,
    root: Path | None = None,
    splits: Sequence[str] | None = None,
    options: Mapping[str, object] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[DataFinding]:
    """Look for faults in the labels of a data set; arguments as ``prepare``.

    Args:
        splits: Which to read; default all.

    Raises:
        DataError: If the data set cannot be opened, or a split is unknown.
    """
    from segsweep.data.doctor import check_source
    from segsweep.data.sources import open_source

    return check_source(open_source(source, root=root, options=options), splits=splits, progress=progress)


def show_data(
    source: str,
    out: Path,
    *,
    root: Path | None = None,
    split: str | None = None,
    count: int = 6,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
) -> Path:
    """Draw samples of a data set with their labels, legend and class histogram into a PNG file.

    Raises:
        DataError: If the data set or the split cannot be read.
    """
    from segsweep.data.show import show_source
    from segsweep.data.sources import open_source

    opened = open_source(source, root=root, options=options)
    return show_source(opened, out, split=split, count=count, seed=seed)


def evaluate(
    run: str | Path,
    protocol: str = "original",
    *,
    split: str = "val",
    overrides: Mapping[str, object] | None = None,
    out: Path = OUT,
    data_root: Path | None = None,
    worst: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> EvalResult:
    """Evaluate a trained run under a protocol and record it; see ``jobs.run_eval.evaluate_run``."""
    from segsweep.jobs.run_eval import evaluate_run

    return evaluate_run(
        run,
        protocol,
        split=split,
        overrides=overrides,
        out=out,
        data_root=data_root,
        worst=worst,
        progress=progress,
    )


def protocol_names() -> list[str]:
    """Names that ``evaluate`` takes."""
    from segsweep.evaluation.protocols import ORIGINAL, PREPARED, PROTOCOLS

    return [ORIGINAL, PREPARED, *PROTOCOLS]


def predict(
    run: str | Path,
    images: Sequence[Path],
    out: Path,
    *,
    runs: Path = OUT,
    data_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[PredictedImage, ...]:
    """Write coloured masks and overlays for pictures; see ``jobs.predict.predict_images``."""
    from segsweep.jobs.predict import predict_images

    return predict_images(run, images, out, runs=runs, data_root=data_root, progress=progress)


def check(*paths: str | Path) -> dict[Path, tuple[Problem, ...]]:
    """Validate spaces and jobs; with no path given, all built-in ones.

    Returns:
        Every checked file with its problems; an empty tuple is a good file.
    """
    from segsweep.jobs.check import check_paths

    return check_paths([Path(path) for path in paths])


def points(space: str | Path, *, n: int = 5, seed: int = 0) -> list[Point]:
    """Points of a space drawn at random, all different, none against a constraint on axes.

    Args:
        space: A space file, or the name of a built-in one.
        n: How many.
        seed: Seed of the draw.
    """
    from segsweep.search.load import load_space
    from segsweep.search.study import random_points

    return random_points(load_space(_space_path(space)), n, seed=seed)


def cost(
    method: str,
    *,
    preset: str | None = None,
    point: Mapping[str, AxisValue] | None = None,
    size: tuple[int, int] = (1024, 2048),
    num_classes: int = 19,
) -> CostReport:
    """Exact parameters and MACs of a design, counted on the meta device: no weight is allocated.

    Args:
        method: Key of ``METHODS``.
        preset: A named design of the method, for example ``eseg-s``.
        point: Dotted axis names and values; over the preset where both are given.
        size: Height and width of the input in pixels.
        num_classes: Number of classes of the head.

    Raises:
        InvalidInput: If method, preset or point are not valid, or the model cannot take that size.
    """
    from segsweep.jobs.designs import cost_of, design

    return cost_of(design(method, preset=preset, point=point or {}), num_classes=num_classes, size=size)


def paper(method: str | None = None) -> list[PaperRow]:
    """Published figures against those computed here, with the counting convention named.

    Args:
        method: One of the methods with published figures; ``None`` gives all.

    Raises:
        InvalidInput: If there are no figures of such a method.
    """
    from segsweep.cost.published import PAPERS, paper_rows

    if method is None:
        return [row for name in PAPERS for row in paper_rows(name)]
    if method not in PAPERS:
        raise InvalidInput(
            [Problem(where="method", message=f"found {method!r}, allowed: {', '.join(PAPERS)}")]
        )
    return paper_rows(method)


def doctor(out: Path = OUT) -> list[Finding]:
    """What this machine has: versions, torch and torchvision, GPUs, Ray, MLflow, writable folders."""
    from segsweep.jobs.doctor import examine

    return examine(out)


def sync(
    *runs: str | Path,
    out: Path = OUT,
    uri: str | None = None,
    again: bool = False,
    say: Say = silent,
) -> tuple[SyncedRun, ...]:
    """Write to MLflow what it lacks of some runs, or of all below ``out``; see ``jobs.sync.sync_runs``."""
    from segsweep.jobs.sync import sync_runs

    return sync_runs(runs, out=out, tracking_uri=uri, again=again, say=say)


def _space_path(space: str | Path) -> Path:
    found = find_file(str(space), kind="search_spaces", beside=Path())
    if found is None:
        names = ", ".join(builtin_names("search_spaces"))
        raise InvalidInput(
            [Problem(where=str(space), message=f"no such space; give a file, or one of: {names}")]
        )
    return found


def job_kind(job: str | Path, *, overrides: Sequence[str] = ()) -> str:
    """Kind of a job file: ``sweep``, ``train``, ``prepare``, ``pseudo_labels`` or ``chain``."""
    return _load_any(job, overrides).kind


def run_prepare(job: str | Path, *, overrides: Sequence[str] = (), say: Say = silent) -> ShardSet:
    """Prepare the data of a ``kind: prepare`` job in its ``out`` folder, where other jobs find them."""
    from segsweep.jobs.common import prepared

    loaded = _of_kind(_load_any(job, overrides), PrepareJob, str(job))
    return prepared(loaded.data, loaded.out, say=say)


def _load(job: str | Path | JobType, kind: type[JobType], overrides: Sequence[str]) -> tuple[JobType, str]:
    if isinstance(job, str | Path):
        return _of_kind(_load_any(job, overrides), kind, str(job)), str(job)
    if overrides:
        raise InvalidJob(
            [Problem(where="overrides", message="only a job file takes them; change the job itself")]
        )
    from segsweep.jobs.load import with_absolute_paths

    return _of_kind(with_absolute_paths(job, Path(), where="job"), kind, "job"), "job"


def _load_any(job: str | Path, overrides: Sequence[str]) -> Job:
    from segsweep.jobs.load import open_job

    return open_job(job, overrides=overrides)


def _of_kind(job: Job, kind: type[JobType], where: str) -> JobType:
    from segsweep.jobs.load import of_kind

    return of_kind(job, kind, where=where)
