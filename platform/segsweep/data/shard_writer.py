"""Writing shards: parts in any number of processes, joined to one file per split, all or nothing on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from segsweep.data.interface import Source
from segsweep.data.process_map import process_map
from segsweep.data.shard_format import (
    INDEX,
    SCHEMA_VERSION,
    Index,
    RowDigest,
    Size,
    SplitIndex,
    arrow_schema,
    content_id,
    file_name,
    read_index,
    split_index,
)
from segsweep.data.shard_parts import (
    BadSample,
    Part,
    PartMap,
    PartRecord,
    PartWriter,
    batches,
    new_file,
    row_arrays,
    write_json,
)
from segsweep.data.shard_reader import ShardSet, open_shards
from segsweep.data.shard_workspace import disk_message, locked, publish, workspace
from segsweep.errors import DataError

__all__ = ["Progress", "disk_message", "prepare", "raise_problems"]

Progress = Callable[[int, int], None]

_DECODERS = min(4, os.cpu_count() or 1)  # threads: PNG and JPEG decoding leave the interpreter lock
_SHOWN = 10  # bad samples in one message
_LOOK_ON = 200  # samples read after the first bad one, to report several at once
_PART_ROWS, _PART_BYTES = 64, 2**28  # what an interruption may cost; whichever is less
_PART_ROWS_OF_ANY_SIZE = 16


def prepare(
    source: Source,
    out: Path,
    *,
    size: Size | None = None,
    progress: Progress | None = None,
    workers: int = 0,
    part_map: PartMap | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ShardSet:
    """Decode every sample of a source, resize it and write it to a new folder.

    An interrupted preparation keeps its finished parts in a hidden folder beside ``out``; the next one with
    the same data, ``out`` and size goes on from there, and removes it in the end.

    Args:
        source: Where the samples come from.
        out: Folder to make. Shards of the same source, content and size that lie there are reused.
        size: Height and width of every sample; ``None`` keeps each sample's own. Images are resized
            with Pillow's antialiased bilinear filter, labels with the nearest pixel.
        progress: Called with the number of finished samples and of all samples.
        workers: Processes that decode; 0 decodes in threads of this one.
        part_map: Writes parts elsewhere, such as on the nodes of a cluster, which must see ``out`` and the
            data under the same paths; instead of ``workers``.
        provenance: Kept in the index as JSON values: where the labels come from.

    Raises:
        DataError: If the source has problems (all that were found), ``out`` holds something else, or
            the disk is full or read-only.
    """
    raise_problems(source)
    fingerprint = source.fingerprint()
    if _in_use(out):
        return _reused(out, fingerprint=fingerprint, size=size)
    parts = _parts(source, size=size)
    _check_space(source, out, size=size, parts=parts)
    with locked(out) as alone:
        if _in_use(out):  # made by another process while this one waited
            return _reused(out, fingerprint=fingerprint, size=size)
        identity = _identity(fingerprint, size, parts) if alone else None
        with workspace(out, identity=identity) as folder:
            writer = PartWriter(
                source=source, folder=folder, size=size, fingerprint=fingerprint, decoders=_DECODERS
            )
            if part_map is None and workers > 0:
                part_map = process_map(workers)
            splits = _write_splits(writer, parts, part_map=part_map, progress=progress)
            index = Index(
                info=source.info,
                resized_to=size,
                fingerprint=fingerprint,
                splits=splits,
                provenance=dict(provenance) if provenance else None,
            )
            with new_file(folder / INDEX) as file:
                file.write(index.to_json().encode())
            publish(folder, out, keep={INDEX, *(file_name(split) for split in splits)})
    return open_shards(out)


def raise_problems(source: Source) -> None:
    """Raise one ``DataError`` with all problems of a source that show without decoding pixels."""
    problems = [str(problem) for problem in source.check()]
    problems += [
        f"split {split!r} of {source.info.name} is empty; add samples or remove the split"
        for split in source.splits()
        if not source.keys(split) and not problems
    ]
    if problems:
        more = [f"and {len(problems) - _SHOWN} more problems"] if len(problems) > _SHOWN else []
        raise DataError("\n".join(problems[:_SHOWN] + more))


def _parts(source: Source, *, size: Size | None) -> dict[str, list[Part]]:
    """The parts of every split."""
    rows = _PART_ROWS_OF_ANY_SIZE
    if size is not None:
        rows = max(1, min(_PART_ROWS, _PART_BYTES // _sample_bytes(source, size)))
    parts: dict[str, list[Part]] = {}
    start = 0
    for split in source.splits():
        keys = tuple(source.keys(split))
        firsts = range(0, len(keys), rows)
        parts[split] = [
            Part(split=split, number=number, start=start + first, keys=keys[first : first + rows])
            for number, first in enumerate(firsts)
        ]
        start += len(keys)
    return parts


def _sample_bytes(source: Source, size: Size) -> int:
    return size[0] * size[1] * (3 + source.info.label_dtype.itemsize)


def _identity(fingerprint: str, size: Size | None, parts: Mapping[str, Sequence[Part]]) -> str:
    """Names the work: parts of other data, another size or another division are not taken over."""
    division = {split: [len(part.keys) for part in own] for split, own in parts.items()}
    content = json.dumps([SCHEMA_VERSION, fingerprint, size, division])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _write_splits(
    writer: PartWriter,
    parts: Mapping[str, Sequence[Part]],
    *,
    part_map: PartMap | None,
    progress: Progress | None,
) -> dict[str, SplitIndex]:
    joined = {split: _joined(writer.folder, split) for split in parts}
    missing = [part for split, own in parts.items() if joined[split] is None for part in own]
    records = {part: record for part in missing if (record := writer.finished(part)) is not None}
    total = sum(len(part.keys) for own in parts.values() for part in own)
    written = sum(split.rows for split in joined.values() if split is not None)
    meter = _Meter(progress, done=written + sum(record.rows for record in records.values()), total=total)
    rest = [part for part in missing if part not in records]
    try:
        for part, record in _run(writer, rest, part_map=part_map, meter=meter):
            records[part] = record
    except BadSample as bad:
        for record_file in writer.folder.glob("*.json"):
            record_file.unlink()  # mended data are other data: nothing of this attempt would be taken over
        keys = [(part.split, key) for own in parts.values() for part in own for key in part.keys]
        raise _all_bad(writer.source, keys[bad.position + 1 :], first=bad.message) from bad
    return {
        split: joined[split] or _join(writer, split, [(part, records[part]) for part in own])
        for split, own in parts.items()
    }


class _Meter:
    """Counts samples for a progress callback."""

    def __init__(self, progress: Progress | None, *, done: int, total: int) -> None:
        self._progress, self._done, self._total = progress, done, total
        if done:
            self.add(0)

    def add(self, samples: int = 1) -> None:
        self._done += samples
        if self._progress is not None:
            self._progress(self._done, self._total)


def _run(
    writer: PartWriter, parts: Sequence[Part], *, part_map: PartMap | None, meter: _Meter
) -> Iterator[tuple[Part, PartRecord]]:
    """Write parts, here or where the map sends them."""
    if part_map is None:
        for part in parts:
            yield part, writer.write(part, on_sample=meter.add)
        return
    by_place = {(part.split, part.number): part for part in parts}
    if not parts:
        return
    for record in part_map(dataclasses.replace(writer, decoders=1), parts):
        part = by_place[record.split, record.number]
        if not (writer.folder / f"{part.stem}.arrow").is_file():
            raise DataError(
                f"{writer.folder}: a part was written elsewhere and is not visible here; all nodes must see "
                "this folder under the same path: choose a shared disk, or prepare on one machine"
            )
        meter.add(record.rows)
        yield part, record


def _joined(folder: Path, split: str) -> SplitIndex | None:
    """The index of a split that an earlier attempt joined and that has its size, else ``None``."""
    path = folder / file_name(split)
    try:
        index = split_index(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        return index if path.stat().st_size == index.bytes else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _join(writer: PartWriter, split: str, parts: Sequence[tuple[Part, PartRecord]]) -> SplitIndex:
    """Make one file of a split's parts and remove them."""
    path = writer.folder / file_name(split)
    files = [writer.folder / f"{part.stem}.arrow" for part, _ in parts]
    digest = parts[0][1].digest
    if len(files) == 1:
        files[0].rename(path)
    else:
        digest = _copy_rows(writer, split, files, path)
    records = [record for _, record in parts]
    sizes = {size for record in records for size in record.sizes}
    index = SplitIndex(
        rows=sum(record.rows for record in records),
        bytes=path.stat().st_size,
        size=sizes.pop() if len(sizes) == 1 else None,
        class_histogram=tuple(sum(counts) for counts in zip(*(r.counts for r in records), strict=True)),
        ignored_pixels=sum(record.ignored_pixels for record in records),
        digest=digest,
    )
    write_json(path.with_suffix(".json"), dataclasses.asdict(index))
    for file in files:
        file.unlink(missing_ok=True)
        file.with_suffix(".json").unlink(missing_ok=True)
    return index


def _copy_rows(writer: PartWriter, split: str, files: Sequence[Path], path: Path) -> str:
    """Copy all rows to one file; gives their digest."""
    schema = arrow_schema(content=content_id(writer.fingerprint, writer.size, split))
    digest = RowDigest()
    with new_file(path) as target, pa.ipc.new_file(target, schema) as rows:
        for file in files:
            for batch in batches(file):
                digest.add(*row_arrays(batch, writer.source.info.label_dtype))
                rows.write_batch(batch)
    return digest.hexdigest()


def _all_bad(source: Source, keys: Sequence[tuple[str, str]], *, first: str) -> DataError:
    """Look a little further than the first bad sample, so that a user need not mend them one by one."""
    messages = [first]
    for split, key in keys[:_LOOK_ON]:
        try:
            source.load(split, key)
        except DataError as error:
            messages.append(str(error))
        if len(messages) == _SHOWN:
            break
    unread = len(keys) - _LOOK_ON
    rest = [f"{unread} samples were not looked at"] if unread > 0 or len(messages) == _SHOWN else []
    return DataError("\n".join(messages + rest))


def _in_use(out: Path) -> bool:
    return out.is_dir() and any(out.iterdir())


def _reused(out: Path, *, fingerprint: str, size: Size | None) -> ShardSet:
    index = read_index(out) if (out / INDEX).is_file() else None
    if index is not None and (index.fingerprint, index.resized_to) == (fingerprint, size):
        return open_shards(out)
    found = "shards of other data or another size" if index else "files that are not shards"
    raise DataError(f"{out}: folder holds {found}; give another folder or empty this one")


def _check_space(
    source: Source, out: Path, *, size: Size | None, parts: Mapping[str, Sequence[Part]]
) -> None:
    if size is None:
        return
    counts = {split: sum(len(part.keys) for part in own) for split, own in parts.items()}
    joined = max((counts[split] for split, own in parts.items() if len(own) > 1), default=0)
    samples = sum(counts.values())
    needed = (samples + joined) * _sample_bytes(source, size)  # a split and its parts are there together
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DataError(
            f"{out}: {samples} samples of {size[0]}x{size[1]} need {needed / 1e9:.1f} GB but the disk has "
            f"{free / 1e9:.1f} GB free; choose another disk or a smaller size"
        )
