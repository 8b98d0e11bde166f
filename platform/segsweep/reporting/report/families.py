"""Which sweeps may be put side by side, and which are the same sweep with another seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from segsweep.records import TrialStatus
from segsweep.reporting.report.records import Sweep

SEED = ("sweep", "seed")
# settings of a job that change neither what a design scores nor where the search looks
_APART = {"name", "out", "tracking", "space"}
_APART_SWEEP = {"seed", "reference", "max_minutes", "max_infeasible", "keep_models"}
_OF_THE_SEARCH = {"trials", "workers", "use_seeds", "sampler", "rungs", "eta"}  # which designs are found
_PROTOCOL = {
    "data": "data set",
    "data_digest": "prepared data",
    "size": "input size",
    "num_classes": "number of classes",
    "epochs": "epochs",
}
_SPEED = {"device": "device", "threads": "torch threads", "speed": "speed settings"}
_UNKNOWN = ("", 0, None, (0, 0))  # conditions that an older or an empty sweep did not record


def family(sweep: Sweep, *, same_search: bool = False, same_machine: bool = True) -> str:
    """Equal for sweeps that differ in their seed alone: they would score every design alike, up to chance.

    Args:
        sweep: One of them.
        same_search: Whether they must search alike too (budget, sampler, stopping), as repetitions of one
            search do. Designs that both trained do not need that.
        same_machine: Whether their speeds must be comparable too.
    """
    names = (*_PROTOCOL, *_SPEED) if same_machine else tuple(_PROTOCOL)
    held = {name: getattr(sweep.conditions, name) for name in names}
    apart = _APART_SWEEP if same_search else _APART_SWEEP | _OF_THE_SEARCH
    job = {key: value for key, value in sweep.job.items() if key not in _APART}
    settings = job.pop("sweep", {})
    job["sweep"] = {key: value for key, value in settings.items() if key not in apart}
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
        known = {json.dumps(value, sort_keys=True, default=str) for value in values if value not in _UNKNOWN}
        if len(known) > 1:
            found[words] = [text(value) for value in values]
    return found


def text(value: Any) -> str:
    """A condition in words."""
    if value in _UNKNOWN:
        return "not recorded"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items())
    return str(value)
