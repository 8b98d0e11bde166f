"""Published sizes and costs beside what this code counts (``segsweep paper``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from segsweep.cost.measure import count_config
from segsweep.models.methods.eseg import PRESETS as ESEG_PRESETS

Quantity = Literal["params", "macs"]


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One published figure.

    Attributes:
        method: Key of ``METHODS``.
        source: Paper and table.
        item: The design as the paper names it.
        quantity: ``"params"`` or ``"macs"`` (multiply-accumulates of one image).
        published: The paper's figure.
        computed: What this code counts by ``convention``.
        ratio: Computed over published.
        convention: How ``computed`` was counted, image size and classes included.
        unexplained: Whether the difference is known and has no explanation.
    """

    method: str
    source: str
    item: str
    quantity: Quantity
    published: float
    computed: float
    ratio: float
    convention: str
    unexplained: bool = False


@dataclass(frozen=True, kw_only=True)
class _Published:
    source: str
    item: str
    preset: str
    params: float | None = None
    macs: float | None = None


_ESEG_SIZE = (1024, 2048)
_ESEG_CLASSES = 19
_ESEG_FIGURES = (
    _Published(source="ESeg, Table 1", item="ESeg-S, P2-P5", preset="eseg-s-p5", params=6.4e6, macs=34.3e9),
    _Published(source="ESeg, Table 1", item="ESeg-S, P2-P7", preset="eseg-s-p7", params=6.6e6, macs=34.5e9),
    _Published(source="ESeg, Table 1", item="ESeg-S, P2-P9", preset="eseg-s", params=6.9e6, macs=34.5e9),
    _Published(source="ESeg, Table 2", item="FPN, P2-P5", preset="eseg-s-fpn-p5", macs=39.8e9),
    _Published(source="ESeg, Table 2", item="FPN, P2-P9", preset="eseg-s-fpn-p9", macs=40.0e9),
    _Published(source="ESeg, Table 2", item="BiFPN, P2-P5", preset="eseg-s-p5", macs=34.3e9),
    _Published(source="ESeg, Table 2", item="BiFPN, P2-P9", preset="eseg-s", macs=34.5e9),
    _Published(source="ESeg, Table 4", item="ESeg-S", preset="eseg-s", params=6.9e6, macs=34.5e9),
    _Published(source="ESeg, Table 4", item="ESeg-M", preset="eseg-m", params=20.0e6, macs=112e9),
    _Published(source="ESeg, Table 4", item="ESeg-L", preset="eseg-l", params=70.5e6, macs=343e9),
    _Published(source="ESeg, Lite models", item="ESeg-Lite-S", preset="eseg-lite-s", macs=17e9),
    _Published(source="ESeg, encoder ablation", item="R50 + BiFPN", preset="eseg-s-resnet50", macs=188.0e9),
)


def paper_rows(method: str) -> list[PaperRow]:
    """Every published parameter count and cost of a method that this code can build.

    Raises:
        KeyError: If no figures are recorded for the method.
    """
    return list(_ROWS[method]())


def _eseg_rows() -> Iterator[PaperRow]:
    for figure in _ESEG_FIGURES:
        config = ESEG_PRESETS[figure.preset]
        params, operations = count_config(config, num_classes=_ESEG_CLASSES, size=_ESEG_SIZE)
        if figure.params is not None:
            yield _eseg_row(figure, "params", (figure.params, params), "trainable parameters, 19 classes")
        if figure.macs is not None:
            counts = (figure.macs, operations.tensorflow_flops)
            yield _eseg_row(figure, "macs", counts, _ESEG_CONVENTION)


_ESEG_CONVENTION = "1024x2048, 19 classes: MACs + half of the element-wise operations (google/automl)"


def _eseg_row(
    figure: _Published, quantity: Quantity, counts: tuple[float, float], convention: str
) -> PaperRow:
    published, computed = counts
    return PaperRow(
        method="eseg",
        source=figure.source,
        item=figure.item,
        quantity=quantity,
        published=published,
        computed=computed,
        ratio=computed / published,
        convention=convention,
    )


_ROWS = {"eseg": _eseg_rows}
