"""Which sweeps may be put side by side, and which are the same sweep with another seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from segsweep.records import TrialStatus
from segsweep.reporting.report.records import Sweep

SEED = ("sweep", "seed")
_OF_NO_EFFECT = {"name", "out", "tracking", "space"}  # on what a design scores; the axes are compared instead
_BUDGET = {"trials", "workers", "max_minutes", "max_infeasible", "reference", "use_seeds", "sampler", "seed"}
_PROTOCOL = {
    "data": "data set",
    "data_digest": "prepared data",
    "size": "input size",
    "num_classes": "number of classes",
    "epochs": "epochs",
}
_SPEED = {"device": "device", "threads": "torch threads", "speed": "speed settings"}


def family(sweep: Sweep) -> str:
    """Equal for sweeps that would score a design alike, up to the seed: conditions, method and job."""
    held = {name: getattr(sweep.conditions, name) for name in (*_PROTOCOL, *_SPEED)}
    job = {key: value for key, value in sweep.job.items() if key not in _OF_NO_EFFECT}
    settings = job.pop("sweep", {})
    job["sweep"] = {key: value for key, value in settings.items() if key not in _BUDGET}
    job["data"] = {key: value for key, value in job.get("data", {}).items() if key != "root"}
    objectives = [[o.metric, o.direction] for o in sweep.objectives]
    return json.dumps([sweep.method, objectives, held, job], sort_keys=True, default=str)


def designs(sweeps: Sequence[Sweep]) -> list[list[tuple[int, int]]]:
    """Designs that were completed with more than one seed: ``(sweep, trial)`` places of each."""
    places: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for index, sweep in enumerate(sweeps):
        name = family(sweep)
        for row, evaluation in enumerate(sweep.evaluations):
            if evaluation.status is TrialStatus.COMPLETE:
                places[name, evaluation.point.key].append((index, row))
    return [
        found for found in places.values() if len({sweeps[index].conditions.seed for index, _ in found}) > 1
    ]


def protocol_differences(sweeps: Sequence[Sweep]) -> dict[str, list[str]]:
    """Conditions of training and validation that differ -> what each sweep has."""
    return _differences(sweeps, _PROTOCOL)


def speed_differences(sweeps: Sequence[Sweep]) -> dict[str, list[str]]:
    """Conditions of the speed measurement that differ -> what each sweep has."""
    found = _differences(sweeps, _SPEED)
    mixed = [sweep.sweep_id for sweep in sweeps if ", " in sweep.conditions.device]
    if mixed and "device" not in found:
        found["device"] = [sweep.conditions.device for sweep in sweeps]
    return found


def _differences(sweeps: Sequence[Sweep], names: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, words in names.items():
        values = [getattr(sweep.conditions, name) for sweep in sweeps]
        known = {json.dumps(value, sort_keys=True, default=str) for value in values if value not in ("", 0)}
        if len(known) > 1:
            found[words] = [text(value) for value in values]
    return found


def text(value: Any) -> str:
    """A condition in words."""
    if value in ("", 0, None):
        return "not recorded"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items())
    return str(value)
