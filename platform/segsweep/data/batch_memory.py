"""Memory for batches that is used again: fresh memory costs as much as half of the augmentation."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

_MOST = 8  # arrays kept: images and labels of a few batches that are held at the same time


class BatchMemory:
    """Hands out tensors whose memory nobody else holds.

    A tensor made from a numpy array keeps a reference to it until the last view of it is gone. So an array
    without references but our own is free: batches that are kept, by a user or for a backward pass, are
    never overwritten. For one thread at a time.
    """

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []
        self._own_references = 0

    def __reduce__(self) -> tuple[type[BatchMemory], tuple[()]]:
        return BatchMemory, ()

    @property
    def kept(self) -> int:
        """Number of arrays held."""
        return len(self._arrays)

    def tensor(self, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """A tensor with arbitrary contents."""
        free = [place for place in range(len(self._arrays)) if self._is_free(place)]
        for place in free:
            array = self._arrays[place]
            if array.shape == shape and array.dtype == dtype:
                return torch.from_numpy(array)
        if len(self._arrays) >= _MOST and free:
            del self._arrays[free[0]]
        fresh = np.empty(shape, dtype)
        if len(self._arrays) < _MOST:
            self._keep(fresh)
        return torch.from_numpy(fresh)

    def _keep(self, array: NDArray[Any]) -> None:
        if not self._arrays:  # how many references an unused array has depends on the interpreter
            self._arrays.append(np.empty(0))
            self._own_references = sys.getrefcount(self._arrays[0])
            self._arrays.clear()
        self._arrays.append(array)

    def _is_free(self, place: int) -> bool:
        return sys.getrefcount(self._arrays[place]) <= self._own_references
