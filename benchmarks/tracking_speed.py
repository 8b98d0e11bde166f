"""What a reported epoch costs the driver: segsweep's durable logger against Ray's MLflowLoggerCallback.

    python benchmarks/tracking_speed.py [--epochs N] [--keys N] [--pause S] [--repeats N] [--at-least RATIO]

Both report the same epochs with the same metrics to a new SQLite store each, in turn and in one process;
between two epochs the driver pauses, as it does while trials train. Driver seconds are those inside the
calls that report; what segsweep's thread does meanwhile is in the CPU seconds of the process. Calls are
those of MLflow's store, counted at its border. Start of the run, import of MLflow and the end are apart.
``hot_path_ms`` has what 1,000 metrics cost the caller, reported one by one while the thread writes.
Prints one JSON document; ends with 1 if driver seconds are not ``--at-least`` 10 times fewer than Ray's.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segsweep.records import TrialStatus
from segsweep.tracking.durable import durable_run_logger
from segsweep.tracking.spool import SPOOL
from segsweep.tracking.store import open_client

STORE_CALLS = (
    "create_experiment",
    "create_run",
    "get_experiment_by_name",
    "get_metric_history",
    "get_run",
    "log_batch",
    "log_metric",
    "log_param",
    "search_runs",
    "set_tag",
    "update_run_info",
)
WARM_UP_S = 4.0  # longer than the thread lingers: both start with their run in the store


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Counts calls that enter MLflow's SQLite store; those that it makes to itself are left out."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    counts: Counter[str] = Counter()
    inside = threading.local()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(inside, "yes", False):
                return method(*args, **kwargs)
            counts[name] += 1
            inside.yes = True
            try:
                return method(*args, **kwargs)
            finally:
                inside.yes = False

        return call

    originals = {name: getattr(SqlAlchemyStore, name) for name in STORE_CALLS}
    for name, method in originals.items():
        setattr(SqlAlchemyStore, name, counted(name, method))
    try:
        yield counts
    finally:
        for name, method in originals.items():
            setattr(SqlAlchemyStore, name, method)


def metrics_of(epoch: int, keys: int) -> dict[str, float]:
    return {f"metric_{key:02d}": epoch / (key + 1) for key in range(keys)}


def timed(report: Callable[[int], None], *, epochs: int, pause_s: float) -> dict[str, float]:
    """Seconds inside ``report``, and CPU seconds of the whole process."""
    seconds = []
    cpu = time.process_time()
    for epoch in range(1, epochs + 1):
        begin = time.perf_counter()
        report(epoch)
        seconds.append(time.perf_counter() - begin)
        time.sleep(pause_s)
    return {
        "driver_s": sum(seconds),
        "driver_ms_per_epoch": 1e3 * statistics.mean(seconds),
        "driver_ms_median": 1e3 * statistics.median(seconds),
        "driver_ms_worst": 1e3 * max(seconds),
        "process_cpu_ms_per_epoch": 1e3 * (time.process_time() - cpu) / epochs,
    }


def with_segsweep(uri: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    logger = durable_run_logger(uri, experiment="speed", spool=folder / SPOOL)
    logger.start_run("r", params={"lr": 0.1}, tags={}, artifacts={})
    time.sleep(WARM_UP_S)
    with counted_calls() as counts:
        found: dict[str, Any] = timed(
            lambda epoch: logger.log(epoch, metrics_of(epoch, arguments.keys)),
            epochs=arguments.epochs,
            pause_s=arguments.pause,
        )
        begin = time.perf_counter()
        logger.finish(TrialStatus.COMPLETE)
        link = logger.close()
        assert not link.problem, link.problem
        found["end_s"] = time.perf_counter() - begin
    return {**found, "mlflow_calls": dict(counts), "mlflow_calls_per_epoch": per_epoch(counts, arguments)}


def hot_path_ms(uri: str, folder: Path, *, rounds: int = 10) -> list[float]:
    """Milliseconds inside 1,000 calls of one metric each, by round."""
    logger = durable_run_logger(uri, experiment="hot-path", spool=folder / SPOOL)
    logger.start_run("r", params={}, tags={}, artifacts={})
    found = []
    for first in range(0, 1000 * rounds, 1000):
        begin = time.perf_counter()
        for step in range(first, first + 1000):
            logger.log(step, {"val_miou": step / 1000})
        found.append(1e3 * (time.perf_counter() - begin))
        time.sleep(0.2)
    link = logger.close()
    assert not link.problem, link.problem
    return found


def with_ray(uri: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.experiment import Trial

    callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name="speed")
    callback.setup()
    trial = Trial("speed", config={"lr": 0.1}, stub=True)
    callback.log_trial_start(trial)
    with counted_calls() as counts:
        found: dict[str, Any] = timed(
            lambda epoch: callback.log_trial_result(
                epoch, trial, {**metrics_of(epoch, arguments.keys), "training_iteration": epoch}
            ),
            epochs=arguments.epochs,
            pause_s=arguments.pause,
        )
        begin = time.perf_counter()
        callback.log_trial_end(trial)
        found["end_s"] = time.perf_counter() - begin
    return {**found, "mlflow_calls": dict(counts), "mlflow_calls_per_epoch": per_epoch(counts, arguments)}


def per_epoch(counts: Counter[str], arguments: argparse.Namespace) -> float:
    return sum(counts.values()) / float(arguments.epochs)


def rows_in(uri: str, keys: int) -> int:
    """Metric rows of the store's one run: both must have written the same."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name("speed").experiment_id
    (run,) = client.search_runs([experiment])
    names = metrics_of(1, keys)
    return sum(len(client.get_metric_history(run.info.run_id, name)) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two epochs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-least", type=float, default=10.0, help="ratio below which this fails")
    arguments = parser.parse_args()
    runs = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ours_uri, peer_uri = (f"sqlite:///{folder / part / 'mlflow.db'}" for part in ("ours", "peer"))
            for uri in (ours_uri, peer_uri):
                open_client(uri).search_experiments()  # the schema is there before anything is timed
            ours = with_segsweep(ours_uri, folder / "run", arguments)
            peer = with_ray(peer_uri, arguments)
            rows = [rows_in(uri, arguments.keys) for uri in (ours_uri, peer_uri)]
            assert rows == [arguments.epochs * arguments.keys] * 2, rows
            hot = hot_path_ms(ours_uri, folder / "hot")
            runs.append(
                {
                    "segsweep": ours,
                    "ray": peer,
                    "driver_ratio": peer["driver_s"] / ours["driver_s"],
                    "hot_path_ms": {"median": statistics.median(hot), "worst": max(hot)},
                }
            )
    conditions = {name: getattr(arguments, name) for name in ("epochs", "keys", "pause")}
    ratio = statistics.median(run["driver_ratio"] for run in runs)
    print(json.dumps({**conditions, "driver_ratio_median": ratio, "runs": runs}, indent=1))
    if ratio < arguments.at_least:
        raise SystemExit(
            f"driver seconds are {ratio:.1f}x fewer; at least {arguments.at_least:g}x are wanted"
        )


if __name__ == "__main__":
    main()
