"""Measured speeds on disk, so that one design is measured once per device and conditions.

A sweep that is resumed, or repeated with the same seed, then sees the very same throughput for the same
design and proposes the same points.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.cost.measure import Speed
from segsweep.files import write_whole


class SpeedCache:
    """One small JSON file per measurement; the file name is the digest of what was measured where."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, conditions: Mapping[str, Any]) -> Speed | None:
        """The speed measured under exactly these conditions, if any."""
        try:
            return Speed(**json.loads(self._path(conditions).read_text())["speed"])
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):  # measured again
            return None

    def put(self, conditions: Mapping[str, Any], speed: Speed) -> None:
        """Keep a speed; the file appears whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        entry = {"conditions": dict(conditions), "speed": dataclasses.asdict(speed)}
        write_whole(self._path(conditions), json.dumps(entry, indent=1))

    def _path(self, conditions: Mapping[str, Any]) -> Path:
        canonical = json.dumps(dict(conditions), sort_keys=True)
        return self._folder / f"{hashlib.sha256(canonical.encode()).hexdigest()[:20]}.json"
