"""What this machine has and lacks."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from segsweep.jobs.environment import package_versions
from segsweep.torchvision_compat import ensure_torchvision
from segsweep.tracking.server import free_port, port_is_free

UI_PORT = 5000
MIN_SHM_GB, MIN_DISK_GB = 1.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        ok: Whether it serves.
        found: What is there.
        remedy: What to do; empty if nothing.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""


def examine(out: Path) -> list[Finding]:
    """Look at versions, torch and torchvision, GPUs, Ray's and MLflow's needs, folders."""
    return [*_versions(), _torchvision(), _accelerators(), *_folders(out), _shared_memory(), _port()]


def _versions() -> list[Finding]:
    return [
        Finding(
            name=name,
            ok=version is not None,
            found=version or "not installed",
            remedy="" if version else f"pip install {name}, or pip install -e . again",
        )
        for name, version in package_versions().items()
    ]


def _torchvision() -> Finding:
    import torch

    try:
        how = ensure_torchvision()
        import torchvision
    except (ImportError, RuntimeError, AttributeError) as error:
        return Finding(
            name="torch beside torchvision",
            ok=False,
            found=f"torch {torch.__version__}: {error}",
            remedy="install the torchvision of the same minor: torch 2.13 goes with torchvision 0.28",
        )
    return Finding(
        name="torch beside torchvision",
        ok=True,
        found=f"torch {torch.__version__}, torchvision {torchvision.__version__}: {how}",
    )


def _accelerators() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(name="accelerators", ok=True, found=f"no GPU; {os.cpu_count()} CPU cores")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding(name="accelerators", ok=True, found=", ".join(names))


def _folders(out: Path) -> list[Finding]:
    return [
        _writable("runs folder", out, "set out: in the job, or --out, to a folder of yours"),
        _writable(
            "Ray's temporary folder", Path(tempfile.gettempdir()), "set RAY_TMPDIR to a folder of yours"
        ),
    ]


def _writable(name: str, folder: Path, remedy: str) -> Finding:
    existing = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name=name, ok=False, found=f"{folder}: not writable ({existing})", remedy=remedy)
    free = shutil.disk_usage(existing).free / 1e9
    return Finding(
        name=name,
        ok=free >= MIN_DISK_GB,
        found=f"{folder.absolute()}: writable, {free:.0f} GB free",
        remedy="" if free >= MIN_DISK_GB else "free some space: shards and checkpoints need it",
    )


def _shared_memory() -> Finding:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return Finding(name="shared memory", ok=True, found="no /dev/shm; Ray uses its temporary folder")
    free = shutil.disk_usage(shm).free / 1e9
    ok = free >= MIN_SHM_GB
    remedy = "" if ok else "Ray falls back to the disk: start the container with --shm-size=2g"
    return Finding(name="shared memory", ok=ok, found=f"{free:.1f} GB free", remedy=remedy)


def _port() -> Finding:
    if port_is_free("127.0.0.1", UI_PORT):
        return Finding(name="port of the MLflow UI", ok=True, found=f"{UI_PORT} is free")
    return Finding(
        name="port of the MLflow UI",
        ok=True,
        found=f"{UI_PORT} is in use",
        remedy=f"segsweep ui --port {free_port()}",
    )
