"""One published figure beside what this code counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Quantity = Literal["params", "macs", "reduction"]


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One published figure.

    Attributes:
        method: Key of ``METHODS``.
        source: Paper and table.
        item: The design as the paper names it.
        quantity: ``"params"``, ``"macs"`` (multiply-accumulates of one image), or ``"reduction"`` (share of
            tokens saved, 0 to 1).
        published: The paper's figure.
        computed: What this code counts by ``convention``.
        ratio: Computed over published.
        convention: How ``computed`` was counted, image size and classes included.
        complete_macs: Multiply-accumulates of all convolutions and matrix products, whatever the paper
            counts; ``None`` in rows of parameters and reductions.
        note: What a reader must know to judge the ratio.
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
    complete_macs: int | None = None
    note: str = ""
    unexplained: bool = False
