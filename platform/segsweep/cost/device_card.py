"""Which machine a speed was measured on; speeds of different cards must not be compared."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class DeviceCard:
    """The parts of a machine that decide how fast a model runs.

    Attributes:
        cpu: Model name of the processor.
        cores: Logical cores that this process may use.
        gpus: Names of the visible GPUs.
        torch: Version of torch.
        cuda: Version of CUDA that torch was built for; empty for a CPU build.
        cudnn: Version of cuDNN; empty without.
    """

    cpu: str
    cores: int
    gpus: tuple[str, ...]
    torch: str
    cuda: str
    cudnn: str

    @property
    def id(self) -> str:
        """Eight hexadecimal digits that name this machine in records."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:8]

    def to_json(self) -> dict[str, Any]:
        """JSON values by field."""
        return {**dataclasses.asdict(self), "gpus": list(self.gpus)}


def device_card() -> DeviceCard:
    """Describe this machine as torch sees it now."""
    has_cuda = torch.cuda.is_available()
    names = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if has_cuda else ()
    cudnn = torch.backends.cudnn.version() if has_cuda else None  # type: ignore[no-untyped-call]
    return DeviceCard(
        cpu=_cpu_name(),
        cores=_usable_cores(),
        gpus=names,
        torch=torch.__version__,
        cuda=torch.version.cuda or "",
        cudnn=str(cudnn) if cudnn is not None else "",
    )


@functools.cache
def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on Linux
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
