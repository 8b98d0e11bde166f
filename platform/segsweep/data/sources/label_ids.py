"""From the ids in a mask file to train ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import Labels
from segsweep.errors import DataError

_UNDECLARED = -1
_FEW_PIXELS = 0.001  # of the mask: undeclared ids this rare look like resampling, not like a class


@dataclass(frozen=True, kw_only=True)
class IdTable:
    """Ids as stored -> train ids.

    Attributes:
        train_ids: Stored id -> train id.
        void: Stored ids of pixels that do not count.
        ignore_index: What void becomes.
        others_are_void: Whether every id that is not declared is void as well.
        declared_in: File or layout that declares the ids, for messages.
    """

    train_ids: Mapping[int, int]
    void: Collection[int]
    ignore_index: int
    others_are_void: bool = False
    declared_in: str

    def apply(self, ids: Labels, *, path: Path, dtype: np.dtype[Any]) -> Labels:
        """Train ids of a mask; raises ``DataError`` with the ids that no class declares."""
        if ids.dtype == np.uint8 and dtype == np.uint8:
            stored = ids.tobytes()
            if not stored.translate(None, delete=self._declared_bytes):  # nothing is left without them
                return np.frombuffer(stored.translate(self._byte_table), np.uint8).reshape(ids.shape)
        table = self._table()
        counts = np.bincount(ids.ravel())
        undeclared = np.flatnonzero((counts > 0) & (table[: len(counts)] == _UNDECLARED))
        if undeclared.size:
            raise DataError(self._message(path, undeclared, counts))
        return table.astype(dtype)[ids]

    @cached_property
    def _byte_table(self) -> bytes:
        """Train id of every stored id below 256; bytes translate five times as fast as arrays index."""
        table = self._table()[:256]
        return np.where(table == _UNDECLARED, self.ignore_index, table).astype(np.uint8).tobytes()

    @cached_property
    def _declared_bytes(self) -> bytes:
        """Stored ids below 256 that have a train id or are void."""
        return np.flatnonzero(self._table()[:256] != _UNDECLARED).astype(np.uint8).tobytes()

    def _table(self) -> NDArray[np.int32]:
        fill = self.ignore_index if self.others_are_void else _UNDECLARED
        table = np.full(2**16, fill, dtype=np.int32)
        table[list(self.void)] = self.ignore_index
        for stored, train_id in self.train_ids.items():
            table[stored] = train_id
        return table

    def _message(self, path: Path, undeclared: NDArray[np.intp], counts: NDArray[np.intp]) -> str:
        share = {int(stored): counts[stored] / counts.sum() for stored in undeclared}
        found = ", ".join(f"{stored} ({part:.2%} of its pixels)" for stored, part in list(share.items())[:8])
        more = f" and {len(share) - 8} more" if len(share) > 8 else ""
        allowed = f"ids {_ranges(self.train_ids)} are classes and {_ranges(self.void)} void"
        return f"{path}: mask holds ids {found}{more}; in {self.declared_in} {allowed}; {_cause(share)}"


def _cause(share: Mapping[int, float]) -> str:
    if len(share) == 1 and next(iter(share)) in (0, 255, 65535):
        stored = next(iter(share))
        return f"likely {stored} is this data set's void value: declare it, as in `void: [{stored}]`"
    if len(share) > 8 or max(share.values()) < _FEW_PIXELS:
        return "likely the mask was resized or saved with interpolation or JPEG: export it again with nearest"
    return "likely classes or a void value are not declared: add them to `classes` or to `void`"


def _ranges(ids: Collection[int]) -> str:
    """``{0, 1, 2, 7}`` as ``"0..2, 7"``."""
    parts: list[list[int]] = []
    for stored in sorted(ids):
        if parts and stored == parts[-1][1] + 1:
            parts[-1][1] = stored
        else:
            parts.append([stored, stored])
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in parts) or "none"
