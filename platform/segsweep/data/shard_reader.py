"""Reading shards: samples are views of a memory map, nothing is copied or decoded."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from segsweep.data.interface import DatasetInfo, Image, Labels
from segsweep.data.shard_format import (
    MAGIC,
    REMAKE,
    Index,
    RowDigest,
    SplitIndex,
    check_schema,
    content_id,
    file_name,
    read_index,
)
from segsweep.errors import DataError

# Not named by Python's mmap module; without it Linux refuses a private map larger than its memory.
_MAP_NORESERVE = 0x4000


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """An opened shard folder; plain and small, so it can be sent to workers.

    Attributes:
        path: The folder.
        index: What it holds.
    """

    path: Path
    index: Index

    @property
    def info(self) -> DatasetInfo:
        """The data set."""
        return self.index.info

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every sample; ``None`` if they differ."""
        return self.index.size

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each split."""
        return {name: split.rows for name, split in self.index.splits.items()}

    @property
    def class_histogram(self) -> dict[str, tuple[int, ...]]:
        """Pixels of each class in each split; ignored pixels are not among them."""
        return {name: split.class_histogram for name, split in self.index.splits.items()}

    @property
    def ignored_pixels(self) -> dict[str, int]:
        """Pixels of each split that do not count."""
        return {name: split.ignored_pixels for name, split in self.index.splits.items()}

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of all keys, pixels and class names: equal digests, equal data."""
        parts = [repr((self.info.class_names, self.info.ignore_index))]
        parts += [f"{name} {split.digest}" for name, split in self.index.splits.items()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def dataset(self, split: str) -> ShardDataset:
        """The samples of a split; raises ``DataError`` if there is no such split."""
        if split not in self.index.splits:
            raise DataError(f"{self.path}: has no split {split!r}; it has {', '.join(self.index.splits)}")
        return ShardDataset(self.path, split)

    def verify(self) -> None:
        """Read every pixel, which opening does not; raises ``DataError`` if any has changed since."""
        for name, split in self.index.splits.items():
            dataset = self.dataset(name)
            digest = RowDigest()
            for row in range(len(dataset)):
                digest.add(dataset.key(row), *dataset.arrays(row))
            if digest.hexdigest() != split.digest:
                raise DataError(f"{self.path / file_name(name)}: pixels differ from those written; {REMAKE}")


class ShardDataset:
    """The samples of one split; opens its memory map on first use, also after pickling."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        self.split = split

    def __len__(self) -> int:
        return self._opened.index.rows

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Image uint8 ``(3, H, W)`` and labels uint8 or uint16 ``(H, W)``.

        Both are views of a private map: writing to them changes this process's pages, never the file.
        """
        image, labels = self.arrays(row)
        return torch.from_numpy(image), torch.from_numpy(labels)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "split": self.split}

    @property
    def info(self) -> DatasetInfo:
        """The data set."""
        return self._opened.info

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every sample; ``None`` if they differ."""
        return self._opened.index.size

    def key(self, row: int) -> str:
        """The source's name of a sample."""
        return self._opened.key(row)

    def arrays(self, row: int) -> tuple[Image, Labels]:
        """Like indexing, as numpy views."""
        if not 0 <= row < len(self):
            raise IndexError(
                f"row {row} is outside 0..{len(self) - 1} of {self.folder / file_name(self.split)}"
            )
        return self._opened.views(row)

    @cached_property
    def _opened(self) -> _SplitFile:
        return _SplitFile(self.folder, self.split, read_index(self.folder))


class _SplitFile:
    """A memory-mapped Arrow file with one row per record batch."""

    def __init__(self, folder: Path, split: str, index: Index) -> None:
        self.info, self.index = index.info, index.splits[split]
        self._path = path = folder / file_name(split)
        self._map = _mapped(path, self.index)
        buffer = pa.py_buffer(self._map)
        self._start = buffer.address
        content = content_id(index.fingerprint, index.resized_to, split)
        try:
            self._reader = pa.ipc.open_file(buffer)
            check_schema(path, self._reader.schema, content=content)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable Arrow file ({error}); {REMAKE}") from error
        if self._reader.num_record_batches != self.index.rows:
            found = f"holds {self._reader.num_record_batches} rows but the index says {self.index.rows}"
            raise DataError(f"{path}: {found}; {REMAKE}")

    def key(self, row: int) -> str:
        with self._damage_named(row):
            return str(self._batch(row).column(0)[0].as_py())

    def views(self, row: int) -> tuple[Image, Labels]:
        with self._damage_named(row):
            batch = self._batch(row)
            height, width = batch.column(1)[0].as_py(), batch.column(2)[0].as_py()
            image = self._view(batch.column(3), np.dtype(np.uint8), (3, height, width))
            labels = self._view(batch.column(4), self.info.label_dtype, (height, width))
            return image, labels

    def _batch(self, row: int) -> pa.RecordBatch:
        batch = self._reader.get_batch(row)
        batch.validate(full=True)  # microseconds; without it Arrow aborts the process on damaged offsets
        return batch

    @contextmanager
    def _damage_named(self, row: int) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"{self._path}: row {row} is damaged ({error}); {REMAKE}") from error

    def _view(self, column: pa.Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        # From the map and not from Arrow's own buffer: that one is read-only, which torch warns about.
        offset = column.buffers()[2].address - self._start  # buffers: validity, offsets, bytes
        return np.ndarray(shape, dtype, buffer=self._map, offset=offset)


def open_shards(path: Path) -> ShardSet:
    """Open a shard folder.

    Raises:
        DataError: If a file is missing, cut short, foreign or of another schema version; names the file.
    """
    shards = ShardSet(path=path.absolute(), index=read_index(path))
    for split in shards.index.splits:
        len(shards.dataset(split))  # maps the file and checks its ends, size, schema and number of rows
    return shards


def _mapped(path: Path, index: SplitIndex) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size != index.bytes:
                raise DataError(
                    f"{path}: has {size} bytes instead of {index.bytes}: it was cut or changed; {REMAKE}"
                )
            flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
            mapped = mmap.mmap(file.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; {REMAKE}") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the disk and its permissions"
        ) from error
    if mapped[: len(MAGIC)] != MAGIC or mapped[-len(MAGIC) :] != MAGIC:
        raise DataError(f"{path}: not a complete Arrow file (its first or last bytes are wrong); {REMAKE}")
    return mapped
