"""Writing shards: one pass over a source, a few samples in memory, all or nothing on disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image as PilImage

from segsweep.data.interface import DatasetInfo, Image, Labels, Sample, Source
from segsweep.data.resampling import CropWindow, nearest_crop
from segsweep.data.shard_format import (
    INDEX,
    Index,
    Size,
    SplitIndex,
    arrow_schema,
    content_id,
    file_name,
    read_index,
)
from segsweep.data.shard_reader import RowDigest, ShardSet, open_shards
from segsweep.errors import DataError

Progress = Callable[[int, int], None]

_DECODERS = min(4, os.cpu_count() or 1)  # threads: PNG and JPEG decoding leave the interpreter lock
_SHOWN = 10  # bad samples in one message
_LOOK_ON = 200  # samples read after the first bad one, to report several at once


def prepare(
    source: Source, out: Path, *, size: tuple[int, int] | None = None, progress: Progress | None = None
) -> ShardSet:
    """Decode every sample of a source, resize it and write it to a new folder.

    Args:
        source: Where the samples come from.
        out: Folder to make. Shards of the same source, content and size that lie there are reused.
        size: Height and width of every sample; ``None`` keeps each sample's own. Images are resized
            with Pillow's antialiased bilinear filter, labels with the nearest pixel.
        progress: Called with the number of finished samples and of all samples.

    Raises:
        DataError: If the source has problems (all that were found), ``out`` holds something else, or
            the disk is full or read-only. Nothing is left behind then.
    """
    raise_problems(source)
    fingerprint = source.fingerprint()
    if out.is_dir() and any(out.iterdir()):
        return _reused(out, fingerprint=fingerprint, size=size)
    _check_space(source, out, size=size)
    with _new_folder(out) as folder:
        index = _write_splits(source, folder, size=size, fingerprint=fingerprint, progress=progress)
        _write_index(folder / INDEX, index)
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


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resize ``(H, W, 3)`` to height and width ``size``: Pillow's bilinear filter, antialiased."""
    if image.shape[:2] == size:
        return image
    picture = PilImage.fromarray(image).resize((size[1], size[0]), PilImage.Resampling.BILINEAR)
    return np.asarray(picture)


def resize_labels(labels: Labels, size: tuple[int, int]) -> Labels:
    """Resize ``(H, W)`` to ``size`` by the nearest pixel centre, as defined in ``resampling``."""
    return nearest_crop(labels, CropWindow(resized=size, top=0, left=0, crop=size))


@dataclass
class _SplitWriter:
    """Streams rows to one Arrow file, one record batch each, and counts as it goes."""

    info: DatasetInfo
    schema: pa.Schema
    path: Path

    def write(self, samples: Iterator[Sample]) -> SplitIndex:
        counts = np.zeros(self.info.ignore_index + 1, dtype=np.int64)
        digest = RowDigest()
        sizes: set[Size] = set()
        rows = 0
        with self.path.open("wb") as file:
            with pa.ipc.new_file(file, self.schema) as writer:
                for sample in samples:
                    image = np.ascontiguousarray(sample.image.transpose(2, 0, 1))
                    labels = np.ascontiguousarray(sample.labels, dtype=self.info.label_dtype)
                    counts += np.bincount(labels.ravel(), minlength=len(counts))
                    digest.add(sample.key, image, labels)
                    writer.write_batch(self._row(sample.key, image, labels))
                    sizes.add((labels.shape[0], labels.shape[1]))
                    rows += 1
            file.flush()
            os.fsync(file.fileno())
        num_classes = self.info.num_classes
        return SplitIndex(
            rows=rows,
            bytes=self.path.stat().st_size,
            size=sizes.pop() if len(sizes) == 1 else None,
            class_histogram=tuple(counts[:num_classes].tolist()),
            ignored_pixels=int(counts[self.info.ignore_index]),
            digest=digest.hexdigest(),
        )

    def _row(self, key: str, image: Image, labels: Labels) -> pa.RecordBatch:
        columns = [
            pa.array([key], pa.string()),
            pa.array([image.shape[1]], pa.int32()),
            pa.array([image.shape[2]], pa.int32()),
            _binary(image),
            _binary(labels),
        ]
        return pa.record_batch(columns, schema=self.schema)


def _binary(pixels: Image | Labels) -> pa.Array:
    """One large_binary value that refers to the pixels without a copy."""
    offsets = np.array([0, pixels.nbytes], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(pixels)]
    return pa.Array.from_buffers(pa.large_binary(), 1, buffers, null_count=0)


def _write_splits(
    source: Source, folder: Path, *, size: tuple[int, int] | None, fingerprint: str, progress: Progress | None
) -> Index:
    splits = {}
    keys = [(split, key) for split in source.splits() for key in source.keys(split)]
    samples = _samples(source, keys, size=size, progress=progress)
    for split in source.splits():
        schema = arrow_schema(content=content_id(fingerprint, size, split))
        writer = _SplitWriter(info=source.info, schema=schema, path=folder / file_name(split))
        count = len(source.keys(split))
        splits[split] = writer.write(next(samples) for _ in range(count))
    return Index(info=source.info, resized_to=size, fingerprint=fingerprint, splits=splits)


def _samples(
    source: Source, keys: list[tuple[str, str]], *, size: tuple[int, int] | None, progress: Progress | None
) -> Iterator[Sample]:
    """Decode in threads, hand out in order; a few samples ahead, so that memory stays small."""

    def load(split: str, key: str) -> Sample:
        sample = source.load(split, key)
        if size is None:
            return sample
        return Sample(
            key=key, image=resize_image(sample.image, size), labels=resize_labels(sample.labels, size)
        )

    waiting: deque[Future[Sample]] = deque()
    with ThreadPoolExecutor(_DECODERS) as pool:
        try:
            for done in range(len(keys)):
                while len(waiting) < 2 * _DECODERS and done + len(waiting) < len(keys):
                    waiting.append(pool.submit(load, *keys[done + len(waiting)]))
                try:
                    sample = waiting.popleft().result()
                except DataError as error:
                    raise _all_bad(source, keys[done + 1 :], first=error) from error
                if progress is not None:
                    progress(done + 1, len(keys))
                yield sample
        finally:
            pool.shutdown(cancel_futures=True)


def _all_bad(source: Source, keys: list[tuple[str, str]], *, first: DataError) -> DataError:
    """Look a little further than the first bad sample, so that a user need not mend them one by one."""
    messages = [str(first)]
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


def _reused(out: Path, *, fingerprint: str, size: tuple[int, int] | None) -> ShardSet:
    index = read_index(out) if (out / INDEX).is_file() else None
    if index is not None and (index.fingerprint, index.resized_to) == (fingerprint, size):
        return open_shards(out)
    found = "shards of other data or another size" if index else "files that are not shards"
    raise DataError(f"{out}: folder holds {found}; give another folder or empty this one")


def _check_space(source: Source, out: Path, *, size: tuple[int, int] | None) -> None:
    if size is None:
        return
    samples = sum(len(source.keys(split)) for split in source.splits())
    needed = samples * size[0] * size[1] * (3 + source.info.label_dtype.itemsize)
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DataError(
            f"{out}: {samples} samples of {size[0]}x{size[1]} need {needed / 1e9:.1f} GB but the disk has "
            f"{free / 1e9:.1f} GB free; choose another disk or a smaller size"
        )


def _write_index(path: Path, index: Index) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(index.to_json())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears as ``out`` complete or not at all."""
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        temporary.chmod(0o755)  # mkdtemp allows only its owner; shards are shared by all users of a machine
        yield temporary
        _sync_folder(temporary)
        _rename(temporary, out)
        _sync_folder(out.parent)
    except OSError as error:
        raise DataError(disk_message(out, error)) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, out: Path) -> None:
    try:
        temporary.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # another process was faster: its shards hold the same, ours are thrown away


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
