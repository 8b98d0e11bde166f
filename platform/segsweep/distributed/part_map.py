"""Preparing data on all cores of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segsweep.data.shard_parts import Part, PartMap, PartRecord
from segsweep.distributed.ray_session import ray_session
from segsweep.errors import EnvironmentProblem

_TASKS_PER_CPU = 2  # one at work, one waiting: a cancelled preparation leaves little behind


@contextmanager
def cluster_part_map() -> Iterator[PartMap | None]:
    """A map over Ray where a cluster is there, else ``None``.

    A cluster is there if this process is connected to Ray or ``RAY_ADDRESS`` names one; none is started,
    since on one machine processes do the same with less. All nodes must see the data and the result's folder
    under the same paths.
    """
    if not cluster_is_there():
        yield None
        return
    with ray_session():
        yield ray_part_map


def cluster_is_there() -> bool:
    """Whether this process is connected to Ray, or ``RAY_ADDRESS`` names a cluster."""
    if os.environ.get("RAY_ADDRESS"):
        return True
    ray = sys.modules.get("ray")  # importing Ray takes seconds, and who is connected has imported it
    return ray is not None and bool(ray.is_initialized())


def ray_part_map(write: Callable[[Part], PartRecord], parts: Sequence[Part]) -> Iterator[PartRecord]:
    """Write parts as Ray tasks of one CPU; records come as they are finished.

    Raises:
        EnvironmentProblem: If the cluster lost a task for good.
    """
    import ray

    task = ray.remote(num_cpus=1, max_retries=3)(_run)
    shared = ray.put(write)  # once for all tasks: a source may name 100,000 files
    ahead = _TASKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting: list[Any] = []
    rest = deque(parts)
    try:
        while rest or waiting:
            while rest and len(waiting) < ahead:
                waiting.append(task.remote(shared, rest.popleft(), str(Path.cwd())))
            done, waiting = ray.wait(waiting, num_returns=1)
            yield _record(done[0])
    finally:
        for reference in waiting:
            ray.cancel(reference)


def _record(reference: Any) -> PartRecord:
    import ray

    try:
        record: PartRecord = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # what the task raised, as if it had been raised here
    except ray.exceptions.RayError as error:
        raise EnvironmentProblem(
            f"Ray lost a part of the preparation ({type(error).__name__}: {error}); look at the nodes' "
            "memory and disks and run it again: finished parts are kept"
        ) from error
    return record


def _run(write: Callable[[Part], PartRecord], part: Part, folder: str) -> PartRecord:
    with contextlib.chdir(folder) if Path(folder).is_dir() else contextlib.nullcontext():
        return write(part)
