"""One Ray session per test run, quiet and small; nothing is written outside pytest's folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a bare ray.init would write a token to the home folder
os.environ.setdefault("OMP_NUM_THREADS", "1")

from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()  # before any test module imports timm or torchvision


@pytest.fixture(scope="session")
def ray_two_cpus() -> Iterator[None]:
    """A local Ray with two CPUs that every test of the run shares."""
    from segsweep.distributed.ray_session import ray_session

    with ray_session(num_cpus=2):
        yield


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared synthetic scenes: 8 for training and 4 for validation at 64x128."""
    from segsweep.data.shards import prepare
    from segsweep.data.sources import open_source

    out = tmp_path_factory.mktemp("shards") / "synthetic"
    source = open_source("synthetic", root=None, options={"train": 8, "val": 4, "height": 64, "width": 128})
    prepare(source, out, size=(64, 128))
    return out
