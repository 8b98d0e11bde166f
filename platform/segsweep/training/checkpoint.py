"""Checkpoints: written whole or not at all, with their own digest, read without unpickling code.

A file is what ``torch.save`` writes, a zip archive, with the SHA-256 of everything before it as the archive's
comment. So one file or object carries its own proof, any torch reads it, and damage shows before use.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from segsweep.errors import DataError, EnvironmentProblem

FORMAT = 2
READABLE = (1, 2)  # 1: without digest, step and random state
_MARK = b"sha256:"
_HEX_LENGTH = 64
_ZIP_END = b"PK\x05\x06"  # "end of central directory": 22 bytes, the last two the length of the comment
_ZIP_END_LENGTH = 22
_CHUNK = 2**20
_ALLOCATOR = "DefaultCPUAllocator"  # torch raises RuntimeError when the system has no memory left
_REMEDY = "delete it to start again, or resume from an older one"


class Writable(Protocol):
    """Where bytes go: an open file, or a stream to an object store."""

    def write(self, data: Any, /) -> Any:
        """Take some bytes."""
        ...


def write_checkpoint(stream: Writable, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain values) with its digest; the stream is only ever appended to.

    Raises:
        OSError: What the stream raised.
    """
    writer = _DigestingWriter(stream)
    torch.save({"format": FORMAT, **state}, writer)  # type: ignore[arg-type]
    writer.finish()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that a reader sees the old file or the new one, also after a power cut.

    Raises:
        EnvironmentProblem: If it cannot be written, for example on a full disk; the old file is intact then.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        write_checkpoint(stream, state)
        stream.flush()
        os.fsync(stream.fileno())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``, tensors on the CPU.

    Raises:
        DataError: If there is no such file, or it is damaged, or of another format.
        EnvironmentProblem: If the file system does not give it out: that says nothing about its content.
        MemoryError: If the memory does not suffice for a checkpoint that is whole.
    """
    try:
        with path.open("rb") as stream:
            return read_checkpoint(stream, name=str(path))
    except FileNotFoundError as error:
        raise DataError(f"{path}: not a readable checkpoint ({type(error).__name__}); {_REMEDY}") from error
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: the checkpoint could not be read ({error.strerror or error}); mend the folder or its "
            f"file system, then go on with --resume, or move the file away to go on from an older one"
        ) from error


def read_checkpoint(stream: BinaryIO, *, name: str) -> dict[str, Any]:
    """Read a checkpoint out of a seekable stream.

    Args:
        stream: At any position.
        name: What to call it in messages.

    Raises:
        DataError: If its digest does not hold, or it is damaged otherwise, or of another format.
        OSError: What the stream raised.
        MemoryError: If the digest holds and the memory does not suffice.
    """
    has_digest = _digest_holds(stream, name)
    try:
        state = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets in a damaged file
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: sent to a place of no file
            raise
        if has_digest and (isinstance(error, MemoryError) or _ALLOCATOR in str(error)):
            raise MemoryError(f"{name}: {error}") from error
        raise DataError(f"{name}: not a readable checkpoint ({type(error).__name__}); {_REMEDY}") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found not in READABLE:
        raise DataError(f"{name}: checkpoint format {found!r}, this version reads {FORMAT}")
    if found != 1 and not has_digest:
        raise DataError(f"{name}: damaged, its end with the digest is missing; {_REMEDY}")
    return dict(state)


def checkpoint_step(path: Path) -> int | None:
    """Optimiser steps behind a checkpoint, without reading its tensors; ``None`` if it does not say.

    Raises:
        What ``load_checkpoint`` raises, if it cannot be read at all.
    """
    try:
        step: int | None = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("step")
    except Exception:  # damaged, not readable now, or on a file system that maps no files
        step = load_checkpoint(path).get("step")
    return step


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place at the end, or vanishes after an error.

    Raises:
        EnvironmentProblem: If the block or the replacement raises ``OSError``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentProblem(_not_written(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of ``path`` whose writer was killed; only its one writer may call this."""
    for temporary in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last, where the file system can: the file itself is in its place by now."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _not_written(path: Path, error: OSError) -> str:
    free = ""
    with suppress(OSError):
        free = f"; {shutil.disk_usage(path.parent).free / 2**20:,.0f} MiB are free there"
    return (
        f"{path}: the checkpoint could not be written ({error.strerror or error}{free}); what was there "
        f"before is intact: free some space or mend the folder, then go on with --resume"
    )


def _digest_holds(stream: BinaryIO, name: str) -> bool:
    """Whether there is a digest; raises ``DataError`` if it is not that of the bytes before it."""
    length = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, length - len(_MARK) - _HEX_LENGTH))
    mark, written = (end := stream.read())[: len(_MARK)], end[len(_MARK) :]
    stream.seek(0)
    if mark != _MARK:
        return False
    digest, left = hashlib.sha256(), length - _HEX_LENGTH
    while left and (chunk := stream.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    stream.seek(0)
    if digest.hexdigest().encode() != written:
        raise DataError(f"{name}: damaged, its SHA-256 is not the one it was written with; {_REMEDY}")
    return True


class _DigestingWriter:
    """Between torch and a stream: adds the digest at the end.

    The last bytes are held back, since the length of the archive's comment stands before the comment. An
    error of the stream is kept until ``finish``: it should not travel through torch's C++.
    """

    def __init__(self, stream: Writable) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._held = b""
        self._error: Exception | None = None

    def write(self, data: Any) -> int:
        """Take bytes or a view of them that is valid only during the call."""
        view = memoryview(data)
        keep = min(len(view), _ZIP_END_LENGTH)
        held = self._held + bytes(view[len(view) - keep :])
        if keep == _ZIP_END_LENGTH:
            self._pass_on(self._held)
            self._pass_on(view[:-_ZIP_END_LENGTH])
        else:
            self._pass_on(held[:-_ZIP_END_LENGTH])
        self._held = held[-_ZIP_END_LENGTH:]
        return len(view)

    def flush(self) -> None:
        """Part of what torch asks of a file; the stream is flushed by who opened it."""

    def finish(self) -> None:
        """Write the archive's end with the digest as its comment."""
        if not (self._held.startswith(_ZIP_END) and self._held.endswith(b"\0\0")) and self._error is None:
            raise RuntimeError("torch.save no longer ends with a plain zip directory; pin the torch version")
        self._pass_on(self._held[:-2] + (len(_MARK) + _HEX_LENGTH).to_bytes(2, "little") + _MARK)
        self._pass_on(self._digest.hexdigest().encode())
        if self._error is not None:
            raise self._error

    def _pass_on(self, data: bytes | memoryview) -> None:
        if self._error is not None or not len(data):
            return
        try:
            self._stream.write(data)
            self._digest.update(data)
        except Exception as error:
            self._error = error
