"""Published figures as runs of their own: what papers print, beside what was measured here.

A figure belongs on the axes of a sweep only where data set and image size are the same. All others get
metrics and charts of their own, named with their data set, so that no axis mixes what cannot be compared.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segsweep.pareto.front import front_mask
from segsweep.search.space import SearchSpace
from segsweep.tracking.colors import BASELINE, method_color, shade
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.trial_runs import COLOR, RUN_KIND, STATUS, search
from segsweep.tracking.units import rounded, unit_of
from segsweep.tracking.views import NOTE_TAG, RANK

ARTIFACT = "published.json"  # of the sweep's run: the figures that its job named
KIND = "published"
NAME = "segsweep.published"  # method/data set/design: one run each
DATA = "segsweep.published_data"  # empty where the figures stand on the sweep's own axes
SAME_AXES_RANK = -0.5  # sorted after the front runs and before the members of the fronts
OTHER_AXES_RANK = 0.5  # after the members and before all dominated trials
LIMIT = 8  # designs of one method: the UI loads 100 runs, and trials come first
NOT_MEASURED = "not measured here"

# Image size (height, width) of the printed costs, from the heads of search_spaces/*.yaml; a design's own size
# stands in its source. A pair that is not listed has no size, so its figures never stand on a sweep's axes.
PUBLISHED_SIZES: dict[tuple[str, str], tuple[int, int]] = {
    ("eseg", "cityscapes"): (1024, 2048),
    ("senformer", "ade20k"): (512, 512),
    ("hfgd", "pascal_context"): (513, 513),
    ("maskformer", "ade20k"): (512, 512),
    ("cts", "ade20k"): (512, 512),
}
_METRICS = {"miou": "miou", "macs": "macs", "params": "num_params", "images_per_second": "images_per_second"}
_COSTS = ("macs", "num_params")  # throughput was measured on other machines: told in words, never on an axis
_SIZE = re.compile(r"\b(\d{2,5})x(\d{2,5})\b")
_KEY_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a paper prints of one design.

    Attributes:
        name: The design as the paper names it.
        method: Key of ``METHODS``.
        source: Paper and table.
        data: Key of ``DATASETS`` on which it was evaluated.
        size: Height and width in pixels of the printed costs; ``None`` if the source does not say.
        figures: ``miou`` in [0, 1], and ``macs``, ``num_params``, ``images_per_second`` where printed.
    """

    name: str
    method: str
    source: str
    data: str
    size: tuple[int, int] | None
    figures: dict[str, float]

    def stands_beside(self, data: str, size: tuple[int, int]) -> bool:
        """Whether its figures may share an axis with a sweep on this data at this size."""
        return self.data == data and self.size == size


def published_baselines(
    spaces: Iterable[SearchSpace], *, data: str, limit: int = LIMIT
) -> tuple[Baseline, ...]:
    """The designs of some spaces whose mIoU is published: on this data set, else on the one with most costs.

    Args:
        spaces: The built-in space of the method and the sweep's own; a design that both name is taken once.
        data: Key of the sweep's data set.
        limit: At most this many, in order of mIoU: those that no other published design beats in mIoU at no
            more MACs, then those with the most figures.
    """
    found: dict[tuple[str, str], Baseline] = {}
    for space in spaces:
        for item in _of_space(space):
            found.setdefault((item.name, item.data), item)
    chosen = data if any(item.data == data for item in found.values()) else _with_most_costs(found.values())
    usable = [item for item in found.values() if item.data == chosen]
    front = _front(usable)
    usable.sort(key=lambda item: (item.name not in front, -len(item.figures), -item.figures["miou"]))
    return tuple(sorted(usable[:limit], key=lambda item: -item.figures["miou"]))


def _front(items: Sequence[Baseline]) -> set[str]:
    """Names of the designs that none beats in mIoU at no more MACs."""
    counted = [item for item in items if "macs" in item.figures]
    values = [(item.figures["miou"], item.figures["macs"]) for item in counted]
    mask = front_mask(values, (True, False))
    return {item.name for item, on_front in zip(counted, mask, strict=True) if on_front}


def _of_space(space: SearchSpace) -> Iterable[Baseline]:
    for seed in space.seeds:
        for data, printed in seed.published.items():
            if "miou" in printed:
                yield Baseline(
                    name=seed.name,
                    method=space.method,
                    source=seed.source,
                    data=data,
                    size=_size(seed.source) or PUBLISHED_SIZES.get((space.method, data)),
                    figures={_METRICS.get(key, key): float(value) for key, value in printed.items()},
                )


def _size(source: str) -> tuple[int, int] | None:
    match = _SIZE.search(source)
    return (int(match[1]), int(match[2])) if match else None


def _with_most_costs(baselines: Iterable[Baseline]) -> str:
    counts = Counter(item.data for item in baselines if set(_COSTS) & set(item.figures))
    return counts.most_common(1)[0][0] if counts else ""


def to_text(baselines: Sequence[Baseline], *, data: str, size: tuple[int, int]) -> str:
    """The artifact of a sweep's run; ``from_text`` reads it back.

    Args:
        baselines: What the job shows.
        data: Key of the sweep's data set.
        size: Height and width of the sweep's images in pixels.
    """
    document = {
        "note": f"printed by the papers, {NOT_MEASURED}",
        "sweep": {"data": data, "size": list(size)},
        "baselines": [dataclasses.asdict(item) for item in baselines],
    }
    return json.dumps(document, indent=1)


def from_text(text: str) -> tuple[list[Baseline], str, tuple[int, int]]:
    """The baselines of an artifact, and data set and size of the sweep that they are shown beside."""
    document = json.loads(text)
    items = [
        Baseline(**{**item, "size": tuple(item["size"]) if item["size"] else None})
        for item in document["baselines"]
    ]
    height, width = document["sweep"]["size"]
    return items, str(document["sweep"]["data"]), (int(height), int(width))


def write_baselines(client: Any, experiment_id: str, text: str, *, at: int) -> None:
    """Give every baseline of an artifact its run, once; figures that changed are corrected.

    Args:
        client: An ``MlflowClient``.
        experiment_id: Where the sweep is.
        text: What ``to_text`` made.
        at: Time in ms since the epoch.
    """
    items, data, size = from_text(text)
    known = {run.data.tags.get(NAME): run for run in search(client, experiment_id, kind=KIND)}
    for item in items:
        key = f"{item.method}/{item.data}/{item.name}"
        earlier = known.get(key)
        # axes are shared or not by the sweep that came first: metrics of a run cannot be taken away
        told = earlier.data.tags.get(DATA) if earlier else None
        own = item.stands_beside(data, size) if told is None else told == ""
        run = earlier or client.create_run(
            experiment_id,
            start_time=at,
            tags={RUN_KIND: KIND, NAME: key, STATUS: NOT_MEASURED, DATA: "" if own else item.data},
            run_name=f"published: {item.name}" + ("" if own else f" ({item.data})"),
        )
        writer = RunWriter.reopen(client, run, stepped=())
        writer.params(_params(item))
        writer.tags(_tags(item, own=own))
        writer.metrics(_metrics(item, own=own), step=0, timestamp_ms=at)
        writer.terminate("FINISHED", timestamp_ms=at)


def axis_key(data: str, metric: str) -> str:
    """Metric of a published figure with axes of its own, for example ``published ade20k GMACs``."""
    return f"{KIND} {_KEY_CHARACTERS.sub('_', data)} {unit_of(metric).words}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """The published figures of an experiment.

    Attributes:
        beside: How many designs stand on the axes of the trials.
        elsewhere: Data sets with charts of their own: key -> costs that are printed there, as metrics.
        names: The same data sets in words: key -> name, with the image size if all share one.
    """

    beside: int = 0
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Iterable[Any]) -> Published:
        """The figures of the ``published`` runs of an experiment."""
        by_data: dict[str, list[Any]] = {}
        for run in runs:
            by_data.setdefault(run.data.tags.get(DATA, ""), []).append(run)
        beside = by_data.pop("", [])
        return cls(
            beside=len(beside),
            elsewhere={data: _printed_costs(found) for data, found in sorted(by_data.items())},
            names={data: _with_size(data, found) for data, found in sorted(by_data.items())},
        )


def _printed_costs(runs: Iterable[Any]) -> tuple[str, ...]:
    printed = {name for run in runs for name in _COSTS if f"published.{name}" in run.data.params}
    return tuple(name for name in _COSTS if name in printed)


def _with_size(data: str, runs: Iterable[Any]) -> str:
    sizes = {run.data.params.get("input_size", "") for run in runs}
    return f"{data} at {sizes.pop()}" if len(sizes) == 1 and "" not in sizes else data


def _params(item: Baseline) -> dict[str, str]:
    size = f"{item.size[0]}x{item.size[1]}" if item.size else ""
    return {
        "method": item.method,
        "design": item.name,
        "source": item.source,
        "data": item.data,
        **({"input_size": size} if size else {}),
        **{f"published.{name}": f"{value:g}" for name, value in item.figures.items()},
    }


def _tags(item: Baseline, *, own: bool) -> dict[str, str]:
    figures = ", ".join(_in_words(name, value) for name, value in item.figures.items())
    return {
        "segsweep.method": item.method,
        "segsweep.reason": f"{NOT_MEASURED}: {item.source}",
        DATA: "" if own else item.data,
        "pareto.front": "false",
        "pareto.rank": "published",
        COLOR: BASELINE if own else shade(method_color(item.method), -0.45),
        NOTE_TAG: (
            f"**Published, {NOT_MEASURED}.** {item.source}: {item.name} on {item.data}: {figures}. "
            "Papers count costs by their own conventions: `segsweep paper` shows them beside ours."
        ),
    }


def _in_words(name: str, value: float) -> str:
    unit = unit_of(name)
    return f"{unit.label} {unit.factor * value:.{unit.decimals}f}"


def _metrics(item: Baseline, *, own: bool) -> Mapping[str, float]:
    printed = [name for name in ("miou", *_COSTS) if name in item.figures]
    if own:
        return {**dict(rounded(name, item.figures[name]) for name in printed), RANK: SAME_AXES_RANK}
    named = {axis_key(item.data, name): rounded(name, item.figures[name])[1] for name in printed}
    return {**named, RANK: OTHER_AXES_RANK}
