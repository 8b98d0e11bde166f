"""Where the checkpoints of one training lie: a folder, or a prefix of an object store.

Each is one file or object, ``step-000000042.pt``, that carries its own digest
(``segsweep.training.checkpoint``): so it is there or it is not, and nothing beside it can disagree with it.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from segsweep.errors import DataError, EnvironmentProblem, InvalidInput, Problem
from segsweep.training.checkpoint import (
    Writable,
    load_checkpoint,
    read_checkpoint,
    remove_leftovers,
    replacing,
    save_checkpoint,
    write_checkpoint,
)
from segsweep.training.checkpoint_settings import CheckpointSettings

T = TypeVar("T")

FOLDER = "checkpoints"  # in a training's own folder, unless its job names a store
_NAME = re.compile(r"step-(\d+)\.pt")
_DAMAGED = ".damaged"
_CHUNK = 2**20
_PAUSES_S = (1.0, 4.0)  # between attempts at an object store, beside those of its client


class CheckpointStore(Protocol):
    """Checkpoints by the optimiser steps behind them. One process writes, others may read."""

    def steps(self) -> list[int]:
        """Those that are there, newest first."""
        ...

    def name(self, step: int) -> str:
        """What to call one in messages."""
        ...

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Write one; raises ``EnvironmentProblem`` and leaves the others as they are."""

    def add(self, step: int, file: Path) -> None:
        """Take a checkpoint file that is written already."""

    def read(self, step: int) -> dict[str, Any]:
        """Read one; raises ``DataError`` if it is damaged or gone, ``EnvironmentProblem`` if out of reach."""
        ...

    def copy_to(self, step: int, file: Path) -> None:
        """Make a file of one."""

    def remove(self, step: int) -> None:
        """Forget one."""

    def set_aside(self, step: int) -> None:
        """Rename a damaged one so that it is no longer taken for one."""

    def write_text(self, name: str, text: str) -> None:
        """Keep a small file beside the checkpoints."""

    def read_text(self, name: str) -> str | None:
        """A small file, if it is there."""

    def tidy(self) -> None:
        """Remove what a killed writer left; only the writer may call this."""


def open_store(settings: CheckpointSettings, folder: Path, *, patient: bool = True) -> CheckpointStore:
    """The store of a training.

    Args:
        settings: Where; nothing is created before something is written.
        folder: The training's own folder; its name is that of its part of a store that trainings share.
        patient: Whether an object store that does not answer is asked again, for about half a minute.

    Raises:
        InvalidInput: If the address cannot be understood.
        EnvironmentProblem: If the region of a bucket had to be asked for in vain.
    """
    if settings.store is None:
        return FolderStore(folder / FOLDER)
    if settings.path is not None:
        return FolderStore(settings.path / folder.name)
    return ObjectStore(settings.store, folder.name, pauses=_PAUSES_S if patient else ())


class FolderStore:
    """A folder, local or shared: each file is written beside its place and then renamed to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Those in the folder, newest first; none if there is no folder."""
        return _steps(path.name for path in self.folder.glob("*.pt"))

    def name(self, step: int) -> str:
        """Its path."""
        return str(self._path(step))

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Write one whole or not at all."""
        save_checkpoint(self._path(step), state)

    def add(self, step: int, file: Path) -> None:
        """Link a file, or copy it from another file system."""
        _link_or_copy(file, self._path(step))

    def read(self, step: int) -> dict[str, Any]:
        """Read one."""
        return load_checkpoint(self._path(step))

    def copy_to(self, step: int, file: Path) -> None:
        """Link one, or copy it to another file system."""
        _link_or_copy(self._path(step), file)

    def remove(self, step: int) -> None:
        """Delete one; no matter if it is gone."""
        with suppress(OSError):
            self._path(step).unlink(missing_ok=True)

    def set_aside(self, step: int) -> None:
        """Rename one."""
        path = self._path(step)
        path.replace(path.with_name(path.name + _DAMAGED))

    def write_text(self, name: str, text: str) -> None:
        """Write a small file whole."""
        with replacing(self.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def read_text(self, name: str) -> str | None:
        """Read a small file."""
        with suppress(FileNotFoundError):
            return (self.folder / name).read_text(encoding="utf-8")
        return None

    def tidy(self) -> None:
        """Remove temporary files."""
        remove_leftovers(self.folder / "*")

    def _path(self, step: int) -> Path:
        return self.folder / _name(step)


class ObjectStore:
    """A prefix of an S3-compatible or Google store through pyarrow: an object appears when it is complete.

    Args:
        address: ``s3://bucket/prefix?options``; the bucket must exist.
        run_id: Last part of the prefix.
        pauses: Seconds to wait before trying again what the store refused.

    Raises:
        InvalidInput: If pyarrow does not understand the address.
    """

    def __init__(self, address: str, run_id: str, *, pauses: tuple[float, ...] = _PAUSES_S) -> None:
        from pyarrow import fs

        try:
            self._filesystem, prefix = fs.FileSystem.from_uri(address)
        except (ValueError, TypeError) as error:
            problem = Problem(where="checkpoints.store", message=f"found {address!r}: {error}")
            raise InvalidInput([problem]) from error
        except OSError as error:  # the region of a bucket is asked for
            raise EnvironmentProblem(_not_reached(address, "open it", error)) from error
        self._folder = "/".join((*prefix.strip("/").split("/"), run_id))
        self._scheme = address.partition("://")[0]
        self._pauses = pauses

    def steps(self) -> list[int]:
        """Those below the prefix, newest first."""
        from pyarrow import fs

        selector = fs.FileSelector(self._folder, allow_not_found=True)
        found = self._patiently("list", lambda: self._filesystem.get_file_info(selector))
        return _steps(item.base_name for item in found)

    def name(self, step: int) -> str:
        """Its address without options."""
        return f"{self._scheme}://{self._path(step)}"

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Upload one as it is serialised."""
        self._upload(_name(step), lambda stream: write_checkpoint(_Owning(stream), state))

    def add(self, step: int, file: Path) -> None:
        """Upload a file."""

        def copy(stream: Any) -> None:
            with file.open("rb") as source:
                shutil.copyfileobj(source, stream, _CHUNK)

        self._upload(_name(step), copy)

    def read(self, step: int) -> dict[str, Any]:
        """Download one into memory."""
        return read_checkpoint(io.BytesIO(self._download(step)), name=self.name(step))

    def copy_to(self, step: int, file: Path) -> None:
        """Download one into a file."""
        data = self._download(step)
        with replacing(file) as temporary:
            _copy_durably(io.BytesIO(data), temporary)

    def remove(self, step: int) -> None:
        """Delete one; no matter if it is gone or the store is away for a moment."""
        with suppress(OSError):
            self._filesystem.delete_file(self._path(step))

    def set_aside(self, step: int) -> None:
        """Rename one."""
        path = self._path(step)
        self._patiently("rename in", lambda: self._filesystem.move(path, path + _DAMAGED))

    def write_text(self, name: str, text: str) -> None:
        """Upload a small object."""
        self._upload(name, lambda stream: stream.write(text.encode()))

    def read_text(self, name: str) -> str | None:
        """Download a small object."""
        from pyarrow import fs

        path = f"{self._folder}/{name}"

        def read() -> str | None:
            if self._filesystem.get_file_info(path).type != fs.FileType.File:
                return None
            with self._filesystem.open_input_stream(path) as stream:
                return str(stream.read().decode())

        return self._patiently("read", read)

    def tidy(self) -> None:
        """Nothing: an upload that was not completed is no object."""

    def _path(self, step: int) -> str:
        return f"{self._folder}/{_name(step)}"

    def _upload(self, name: str, write: Callable[[Any], object]) -> None:
        path = f"{self._folder}/{name}"

        def upload() -> None:
            with self._filesystem.open_output_stream(path) as stream:
                write(stream)  # if it fails and half an object appears, that has no digest

        self._patiently("write to", upload)

    def _download(self, step: int) -> bytes:
        def download() -> bytes:
            with self._filesystem.open_input_stream(self._path(step)) as stream:
                return bytes(stream.read())

        try:
            return self._patiently("read", download)
        except FileNotFoundError as error:
            raise DataError(f"{self.name(step)}: no such object") from error

    def _patiently(self, what: str, action: Callable[[], T]) -> T:
        for pause in self._pauses:
            try:
                return action()
            except FileNotFoundError:  # waiting makes no bucket
                break
            except OSError:
                time.sleep(pause)
        try:
            return action()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and what == "read":
                raise
            raise EnvironmentProblem(_not_reached(f"{self._scheme}://{self._folder}", what, error)) from error


class _Owning:
    """Copies what it passes on: pyarrow uploads in the background, torch takes its memory back at once."""

    def __init__(self, stream: Writable) -> None:
        self._stream = stream

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(bytes(data))


def _name(step: int) -> str:
    return f"step-{step:09d}.pt"


def _steps(names: Any) -> list[int]:
    found = (_NAME.fullmatch(name) for name in names)
    return sorted((int(match[1]) for match in found if match), reverse=True)


def _link_or_copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without links
            with source.open("rb") as stream:
                _copy_durably(stream, temporary)


def _copy_durably(source: BinaryIO, target: Path) -> None:
    """Copy to a file, on the disk when this returns: a rename may survive a power cut that data do not."""
    with target.open("wb") as stream:
        shutil.copyfileobj(source, stream, _CHUNK)
        stream.flush()
        os.fsync(stream.fileno())


def _not_reached(name: str, what: str, error: BaseException) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return (
        f"{name}: cannot {what} the checkpoint store ({reason}); check that address and bucket exist and "
        f"that every worker has credentials in its environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), "
        f"then go on with --resume"
    )
