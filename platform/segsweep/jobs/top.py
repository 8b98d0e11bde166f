"""Where a sweep stands: trials, rungs, speed, time left, the bill so far. Only reads its journal."""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segsweep.errors import SegsweepError
from segsweep.files import DRIVER_LOCK
from segsweep.jobs.bill import read_bill
from segsweep.jobs.finished_sweep import FinishedSweep, open_sweep
from segsweep.jobs.folders import OUT
from segsweep.records import AxisValue, Evaluation, TrialStatus
from segsweep.search.journal import JOURNAL, Journal


@dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """A trial that runs now, or that an interrupted sweep will start again.

    Attributes:
        epoch: Finished epochs; ``epochs`` are the full schedule.
        miou: Of its last validation, in [0, 1].
        seconds: Since its first training step; 0 before.
    """

    number: int
    point: dict[str, AxisValue]
    epoch: int
    epochs: int
    miou: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RungState:
    """How many trials reached a rung, and how many were stopped there."""

    epoch: int
    reached: int
    stopped: int


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """Where a sweep stands.

    Attributes:
        state: ``running``, ``interrupted`` or ``finished``.
        budget: Trials to train in all.
        trials: Ended trials by status.
        best_miou: Of complete trials; ``front_size`` counts those that no other dominates.
        epochs: Trained by all trials so far.
        epochs_per_second: Of the trials that run now together; ``None`` if none runs or no epoch has ended.
        seconds_left: Until the end, if the trials to come take as long as those before; ``None`` if unknown.
        trial_hours: Wall time of all trials, in hours.
        cpu_hours: CPUs held by trials times hours; ``gpu_hours`` likewise, ``None`` if not recorded.
        kwh: Energy of the driver's machine while the sweep ran; ``None`` if its counters cannot be read.
        kwh_of: What ``kwh`` is the energy of, or why there is none.
    """

    sweep_id: str
    folder: str
    state: str
    budget: int
    trials: dict[str, int]
    best_miou: float | None
    front_size: int
    running: tuple[RunningTrial, ...]
    rungs: tuple[RungState, ...]
    epochs: int
    epochs_per_second: float | None
    seconds_left: float | None
    trial_hours: float
    cpu_hours: float | None
    gpu_hours: float | None
    kwh: float | None
    kwh_of: str

    def to_json(self) -> dict[str, Any]:
        """JSON values by field."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ClusterUse:
    """What a cluster holds and uses.

    Attributes:
        dashboard: Its address in a browser.
        nodes: Living nodes; 0 before the autoscaler's first report.
        resources: Name -> (in use, in all), of CPUs and GPUs.
        jobs: Submitted jobs by status.
    """

    dashboard: str
    nodes: int
    resources: dict[str, tuple[float, float]]
    jobs: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """JSON values by field."""
        return asdict(self)


def sweep_state(sweep: str | Path, *, out: Path = OUT, now: float | None = None) -> SweepState:
    """Read where a sweep stands.

    Args:
        sweep: Its folder, its id below ``out/sweeps``, or ``latest``.
        out: Where ids are looked up.
        now: Unix time in seconds; default the present.

    Raises:
        InvalidInput: If there is no such sweep.
        DataError: If its journal is damaged.
    """
    opened = open_sweep(sweep, out=out)
    events = Journal(opened.folder / JOURNAL).read()
    state = _state(opened)
    running = _running(opened, events, now=(now or time.time()) if state == "running" else None)
    trained = [item for item in opened.evaluations if item.status is not TrialStatus.INFEASIBLE]
    seconds = sum(item.seconds for item in opened.evaluations) + sum(item.seconds for item in running)
    epochs = sum(item.scores[-1].epoch for item in trained if item.scores) + sum(
        item.epoch for item in running
    )
    bill = read_bill(opened.folder)
    complete = [item.miou for item in opened.complete if item.miou is not None]
    return SweepState(
        sweep_id=opened.sweep_id,
        folder=str(opened.folder),
        state=state,
        budget=opened.job["sweep"]["trials"],
        trials={str(status): _count(opened.evaluations, status) for status in TrialStatus},
        best_miou=max(complete, default=None),
        front_size=len(opened.front),
        running=running,
        rungs=_rungs(opened.job["sweep"].get("rungs") or (), events, opened.evaluations),
        epochs=epochs,
        epochs_per_second=_speed(epochs, seconds, len(running) if state == "running" else 0),
        seconds_left=_time_left(opened, trained, running) if state == "running" else None,
        trial_hours=seconds / 3600,
        cpu_hours=seconds / 3600 * bill.cpus_per_trial if bill else None,
        gpu_hours=seconds / 3600 * bill.gpus_per_trial if bill else None,
        kwh=bill.kwh if bill else None,
        kwh_of=_energy_source(opened.folder),
    )


def cluster_use(address: str | None = None) -> ClusterUse:
    """What a cluster holds and uses now.

    Args:
        address: See ``JobClient``.

    Raises:
        EnvironmentProblem: If it does not answer, or refuses.
    """
    from segsweep.distributed.job_client import JobClient

    client = JobClient(address)
    report = (client.cluster_status().get("loadMetricsReport")) or {}
    usage = {name: report.get("usage", {}).get(name) for name in ("CPU", "GPU")}
    return ClusterUse(
        dashboard=client.address,
        nodes=len(report.get("usageByNode") or {}),
        resources={name: (float(pair[0]), float(pair[1])) for name, pair in usage.items() if pair},
        jobs=dict(Counter(job.status for job in client.jobs())),
    )


def local_cluster_use(address: str | None) -> ClusterUse | None:
    """As ``cluster_use``; ``None`` if nobody named a cluster and none answers on this machine."""
    named = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    try:
        return cluster_use(address)
    except SegsweepError:
        if named:
            raise
        return None


def _state(sweep: FinishedSweep) -> str:
    if not sweep.interrupted:
        return "finished"
    try:
        descriptor = os.open(sweep.folder / DRIVER_LOCK, os.O_RDONLY)
    except OSError:
        return "interrupted"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"  # the driver holds it
    else:
        return "interrupted"
    finally:
        os.close(descriptor)


def _running(
    sweep: FinishedSweep, events: Sequence[Mapping[str, Any]], *, now: float | None
) -> tuple[RunningTrial, ...]:
    """Trials that were asked for and have not ended; their time stands still unless ``now`` is given."""
    ended = {item.number for item in sweep.evaluations}
    begun: dict[int, float] = {}
    scores: dict[int, Mapping[str, Any]] = {}
    for event in events:
        if event["type"] == "mark" and event["name"] == "first_step":
            begun[event["number"]] = event["at"]
            scores.pop(event["number"], None)  # a trial that began anew
        elif event["type"] == "score":
            scores[event["number"]] = event["score"]
    found = []
    for number, point in _asked(events).items():
        if number in ended:
            continue
        score = scores.get(number)
        until_score = score["seconds"] if score else 0.0
        found.append(
            RunningTrial(
                number=number,
                point=point,
                epoch=score["epoch"] if score else 0,
                epochs=sweep.conditions.epochs,
                miou=score["miou"] if score else None,
                seconds=max(0.0, now - begun[number]) if now and number in begun else until_score,
            )
        )
    return tuple(found)


def _asked(events: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, AxisValue]]:
    return {event["number"]: event["point"] for event in events if event["type"] == "ask"}


def _rungs(
    epochs: Sequence[int], events: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluation]
) -> tuple[RungState, ...]:
    reached = Counter(
        event["score"]["epoch"] for event in events if event["type"] == "score" and event["score"]["is_rung"]
    )
    stopped = Counter(
        item.scores[-1].epoch for item in evaluations if item.status is TrialStatus.STOPPED and item.scores
    )
    return tuple(RungState(epoch=epoch, reached=reached[epoch], stopped=stopped[epoch]) for epoch in epochs)


def _count(evaluations: Sequence[Evaluation], status: TrialStatus) -> int:
    return sum(item.status is status for item in evaluations)


def _speed(epochs: int, seconds: float, running: int) -> float | None:
    return running * epochs / seconds if running and epochs and seconds > 0 else None


def _time_left(
    sweep: FinishedSweep, trained: Sequence[Evaluation], running: Sequence[RunningTrial]
) -> float | None:
    """Mean time of a trial so far, for each that is to come, over the workers."""
    if not trained:
        return None
    settings = sweep.job["sweep"]
    trials, workers = int(settings["trials"]), int(settings["workers"])
    mean = sum(item.seconds for item in trained) / len(trained)
    to_come = max(0, trials - len(trained) - len(running))
    rest = sum(max(0.0, mean - item.seconds) for item in running)
    return (to_come * mean + rest) / max(1, min(workers, to_come + len(running)))


def _energy_source(folder: Path) -> str:
    bill = read_bill(folder)
    if bill is None:
        return "not recorded"
    parts = {"processors": bill.cpu_joules, "GPUs": bill.gpu_joules}
    read = [name for name, joules in parts.items() if joules is not None]
    if not read:
        return f"not readable on {bill.machine}: no RAPL counter that this user may read, no GPU that counts"
    return f"{' and '.join(read)} of {bill.machine}, whatever else they did"
