"""Start Ray quietly, or join the cluster that is there; stop only what was started here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from segsweep.errors import EnvironmentProblem
from segsweep.priority import services_may_wait

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # 18 s -> 14 s to start two workers on two cores
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # our journal is the truth
    # Services that poll less often leave a training on the same cores in peace (ray_config_def.h).
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "1000",
    "RAY_memory_monitor_refresh_ms": "1000",
    "RAY_metrics_report_interval_ms": "60000",
    "RAY_event_stats": "0",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "10",
    "RAY_worker_niceness": "0",  # trainings are what this machine is for
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextmanager
def ray_session(*, num_cpus: int | None = None) -> Iterator[None]:
    """A connection to Ray: an existing one, the cluster of ``RAY_ADDRESS``, or a local one.

    Args:
        num_cpus: Size of a local Ray; ``None`` takes all cores.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    for name in ("ray.tune", "ray.train", "ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="error")
    else:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
        services_may_wait(os.getpid())
    try:
        yield
    finally:
        ray.shutdown()


def require_resources(*, cpus: float, gpus: float, count: int = 1) -> None:
    """Refuse work that no node of the connected cluster could ever take.

    Ray would wait for such resources for ever, in silence.

    Args:
        cpus: CPUs of one process; ``gpus`` likewise.
        count: Processes that must run at the same time.

    Raises:
        EnvironmentProblem: The message says what is wanted and what there is.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = sum(_places(node, cpus=cpus, gpus=gpus) for node in nodes)
    if places < count:
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise EnvironmentProblem(
            f"{count} x ({cpus:g} CPUs and {gpus:g} GPUs) do not fit Ray's nodes ({there}); ask for less, "
            f"or start a larger cluster and set RAY_ADDRESS"
        )


def _places(node: Mapping[str, float], *, cpus: float, gpus: float) -> int:
    wanted = {"CPU": cpus, "GPU": gpus}
    return min(int(node.get(name, 0) / amount + 1e-9) for name, amount in wanted.items() if amount > 0)
