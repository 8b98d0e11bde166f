from __future__ import annotations

import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segsweep.data.sources.plain_pickle import read_plain_pickle
from segsweep.errors import DataError

CONTENT = {
    "names": ["wall", "sky"],
    "nested": {"a": (1, 2.5, None, True, b"x")},
    "doubles": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
    "bytes": np.array([[0, 255]], np.uint8),
    "flags": np.array([True, False]),
    "big": np.array([1, 2], ">i4"),
    "text": np.array(["a", "long"]),
    "objects": np.array(["a", "b"], object),
    "none": np.zeros((0, 3)),
    "scalar": np.float32(0.5),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_plain_content_of_every_protocol_and_numpy_version_comes_back(
    tmp_path: Path, protocol: int, core: str
) -> None:
    path = tmp_path / "index.pkl"
    path.write_bytes(_with_core(pickle.dumps(CONTENT, protocol), core))
    content = read_plain_pickle(path)
    assert list(content) == list(CONTENT)
    assert content["names"] == CONTENT["names"]
    assert content["nested"] == CONTENT["nested"]
    assert content["scalar"] == 0.5
    assert content["objects"] == ["a", "b"]
    for key in ("doubles", "columns", "bytes", "flags", "big", "text", "none"):
        np.testing.assert_array_equal(content[key], CONTENT[key])


def _with_core(data: bytes, core: str) -> bytes:
    """The same pickle as another NumPy would write it; names of 4 and 5 carry their length."""
    for module in ("multiarray", "numeric"):
        for other in ("numpy._core", "numpy.core"):
            old, new = (f"{name}.{module}".encode() for name in (other, core))
            data = data.replace(b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new)
            data = data.replace(b"c" + old + b"\n", b"c" + new + b"\n")
    unframed = [(op, position) for op, _, position in pickletools.genops(data) if op.name == "FRAME"]
    for _, position in reversed(unframed):  # the lengths of frames no longer fit
        data = data[:position] + data[position + 9 :]
    return data


class _Runs:
    """What a hostile file holds: reading it with ``pickle`` calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_functions_are_not_called(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "made"
    for function, arguments in (
        (os.mkdir, (str(target),)),
        (eval, (f"__import__('os').mkdir({str(target)!r})",)),
    ):
        path = tmp_path / "index.pkl"
        path.write_bytes(pickle.dumps({"names": _Runs(function, *arguments)}, protocol))
        with pytest.raises(DataError, match=r"index.pkl: cannot be read as plain data .* names \w+\.\w+"):
            read_plain_pickle(path)
        assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nload\n.",
        b"cnumpy\ndtype\n}b.",  # assign attributes to what stands for a function
        b"cnumpy\ndtype\nN}\x86b.",
        b"Pname\n.",  # an object kept elsewhere
        b"\x82\x01.",  # a name from the extension registry
        b"cnumpy\ndtype\n(VO8\ntR.",  # a type by itself is no dictionary
        b"cnumpy\ndtype\n(Vi3\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(Vi4\nVabcd\ntR.",
    ],
)
def test_tricks_with_the_allowed_names_fail(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "index.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"index.pkl"):
        read_plain_pickle(path)


def test_arrays_whose_bytes_do_not_fit_their_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.pkl"
    data = pickle.dumps({"a": np.arange(6, dtype=np.uint8)}, 2)
    path.write_bytes(data.replace(b"K\x06\x85", b"K\x07\x85"))
    with pytest.raises(DataError, match=r"6 numbers for an array of shape \(7,\)"):
        read_plain_pickle(path)


def test_damaged_and_missing_files_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "index.pkl"
    with pytest.raises(DataError, match=r"file is missing"):
        read_plain_pickle(path)
    whole = pickle.dumps(CONTENT, 4)
    for data in (b"", b"\x80\x04", whole[: len(whole) // 2], b"not a pickle", os.urandom(200)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"index.pkl"):
            read_plain_pickle(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match=r"holds a list; allowed is a dictionary"):
        read_plain_pickle(path)
