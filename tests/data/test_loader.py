from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from data_trees import write_camvid_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segsweep.data.loader import Batch, EvalLoader, TrainLoader
from segsweep.data.shards import ShardDataset, prepare
from segsweep.data.sources import open_source
from segsweep.data.transforms import TrainTransform, normalise
from segsweep.errors import DataError

SIZE = (12, 16)
PLAIN = TrainTransform(scale_range=(1, 1), flip=0)
RANDOM = TrainTransform(crop=(10, 9), brightness=0.1, contrast=0.2, saturation=0.2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("loader")
    write_camvid_tree(folder / "camvid", counts={"train": 13, "val": 1}, size=SIZE)
    return prepare(open_source("camvid", root=folder / "camvid"), folder / "shards").dataset("train")


def rows_of(dataset: ShardDataset, batches: Iterator[Batch]) -> list[list[int]]:
    """Which samples the batches hold, found by their pixels."""
    known = {normalise(dataset[row][0][None]).numpy().tobytes(): row for row in range(len(dataset))}
    return [[known[image.numpy().tobytes()] for image in images] for images, _ in batches]


def concatenated(parts: list[Batch]) -> Batch:
    images, labels = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(labels)


@given(
    batch_size=st.integers(1, 13),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 99),
    drop_last=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_ranks_side_by_side_are_the_single_process_batch(
    dataset: ShardDataset, batch_size: int, world_size: int, epoch: int, drop_last: bool
) -> None:
    world_size = min(world_size, batch_size)

    def loader(rank: int, world: int) -> TrainLoader:
        return TrainLoader(
            dataset,
            batch_size=batch_size,
            transform=RANDOM,
            seed=7,
            rank=rank,
            world_size=world,
            drop_last=drop_last,
        )

    single = list(loader(0, 1).epoch(epoch))
    assert len(single) == loader(0, 1).steps_per_epoch
    ranks = [list(loader(rank, world_size).epoch(epoch)) for rank in range(world_size)]
    for expected, *parts in zip(single, *ranks, strict=True):
        images, labels = concatenated(parts)
        assert torch.equal(images, expected[0])
        assert torch.equal(labels, expected[1])


def test_an_epoch_is_a_permutation_that_changes_with_seed_and_epoch(dataset: ShardDataset) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = TrainLoader(dataset, batch_size=4, transform=PLAIN, seed=seed, drop_last=False)
        return list(chain.from_iterable(rows_of(dataset, loader.epoch(epoch))))

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert all(sorted(rows) == list(range(13)) for rows in orders)
    assert len({tuple(rows) for rows in orders}) == 3


def test_an_epoch_does_not_depend_on_earlier_ones(dataset: ShardDataset) -> None:
    resumed = TrainLoader(dataset, batch_size=4, transform=RANDOM, seed=0)
    through = TrainLoader(dataset, batch_size=4, transform=RANDOM, seed=0)
    for epoch in range(3):
        expected = list(through.epoch(epoch))
    for (images, labels), (again, others) in zip(expected, resumed.epoch(2), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, others)


def test_threads_change_nothing(dataset: ShardDataset) -> None:
    results = []
    for workers in (0, 3):
        loader = TrainLoader(
            dataset, batch_size=4, transform=RANDOM, seed=0, workers=workers, drop_last=False
        )
        results.append(list(loader.epoch(1)))
    for (images, labels), (others, other_labels) in zip(*results, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def test_threads_end_when_the_epoch_is_left_early(dataset: ShardDataset) -> None:
    epoch = TrainLoader(dataset, batch_size=2, transform=RANDOM, seed=0, workers=2).epoch(0)
    next(epoch)
    epoch.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segsweep-augment")]


def test_augmentation_of_a_sample_changes_with_the_epoch(dataset: ShardDataset) -> None:
    loader = TrainLoader(dataset, batch_size=13, transform=TrainTransform(crop=(6, 6)), seed=0)
    (first, _), (second, _) = next(loader.epoch(0)), next(loader.epoch(1))
    assert not torch.equal(first.flatten(1).sum(1).sort()[0], second.flatten(1).sum(1).sort()[0])


def test_batches_are_normalised_floats_and_int64_labels(dataset: ShardDataset) -> None:
    images, labels = next(TrainLoader(dataset, batch_size=5, transform=PLAIN, seed=0).epoch(0))
    assert (images.shape, images.dtype) == ((5, 3, *SIZE), torch.float32)
    assert (labels.shape, labels.dtype) == ((5, *SIZE), torch.int64)


def test_labels_stay_with_their_images(dataset: ShardDataset) -> None:
    loader = TrainLoader(dataset, batch_size=13, transform=PLAIN, seed=0)
    images, labels = next(loader.epoch(0))
    (rows,) = rows_of(dataset, iter([(images, labels)]))
    for row, found in zip(rows, labels, strict=True):
        assert torch.equal(found, dataset[row][1].long())


def test_fewer_samples_than_a_batch_is_refused(dataset: ShardDataset) -> None:
    with pytest.raises(DataError, match=r"'train' .* has 13 samples, fewer than a batch of 14; lower"):
        TrainLoader(dataset, batch_size=14, transform=PLAIN, seed=0)


def test_rank_without_an_image_is_refused(dataset: ShardDataset) -> None:
    with pytest.raises(ValueError, match="rank 0 of 3 with a global batch of 2; every rank needs"):
        TrainLoader(dataset, batch_size=2, transform=PLAIN, seed=0, world_size=3)


def mixed_sizes(folder: Path) -> ShardDataset:
    write_camvid_tree(folder / "camvid", counts={"train": 5, "val": 1})
    for name in ("train", "trainannot"):
        for index in (2, 3):
            path = folder / "camvid" / name / f"0001TP_{index:06d}.png"
            Image.open(path).resize((9, 7), Image.Resampling.NEAREST).save(path)
    return prepare(open_source("camvid", root=folder / "camvid"), folder / "shards").dataset("train")


def test_samples_of_several_sizes_need_a_crop(tmp_path: Path) -> None:
    dataset = mixed_sizes(tmp_path)
    with pytest.raises(DataError, match="set a crop, or prepare with a size"):
        TrainLoader(dataset, batch_size=2, transform=PLAIN, seed=0)
    images, _ = next(TrainLoader(dataset, batch_size=5, transform=RANDOM, seed=0).epoch(0))
    assert images.shape == (5, 3, 10, 9)


def test_evaluation_batches_hold_one_size_each(tmp_path: Path) -> None:
    shapes = [tuple(labels.shape) for _, labels in EvalLoader(mixed_sizes(tmp_path), batch_size=4)]
    assert shapes == [(2, 24, 32), (2, 7, 9), (1, 24, 32)]


@given(batch_size=st.integers(1, 20), world_size=st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_evaluation_sees_every_sample_once_over_all_ranks(
    dataset: ShardDataset, batch_size: int, world_size: int
) -> None:
    batches = [
        rows
        for rank in range(world_size)
        for rows in rows_of(
            dataset, iter(EvalLoader(dataset, batch_size=batch_size, rank=rank, world_size=world_size))
        )
    ]
    assert list(chain.from_iterable(batches)) == list(range(13))
    assert max(map(len, batches)) <= batch_size


def test_evaluation_does_not_touch_the_labels(dataset: ShardDataset) -> None:
    labels = torch.cat([labels for _, labels in EvalLoader(dataset, batch_size=4)])
    np.testing.assert_array_equal(labels, np.stack([dataset.arrays(row)[1] for row in range(13)]))
