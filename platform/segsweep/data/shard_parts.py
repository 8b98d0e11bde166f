"""Parts of a split: what one process prepares at a time, and what an interrupted preparation keeps.

A part is an Arrow file like a split's, for a few consecutive samples, with a record beside it. The record is
written last, so a part with a record is complete; both appear under their names only when they are on disk.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from PIL import Image as PilImage

from segsweep.data.interface import Image, Labels, Sample, Source
from segsweep.data.resampling import CropWindow, nearest_crop
from segsweep.data.shard_format import RowDigest, Size, arrow_schema, content_id
from segsweep.errors import DataError

WRITING = ".writing"  # ending of files that are not complete


@dataclass(frozen=True, kw_only=True)
class Part:
    """Consecutive samples of a split.

    Attributes:
        split: Name of the split.
        number: Place among the split's parts.
        start: Place of the first sample among all samples of the source.
        keys: Of the samples.
    """

    split: str
    number: int
    start: int
    keys: tuple[str, ...]

    @property
    def stem(self) -> str:
        """Name of the part's files without their endings."""
        return f"{self.split}-{self.number:05d}"


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """What a finished part holds.

    Attributes:
        split: Name of the split; ``number``: place among its parts.
        rows: Number of samples.
        bytes: Size of the file.
        sizes: Heights and widths that occur.
        counts: Pixels of each class, K numbers; ``ignored_pixels``: those that do not count.
        digest: SHA-256 over the keys and pixels of all rows.
    """

    split: str
    number: int
    rows: int
    bytes: int
    sizes: tuple[Size, ...]
    counts: tuple[int, ...]
    ignored_pixels: int
    digest: str


PartMap = Callable[[Callable[[Part], PartRecord], Sequence[Part]], Iterator[PartRecord]]


class BadSample(Exception):
    """A sample that cannot be read.

    Args:
        position: Place of the sample among all samples of the source.
        message: What is wrong with it.
    """

    def __init__(self, position: int, message: str) -> None:
        super().__init__(position, message)
        self.position, self.message = position, message


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Writes parts; can be sent to other processes and machines.

    Attributes:
        source: Where the samples come from.
        folder: Where the parts go.
        size: Height and width of every sample; ``None`` keeps each sample's own.
        fingerprint: Identity of the source's content.
        decoders: Threads that decode.
    """

    source: Source
    folder: Path
    size: Size | None
    fingerprint: str
    decoders: int = 1

    def __call__(self, part: Part) -> PartRecord:
        """Write a part; raises ``BadSample`` for the first one that cannot be read."""
        return self.write(part)

    def write(self, part: Part, *, on_sample: Callable[[], None] | None = None) -> PartRecord:
        """Write a part; ``on_sample`` is called after every sample."""
        path = self.folder / f"{part.stem}.arrow"
        with new_file(path) as file:
            writer = RowWriter(file, self._schema(part.split), self.source)
            for sample in self._samples(part):
                if on_sample is not None:
                    on_sample()
                writer.add(sample)
            writer.close()
        record = writer.record(part, size=path.stat().st_size)
        write_json(path.with_suffix(".json"), dataclasses.asdict(record))
        return record

    def finished(self, part: Part) -> PartRecord | None:
        """The record of a part that an earlier attempt finished and that is whole, else ``None``."""
        path = self.folder / f"{part.stem}.arrow"
        try:
            document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            record = PartRecord(
                **{
                    **document,
                    "sizes": tuple((height, width) for height, width in document["sizes"]),
                    "counts": tuple(document["counts"]),
                }
            )
            digest = RowDigest()
            for batch in batches(path):
                digest.add(*row_arrays(batch, self.source.info.label_dtype))
        except (OSError, ValueError, TypeError, KeyError, LookupError, pa.ArrowException):
            return None
        return record if digest.hexdigest() == record.digest and record.rows == len(part.keys) else None

    def _schema(self, split: str) -> pa.Schema:
        return arrow_schema(content=content_id(self.fingerprint, self.size, split))

    def _samples(self, part: Part) -> Iterator[Sample]:
        """Decode in threads, hand out in order; a few samples ahead, so that memory stays small."""
        waiting: deque[tuple[int, Future[Sample]]] = deque()
        keys = deque(enumerate(part.keys, start=part.start))
        with ThreadPoolExecutor(self.decoders) as pool:
            try:
                while keys or waiting:
                    while keys and len(waiting) < 2 * self.decoders:
                        position, key = keys.popleft()
                        waiting.append((position, pool.submit(self._load, part.split, key)))
                    position, future = waiting.popleft()
                    try:
                        yield future.result()
                    except DataError as error:
                        raise BadSample(position, str(error)) from error
            finally:
                pool.shutdown(cancel_futures=True)

    def _load(self, split: str, key: str) -> Sample:
        sample = self.source.load(split, key)
        if self.size is None:
            return sample
        return Sample(
            key=key,
            image=resize_image(sample.image, self.size),
            labels=resize_labels(sample.labels, self.size),
        )


class RowWriter:
    """Streams samples to an Arrow file, one record batch each, and counts as it goes."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, source: Source) -> None:
        self._schema, self._info = schema, source.info
        self._writer = pa.ipc.new_file(file, schema)
        self._counts = np.zeros(self._info.ignore_index + 1, dtype=np.int64)
        self._digest = RowDigest()
        self._sizes: set[Size] = set()
        self._rows = 0

    def add(self, sample: Sample) -> None:
        """Write one sample."""
        image = np.ascontiguousarray(sample.image.transpose(2, 0, 1))
        labels = np.ascontiguousarray(sample.labels, dtype=self._info.label_dtype)
        self._counts += np.bincount(labels.ravel(), minlength=len(self._counts))
        self._digest.add(sample.key, image, labels)
        self._writer.write_batch(self._row(sample.key, image, labels))
        self._sizes.add((labels.shape[0], labels.shape[1]))
        self._rows += 1

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()

    def record(self, part: Part, *, size: int) -> PartRecord:
        """What was written; ``size`` is that of the file in bytes."""
        return PartRecord(
            split=part.split,
            number=part.number,
            rows=self._rows,
            bytes=size,
            sizes=tuple(sorted(self._sizes)),
            counts=tuple(self._counts[: self._info.num_classes].tolist()),
            ignored_pixels=int(self._counts[self._info.ignore_index]),
            digest=self._digest.hexdigest(),
        )

    def _row(self, key: str, image: Image, labels: Labels) -> pa.RecordBatch:
        columns = [
            pa.array([key], pa.string()),
            pa.array([image.shape[1]], pa.int32()),
            pa.array([image.shape[2]], pa.int32()),
            _binary(image),
            _binary(labels),
        ]
        return pa.record_batch(columns, schema=self._schema)


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a part; read and not mapped, so that memory stays small."""
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for row in range(reader.num_record_batches):
            batch = reader.get_batch(row)
            batch.validate(full=True)
            yield batch


def row_arrays(batch: pa.RecordBatch, dtype: np.dtype[Any]) -> tuple[str, Image, Labels]:
    """Key, image ``(3, H, W)`` and labels ``(H, W)`` of a row."""
    key, height, width = (batch.column(column)[0].as_py() for column in range(3))
    image = np.frombuffer(batch.column(3)[0].as_buffer(), np.uint8).reshape(3, height, width)
    labels: Labels = np.frombuffer(batch.column(4)[0].as_buffer(), dtype).reshape(height, width)
    return key, image, labels


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name complete or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{WRITING}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: object) -> None:
    """Write a JSON file, complete or not at all."""
    with new_file(path) as file:
        file.write(json.dumps(document, indent=1).encode())


def resize_image(image: Image, size: Size) -> Image:
    """Resize ``(H, W, 3)`` to height and width ``size``: Pillow's bilinear filter, antialiased."""
    if image.shape[:2] == size:
        return image
    picture = PilImage.fromarray(image).resize((size[1], size[0]), PilImage.Resampling.BILINEAR)
    return np.asarray(picture)


def resize_labels(labels: Labels, size: Size) -> Labels:
    """Resize ``(H, W)`` to ``size`` by the nearest pixel centre, as defined in ``resampling``."""
    return nearest_crop(labels, CropWindow(resized=size, top=0, left=0, crop=size))


def _binary(pixels: Image | Labels) -> pa.Array:
    """One large_binary value that refers to the pixels without a copy."""
    offsets = np.array([0, pixels.nbytes], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(pixels)]
    return pa.Array.from_buffers(pa.large_binary(), 1, buffers, null_count=0)
