"""A cache of shards: each data set is decoded once per size and machine, however many trials use it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segsweep.data.interface import Source
from segsweep.data.shard_format import SCHEMA_VERSION
from segsweep.data.shard_parts import PartMap
from segsweep.data.shard_reader import ShardSet, open_shards
from segsweep.data.shard_writer import Progress, disk_message, prepare
from segsweep.data.sources import open_source
from segsweep.errors import DataError


def cached(
    source_name: str,
    *,
    root: Path | None,
    size: tuple[int, int] | None,
    cache: Path,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    workers: int = 0,
    part_map: PartMap | None = None,
) -> ShardSet:
    """Shards of a data set from the cache, made first if they are not there.

    The entry's name holds a hash of the source's fingerprint (names, sizes and times of its files, or
    its options), the size and the schema version: changed data never meet old shards. Of several
    processes one prepares and the others wait; a damaged entry is made anew.

    Args:
        source_name: Key of ``DATASETS``.
        root: Folder of the data; ``None`` for data sets that are made up.
        size: Height and width of every sample; ``None`` keeps each sample's own.
        cache: Folder of the cache, on a disk of this machine.
        options: Settings of the source.
        progress: Called with the number of finished samples and of all samples.
        workers: Processes that decode, as in ``prepare``; ``part_map`` likewise.

    Raises:
        DataError: If the data or the cache folder cannot be used.
    """
    source = open_source(source_name, root=root, options=options)
    entry = cache / entry_name(source, size=size)
    found = _opened(entry)
    if found is not None:
        return found
    with _locked(entry.with_name(f"{entry.name}.lock")) as alone:
        found = _opened(entry)  # made by another process while this one waited
        if found is not None:
            return found
        if alone:
            _clean(entry)
        return prepare(source, entry, size=size, progress=progress, workers=workers, part_map=part_map)


def entry_name(source: Source, *, size: tuple[int, int] | None) -> str:
    """Folder name of a cache entry, for example ``"camvid-240x320-1f3a5c7e9b2d"``."""
    content = json.dumps([SCHEMA_VERSION, source.fingerprint(), size])
    shape = "own-size" if size is None else f"{size[0]}x{size[1]}"
    return f"{source.info.name}-{shape}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _opened(entry: Path) -> ShardSet | None:
    """The entry, or ``None`` if it must be made: absent, or damaged beyond use."""
    if not entry.is_dir():
        return None
    try:
        return open_shards(entry)
    except DataError:
        return None


def _clean(entry: Path) -> None:
    """Remove a damaged entry and what killed processes left; only the holder of the lock may."""
    leftovers = [entry, *entry.parent.glob(f".{entry.name}.*.partial")]
    for folder in leftovers:
        if folder.exists():
            shutil.rmtree(folder)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock between processes; false where the file system has none (renaming stays safe there)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise DataError(disk_message(path.parent, error)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True  # closing the file unlocks it
