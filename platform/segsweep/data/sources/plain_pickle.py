"""Reading a pickle file that strangers wrote, without running anything of it.

``pickle.load`` calls whatever function the file names. This reader knows the names that NumPy's arrays and
bytes need, and puts stand-ins of its own in their place: they check type and length and then view the bytes.
Everything else that a file names is refused. What comes out is numbers, text, plain containers and arrays.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.errors import DataError

_PLAIN_TYPE = re.compile(r"[biuf][1248]|f16|[SU]\d{1,5}|\?")
_OBJECTS = "O8"
_DAMAGED = (
    OSError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    OverflowError,
    RecursionError,
    MemoryError,
)


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, text, containers and NumPy arrays.

    Arrays of Python objects come back as flat lists; the file may be of any protocol and NumPy version.

    Raises:
        DataError: If the file is damaged, names anything else or is no dictionary.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; restore it") from error
    except _DAMAGED as error:
        raise DataError(
            f"{path}: cannot be read as plain data ({type(error).__name__} {error}); allowed are numbers, "
            "text, lists, dictionaries and NumPy arrays: restore the original file"
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: holds a {type(content).__name__}; allowed is a dictionary: restore the file"
        )
    return {str(key): _unwrapped(value) for key, value in content.items()}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        stand_in = _STAND_INS.get((module_name, global_name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"the file names {module_name}.{global_name}, which is not read")
        return stand_in


class _StandIn:
    """A callable that a pickle cannot change: assigning state to it fails."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("the file assigns to a function")


class _Type:
    """A NumPy type: its code without byte order, and the byte order once it is known."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not (code == _OBJECTS or _PLAIN_TYPE.fullmatch(code)):
            raise pickle.UnpicklingError(f"the file holds an array of type {code!r}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subtype, names, fields = state[1:5]
        if order not in tuple("<>|=") or any(part is not None for part in (subtype, names, fields)):
            raise pickle.UnpicklingError("the file holds an array of a structured type")
        self.order = order

    def array(self, raw: object, shape: object, *, fortran: bool) -> NDArray[Any] | list[Any]:
        if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError(f"the file holds an array of shape {shape!r}")
        if self.code == _OBJECTS:
            if not isinstance(raw, list) or len(raw) != math.prod(shape):
                raise pickle.UnpicklingError("the file holds an array of objects that are no list")
            return raw
        content = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 stored bytes as text
        if not isinstance(content, bytes | bytearray):
            raise pickle.UnpicklingError("the file holds an array without bytes")
        flat = np.frombuffer(content, np.dtype(self.order + self.code))
        if flat.size != math.prod(shape):
            raise pickle.UnpicklingError(f"the file holds {flat.size} numbers for an array of shape {shape}")
        return flat.reshape(shape, order="F" if fortran else "C")


class _Array:
    """An array whose bytes follow as its state."""

    __slots__ = ("content",)

    def __init__(self, *_: object) -> None:
        self.content: NDArray[Any] | list[Any] = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        self.content = _checked(kind).array(raw, shape, fortran=bool(fortran))


def _checked(kind: object) -> _Type:
    if not isinstance(kind, _Type):
        raise pickle.UnpicklingError("the file holds an array without a type")
    return kind


def _unwrapped(value: object) -> Any:
    return value.content if isinstance(value, _Array) else value


def _array_of_buffer(raw: object, kind: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.content = _checked(kind).array(raw, shape, fortran=order == "F")
    return array


def _scalar(kind: object, raw: object) -> Any:
    values = _checked(kind).array(raw, (1,), fortran=False)
    return values[0].item() if isinstance(values, np.ndarray) else values[0]


def _encoded(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("the file encodes text in an unknown way")
    return text.encode("latin1")


def _empty_bytes(*arguments: object) -> bytes:
    if arguments:
        raise pickle.UnpicklingError("the file builds bytes in an unknown way")
    return b""


_STAND_INS: dict[tuple[str, str], _StandIn] = {
    ("numpy", "ndarray"): _StandIn(_Array),
    ("numpy", "dtype"): _StandIn(_Type),
    ("_codecs", "encode"): _StandIn(_encoded),
    ("__builtin__", "bytes"): _StandIn(_empty_bytes),  # how old protocols write b""
    **{
        (f"numpy.{core}.{module}", name): _StandIn(function)
        for core in ("core", "_core")  # NumPy 1 and 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array_of_buffer),
        )
    },
}
