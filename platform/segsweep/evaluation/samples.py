"""The labelled images of a split, from a data set or from prepared data, read ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from segsweep.data.interface import DatasetInfo, Image, Labels, Source
from segsweep.data.shard_parts import resize_image, resize_labels
from segsweep.data.shards import ShardSet
from segsweep.errors import DataError, InvalidInput, Problem
from segsweep.evaluation.inference import views
from segsweep.evaluation.protocols import PREPARED, EvaluationProtocol

_READERS = 2
_AHEAD = 4  # samples


@dataclass(frozen=True, kw_only=True)
class EvaluationSample:
    """One image as a protocol looks at it.

    Attributes:
        key: Name inside its split.
        labels: Class ids or the ignore index, ``(H, W)``.
        scaled: What the network sees at each scale, uint8 ``(3, h, w)``.
    """

    key: str
    labels: Labels
    scaled: tuple[Image, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Samples of equal shapes fit in one batch."""
        return (self.labels.shape, *(image.shape for image in self.scaled))


@dataclass(frozen=True, kw_only=True)
class SplitSamples:
    """The samples of one split under a protocol.

    Attributes:
        data: A data set, or prepared data.
        split: Name of the split.
        protocol: What the network sees.
    """

    data: Source | ShardSet
    split: str
    protocol: EvaluationProtocol

    def __post_init__(self) -> None:
        if self.split not in self._splits():
            found = f"{self.info.name} has no split {self.split!r}; it has {', '.join(self._splits())}"
            raise DataError(found)
        if problem := self._disagreement():
            raise InvalidInput([Problem(where="protocol", message=problem)])

    @property
    def info(self) -> DatasetInfo:
        """What the labels mean."""
        return self.data.info

    def __len__(self) -> int:
        if isinstance(self.data, ShardSet):
            return self.data.counts[self.split]
        return len(self.data.keys(self.split))

    def pixels(self, row: int) -> tuple[str, Image, Labels]:
        """Key, image ``(H, W, 3)`` and labels ``(H, W)`` as the protocol compares them."""
        if isinstance(self.data, ShardSet):
            dataset = self.data.dataset(self.split)
            image, labels = dataset.arrays(row)
            return dataset.key(row), image.transpose(1, 2, 0), labels
        sample = self.data.load(self.split, self.data.keys(self.split)[row])
        size = self.protocol.resize.size
        if self.protocol.labels == PREPARED and size is not None:
            return sample.key, resize_image(sample.image, size), resize_labels(sample.labels, size)
        return sample.key, sample.image, sample.labels

    def load(self, row: int) -> EvaluationSample:
        """One sample with its views."""
        key, image, labels = self.pixels(row)
        return EvaluationSample(key=key, labels=labels, scaled=views(image, self.protocol))

    def batches(self, rows: Sequence[int], *, batch_size: int) -> Iterator[list[EvaluationSample]]:
        """Consecutive samples of equal shapes, at most ``batch_size`` together."""
        together: list[EvaluationSample] = []
        for sample in self._ahead(rows):
            if together and (len(together) == batch_size or sample.shapes != together[0].shapes):
                yield together
                together = []
            together.append(sample)
        if together:
            yield together

    def _ahead(self, rows: Sequence[int]) -> Iterator[EvaluationSample]:
        """Decode and resize in threads while the network computes; in order."""
        waiting: deque[Future[EvaluationSample]] = deque()
        with ThreadPoolExecutor(_READERS, thread_name_prefix="segsweep-read") as pool:
            try:
                for row in rows:
                    waiting.append(pool.submit(self.load, row))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _splits(self) -> tuple[str, ...]:
        return tuple(self.data.counts) if isinstance(self.data, ShardSet) else self.data.splits()

    def _disagreement(self) -> str:
        """Why the data cannot be evaluated so, or an empty string."""
        original = self.protocol.labels != PREPARED
        if isinstance(self.data, ShardSet) and original and self.data.index.resized_to is not None:
            height, width = self.data.index.resized_to
            return (
                f"{self.data.path} holds labels resized to {height}x{width}; evaluate the data set itself, "
                "or take labels: prepared"
            )
        if not isinstance(self.data, ShardSet) and not original and self.protocol.resize.size is None:
            return "labels: prepared needs prepared data, or resize.size as they were prepared"
        return ""
