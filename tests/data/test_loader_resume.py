"""A loader that starts within an epoch gives the rest of it and reads nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segsweep.data.interface import DatasetInfo, Image, Labels
from segsweep.data.loader import TrainLoader
from segsweep.data.shards import ShardDataset, open_shards
from segsweep.data.transforms import TrainTransform


class Counting:
    """A split that notes which samples are read."""

    def __init__(self, dataset: ShardDataset) -> None:
        self._dataset = dataset
        self.split, self.folder = dataset.split, dataset.folder
        self.info: DatasetInfo = dataset.info
        self.size = dataset.size
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self._dataset)

    def arrays(self, row: int) -> tuple[Image, Labels]:
        self.read.append(row)
        return self._dataset.arrays(row)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first_step", [0, 1, 3, 4])
def test_the_rest_of_an_epoch(tiny_shards: Path, workers: int, first_step: int) -> None:
    dataset = Counting(open_shards(tiny_shards).dataset("train"))
    transform = TrainTransform(brightness=0.2)
    loader = TrainLoader(dataset, batch_size=2, transform=transform, seed=3, workers=workers)
    whole = [(images.clone(), labels.clone()) for images, labels in loader.epoch(5)]
    assert len(whole) == 4
    dataset.read.clear()
    rest = list(loader.epoch(5, first_step=first_step))
    assert len(dataset.read) == 2 * (4 - first_step)
    for (images, labels), (expected, truth) in zip(rest, whole[first_step:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, truth)
