"""Reading one label matrix of a MATLAB file, classic (version 5..7) or HDF5 (version 7.3)."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from segsweep.data.interface import Labels
from segsweep.data.sources.converted_source import as_ids
from segsweep.errors import DataError

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512  # MATLAB puts its own header before the HDF5 signature
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    zlib.error,
    MatReadError,
)


def is_hdf5(path: Path) -> bool:
    """Whether a MATLAB file is of version 7.3; raises ``DataError`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_USER_BLOCK + len(_HDF5_SIGNATURE))
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; restore it or remove its partner") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); restore it") from error
    return head.startswith(_HDF5_SIGNATURE) or head[_USER_BLOCK:] == _HDF5_SIGNATURE


def matrix_ids(path: Path, name: str) -> Labels:
    """Ids ``(H, W)`` of a variable; raises ``DataError`` if file or variable is damaged or missing."""
    with _read(path, name):
        if is_hdf5(path):
            with _hdf5().File(path, "r") as file:
                values = file[name][()].T  # HDF5 keeps MATLAB's columns as rows
        else:
            values = loadmat(path, variable_names=[name])[name]
    return as_ids(np.asarray(values), path=path)


def matrix_size(path: Path, name: str) -> tuple[int, int]:
    """Height and width of a variable from the header; raises ``DataError`` likewise."""
    with _read(path, name):
        if is_hdf5(path):
            with _hdf5().File(path, "r") as file:
                width, height = file[name].shape
        else:
            height, width = {variable: shape for variable, shape, _ in whosmat(path)}[name]
    return int(height), int(width)


def cell_strings(path: Path, name: str) -> tuple[str, ...]:
    """Strings of a cell array, empty if there is no such variable."""
    with _read(path, name):
        if is_hdf5(path):
            with _hdf5().File(path, "r") as file:
                if name not in file:
                    return ()
                references = np.asarray(file[name][()]).ravel()
                return tuple("".join(map(chr, file[entry][()].ravel())) for entry in references)
        cells = loadmat(path, variable_names=[name]).get(name, np.empty(0, object))
        return tuple("".join(map(str, np.ravel(cell))) for cell in cells.ravel())


@contextmanager
def _read(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        detail = f"{type(error).__name__} {error}"
        raise DataError(
            f"{path}: variable {name!r} cannot be read ({detail}); allowed is a MATLAB file with an array "
            f"{name!r}: the file is damaged or of another data set, restore it"
        ) from error


def _hdf5() -> Any:
    try:
        return importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise DataError(
            "MATLAB files of version 7.3 are HDF5 and h5py is not installed; install it: `pip install h5py`"
        ) from error
