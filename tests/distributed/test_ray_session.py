"""Joining Ray: what was there stays, and work that fits nowhere is refused instead of waiting for ever."""

from __future__ import annotations

import pytest

from segsweep.distributed.ray_session import ray_session, require_resources
from segsweep.errors import EnvironmentProblem

pytestmark = pytest.mark.usefixtures("ray_two_cpus")


def test_a_session_that_was_there_stays_connected() -> None:
    import ray

    with ray_session(num_cpus=1):
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()


@pytest.mark.parametrize(("cpus", "count"), [(1, 1), (1, 2), (2, 1), (0.5, 4)])
def test_work_that_fits_is_let_through(cpus: float, count: int) -> None:
    require_resources(cpus=cpus, gpus=0, count=count)


@pytest.mark.parametrize(("cpus", "gpus", "count"), [(3, 0, 1), (1, 0, 3), (2, 0, 2), (1, 99, 1)])
def test_work_that_fits_nowhere_is_refused_with_what_there_is(cpus: float, gpus: float, count: int) -> None:
    wanted = rf"{count} x \({cpus} CPUs and {gpus} GPUs\) do not fit Ray's nodes \(2 CPUs and \d+ GPUs\)"
    with pytest.raises(EnvironmentProblem, match=wanted):
        require_resources(cpus=cpus, gpus=gpus, count=count)
