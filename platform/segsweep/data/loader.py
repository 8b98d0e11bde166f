"""Batches for training and evaluation; what a rank sees depends on nothing but its rank."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segsweep.data.batch_memory import BatchMemory
from segsweep.data.interface import DatasetInfo, Image, Labels
from segsweep.data.transforms import TrainTransform, normalise
from segsweep.errors import DataError

Batch = tuple[Tensor, Tensor]

# First word of every seed: without it (seed, epoch) and (seed, epoch, 0) would be one random stream.
_SHUFFLING, _AUGMENTING = 1, 2
_BATCHES_AHEAD = 2


class SampleRows(Protocol):
    """Samples of one split by row: ``ShardDataset`` maps prepared ones, ``DecodedDataset`` decodes files."""

    split: str

    def __len__(self) -> int: ...

    @property
    def folder(self) -> Path | str:
        """Where the samples come from, for messages."""
        ...

    @property
    def info(self) -> DatasetInfo:
        """The data set."""
        ...

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every sample; ``None`` if they differ or are unknown."""
        ...

    def arrays(self, row: int) -> tuple[Image, Labels]:
        """Image uint8 ``(3, H, W)`` and labels uint8 or uint16 ``(H, W)``."""
        ...


@runtime_checkable
class OwnOrder(Protocol):
    """Samples that say themselves in which order an epoch sees them, as ``JoinedDataset`` does."""

    def epoch_rows(self, epoch: int, *, batch_size: int, seed: Sequence[int]) -> NDArray[np.int64]:
        """Rows of an epoch, at least as many as its batches need."""
        ...


class TrainLoader:
    """Shuffled, augmented batches of the same size.

    Sample i of epoch n is augmented by its own generator, seeded with (seed, n, i), and the order of an
    epoch follows from (seed, n): so results depend on neither ranks nor threads nor earlier epochs.

    Args:
        dataset: Samples of one split.
        batch_size: Images per optimiser step over all ranks.
        transform: Augmentation.
        seed: Of shuffling and augmentation.
        rank: This process; it gets rows ``rank * batch_size // world_size`` up to the next rank's of
            every batch, so the ranks' batches in a row are the single-process batch.
        world_size: Number of processes, at most ``batch_size``.
        drop_last: Whether an incomplete last batch is left out; if not, ranks may get unequal or
            empty parts of it.
        workers: Threads that augment ahead of the training loop; 0: in the caller's thread.

    Raises:
        DataError: If the split has fewer samples than a batch, or samples of several sizes and no crop.
        ValueError: If the batch cannot be split over the ranks.
    """

    def __init__(
        self,
        dataset: SampleRows,
        *,
        batch_size: int,
        transform: TrainTransform,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
        workers: int = 0,
    ) -> None:
        if not 0 <= rank < world_size <= batch_size:
            found = f"rank {rank} of {world_size} with a global batch of {batch_size}"
            raise ValueError(
                f"{found}; every rank needs at least one image: raise batch_size or lower the workers"
            )
        if drop_last and len(dataset) < batch_size:
            found = f"split {dataset.split!r} of {dataset.folder} has {len(dataset)} samples"
            raise DataError(f"{found}, fewer than a batch of {batch_size}; lower batch_size or add samples")
        if dataset.size is None and transform.crop is None:
            raise DataError(
                f"{dataset.folder}: samples keep their own sizes; set a crop, or prepare with a size"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.transform = transform
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.workers = workers
        self._memory = BatchMemory()

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, the same on every rank."""
        count = len(self.dataset)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        """Batches of one epoch: normalised float32 ``(b, 3, h, w)`` and int64 ``(b, h, w)``.

        Args:
            number: Of the epoch, from 0.
            first_step: Batches that were seen already; their samples are not read again.
        """
        order = self._order(number)
        batches = [self._share(order, step) for step in range(first_step, self.steps_per_epoch)]
        if self.workers == 0:
            for rows in batches:
                yield self._collate([self._sample(int(row), number) for row in rows])
            return
        yield from self._ahead(batches, number)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if isinstance(self.dataset, OwnOrder):
            seed = (_SHUFFLING, self.seed)
            return self.dataset.epoch_rows(epoch, batch_size=self.batch_size, seed=seed)
        return np.random.default_rng((_SHUFFLING, self.seed, epoch)).permutation(len(self.dataset))

    def _share(self, order: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        rows = order[step * self.batch_size : (step + 1) * self.batch_size]
        first, last = (len(rows) * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return rows[first:last]

    def _sample(self, row: int, epoch: int) -> tuple[Image, Labels]:
        image, labels = self.dataset.arrays(row)
        generator = np.random.default_rng((_AUGMENTING, self.seed, epoch, row))
        return self.transform(image, labels, generator=generator, ignore_index=self.dataset.info.ignore_index)

    def _collate(self, samples: Sequence[tuple[Image, Labels]]) -> Batch:
        if not samples:  # this rank's share of an incomplete last batch
            height, width = self.transform.crop or self.dataset.size or (0, 0)
            return torch.empty(0, 3, height, width), torch.empty(0, height, width, dtype=torch.int64)
        return _batch(samples, self._memory)

    def _ahead(self, batches: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Augment in threads, two batches ahead; numpy leaves the interpreter lock while it resamples."""
        waiting: deque[list[Future[tuple[Image, Labels]]]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="segsweep-augment") as pool:
            try:
                for step in range(len(batches) + _BATCHES_AHEAD):
                    if step < len(batches):
                        waiting.append([pool.submit(self._sample, int(row), epoch) for row in batches[step]])
                    if step >= _BATCHES_AHEAD:
                        yield self._collate([future.result() for future in waiting.popleft()])
            finally:
                pool.shutdown(cancel_futures=True)


class EvalLoader:
    """Every sample of a split exactly once over all ranks, in order, without padding.

    Args:
        dataset: Samples of one split.
        batch_size: Images per batch of this rank; less at the end and where the size changes.
        rank: This process; it gets one run of consecutive samples.
        world_size: Number of processes; may exceed the samples, then some ranks get none.
    """

    def __init__(self, dataset: SampleRows, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size or batch_size < 1:
            found = f"rank {rank} of {world_size} with batches of {batch_size}"
            raise ValueError(f"{found}; ranks count from 0 up to below world_size and batches hold 1 or more")
        self.dataset = dataset
        self.batch_size = batch_size
        first, last = (len(dataset) * part // world_size for part in (rank, rank + 1))
        self.rows = range(first, last)
        self._memory = BatchMemory()

    def __iter__(self) -> Iterator[Batch]:
        """Normalised float32 ``(b, 3, H, W)`` and int64 ``(b, H, W)``."""
        batch: list[tuple[Image, Labels]] = []
        for row in self.rows:
            sample = self.dataset.arrays(row)
            if batch and (len(batch) == self.batch_size or sample[1].shape != batch[0][1].shape):
                yield _batch(batch, self._memory)
                batch = []
            batch.append(sample)
        if batch:
            yield _batch(batch, self._memory)


def _batch(samples: Sequence[tuple[Image, Labels]], memory: BatchMemory) -> Batch:
    height, width = samples[0][1].shape
    images = memory.tensor((len(samples), 3, height, width), np.float32)
    labels = memory.tensor((len(samples), height, width), np.int64)
    for row, (image, ids) in enumerate(samples):  # one image stays in the cache, a batch does not
        normalise(torch.from_numpy(image)[None], out=images[row : row + 1])
        labels[row].numpy()[...] = ids
    return images, labels
