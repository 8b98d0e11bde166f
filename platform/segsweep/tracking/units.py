"""How a metric is shown to people: its readable name, its factor and its axis label."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A metric as reports and charts show it.

    Attributes:
        metric: Key of ``Evaluation.metrics()``.
        name: Name in MLflow's filters and table columns; equal to ``metric`` when no factor is needed.
        words: Name for people in the letters of a metric key (no ``%`` or brackets): MLflow titles a chart by
            the key of its metric.
        factor: Shown value = factor x stored value.
        label: Axis label of a figure, with the unit.
        decimals: Decimals that a table prints.
    """

    metric: str
    name: str
    words: str
    factor: float
    label: str
    decimals: int


def _plain(metric: str, *, words: str, label: str, decimals: int) -> Unit:
    return Unit(metric=metric, name=metric, words=words, factor=1.0, label=label, decimals=decimals)


# miou is in [0, 1] in code and per cent only here; 1 MAC = 2 FLOPs, both counted per image
UNITS: dict[str, Unit] = {
    unit.metric: unit
    for unit in (
        Unit(
            metric="miou", name="miou_pct", words="mIoU percent", factor=100.0, label="mIoU (%)", decimals=2
        ),
        Unit(metric="macs", name="gmacs", words="GMACs", factor=1e-9, label="GMACs per image", decimals=3),
        Unit(
            metric="flops", name="gflops", words="GFLOPs", factor=1e-9, label="GFLOPs per image", decimals=3
        ),
        Unit(
            metric="num_params",
            name="params_m",
            words="parameters in M",
            factor=1e-6,
            label="parameters (M)",
            decimals=3,
        ),
        _plain("images_per_second", words="images per s", label="images/s", decimals=1),
        _plain("latency_ms_p50", words="median latency in ms", label="median latency (ms)", decimals=2),
        _plain("latency_ms_p90", words="p90 latency in ms", label="p90 latency (ms)", decimals=2),
        _plain("latency_ms_p99", words="p99 latency in ms", label="p99 latency (ms)", decimals=2),
    )
}


def unit_of(metric: str) -> Unit:
    """The unit of a metric; a metric without an entry is shown as it is stored."""
    return UNITS.get(metric) or _plain(metric, words=metric, label=metric, decimals=4)


def rounded(metric: str, value: float) -> tuple[str, float]:
    """Readable name and value for MLflow's table, which prints every digit that it is given."""
    unit = unit_of(metric)
    return unit.name, round(unit.factor * value, unit.decimals)


def shown(metric: str, value: float) -> float:
    """The value of a metric in the unit that people read."""
    return unit_of(metric).factor * value
