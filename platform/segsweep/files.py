"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DRIVER_LOCK = "driver.lock"  # in a run's folder; held by the one process that works there
PRIVATE = 0o600  # readable by its owner only
_USUAL = 0o666  # less what the umask takes away


def write_whole(path: Path, text: str, *, mode: int = _USUAL) -> None:
    """Write a UTF-8 text so that a reader sees the old file or the new one, also after a power cut.

    Args:
        path: In a folder that exists.
        text: All of it.
        mode: Of the new file, from its first moment; ``PRIVATE`` for secrets.

    Raises:
        OSError: If it cannot be written, for example on a full disk; the old file is intact then.
    """
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` whose file takes its place at the end, or vanishes after an error.

    Names differ between processes, machines and threads: writers of one path never meet.

    Raises:
        OSError: What the block or the replacement raised.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename last where that is possible: not every file system syncs folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
