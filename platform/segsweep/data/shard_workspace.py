"""Where shards come into being: a hidden folder that becomes the result, or stays to be gone on with."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from segsweep.data.shard_parts import WRITING
from segsweep.errors import DataError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(out: Path) -> Iterator[bool]:
    """Hold the lock on making ``out``; waits for other processes.

    Gives false where the file system has no locks: then nobody may touch another's unfinished work.
    """
    path = out.with_name(f".{out.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path)
    except OSError as error:
        raise DataError(disk_message(out, error)) from error
    try:
        yield file is not None
    finally:
        if file is not None:
            path.unlink(missing_ok=True)  # while it is held: who waited sees that its file is gone
            file.close()


def _lock(path: Path) -> TextIO | None:
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            file.close()
            if error.errno in _NO_LOCKS:
                return None
            raise
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()


@contextmanager
def workspace(out: Path, *, identity: str | None) -> Iterator[Path]:
    """A folder to work in, beside ``out``.

    Args:
        out: What the folder will become.
        identity: Names the work, so that a later attempt finds what this one finished; ``None``: a folder
            of its own, which is removed whatever happens.

    Raises:
        DataError: If the disk cannot be written; what was finished is kept then, and the message says so.
    """
    folder: Path | None = None
    try:
        if identity is None:
            folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
            folder.chmod(0o755)  # mkdtemp allows only its owner; shards are shared by all users of a machine
        else:
            folder = out.with_name(f".{out.name}.{identity}.parts")
            _remove_others(folder, out)
            folder.mkdir(exist_ok=True)
        yield folder
    except OSError as error:
        kept = _tidy(folder, keep=identity is not None)
        more = f"; finished parts are kept in {folder}: run it again to go on, or delete them" if kept else ""
        raise DataError(disk_message(out, error) + more) from error
    finally:
        _tidy(folder, keep=identity is not None)


def publish(folder: Path, out: Path, *, keep: Collection[str]) -> None:
    """Let a finished folder appear as ``out``, with nothing but the files to keep."""
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink()
    _sync_folder(folder)
    try:
        folder.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(folder)  # another process was faster: its shards hold the same
    _sync_folder(out.parent)


def _remove_others(folder: Path, out: Path) -> None:
    """Remove what attempts with other data or another size left: ``out`` will not be theirs."""
    pattern = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{12}}\.parts")
    for path in out.parent.iterdir():
        if pattern.fullmatch(path.name) and path != folder:
            shutil.rmtree(path, ignore_errors=True)


def _tidy(folder: Path | None, *, keep: bool) -> bool:
    """Remove what is not finished, and the folder unless it holds finished parts; gives whether it does."""
    if folder is None or not folder.is_dir():
        return False
    if keep and any(folder.glob("*.json")):
        for path in folder.glob(f"*{WRITING}"):
            path.unlink(missing_ok=True)
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_message(path: Path, error: OSError) -> str:
    """What happened on the disk and what to do about it."""
    remedies = {
        errno.ENOSPC: "free some space or choose another disk",
        errno.EDQUOT: "your quota is used up: free some space or choose another disk",
        errno.EFBIG: "the file size limit was hit: raise `ulimit -f` or choose a smaller size",
        errno.EACCES: "choose a folder you may write to",
        errno.EPERM: "choose a folder you may write to",
        errno.EROFS: "the disk is read-only: choose another folder",
        errno.ENOTDIR: "a parent of the folder is a file: choose another folder",
        errno.EIO: "the disk reports damage: choose another disk",
    }
    remedy = remedies.get(error.errno or 0, "check the disk and choose another folder")
    return f"{path}: cannot be written ({error.strerror or error}); {remedy}"
