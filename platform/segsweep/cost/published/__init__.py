"""Published sizes and costs beside what this code counts (``segsweep paper``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from segsweep.cost.published import cts, eseg, hfgd, maskformer, senformer
from segsweep.cost.published.row import PaperRow, Quantity

__all__ = ["PAPERS", "PaperRow", "Quantity", "paper_rows"]

PAPERS: dict[str, Callable[[], Iterator[PaperRow]]] = {
    "cts": cts.rows,
    "eseg": eseg.rows,
    "hfgd": hfgd.rows,
    "maskformer": maskformer.rows,
    "senformer": senformer.rows,
}


def paper_rows(method: str) -> list[PaperRow]:
    """Every published parameter count, cost and reduction of a method that this code can build.

    Raises:
        KeyError: If no figures are recorded for the method.
    """
    return list(PAPERS[method]())
