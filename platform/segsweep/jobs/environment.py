"""Versions and machine of a run, for its record and for ``segsweep doctor``."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from segsweep.cost.device_card import device_card

PACKAGES = ("segsweep", "torch", "torchvision", "timm", "ray", "optuna", "mlflow", "pyarrow", "numpy")


def package_versions() -> dict[str, str | None]:
    """Version by package; ``None`` if it is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """What a reader needs to judge a figure: versions, cores, device card."""
    card = device_card()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": package_versions(),
        "device_card": {**_fields(card), "id": card.id},
    }


def _fields(card: object) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(card)  # type: ignore[call-overload, no-any-return]
