"""Labelled and pseudo-labelled shards as one training set: mixed in every batch, fair to every sample."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from segsweep.data.joined_shards import JoinedShards, join_shards
from segsweep.data.loader import TrainLoader
from segsweep.data.shards import open_shards, prepare
from segsweep.data.sources import open_source
from segsweep.data.transforms import TrainTransform
from segsweep.errors import DataError

LABELLED, EXTRA, BATCH = 8, 30, 4
AS_THEY_ARE = TrainTransform(scale_range=(1.0, 1.0), flip=0.0)


def shards(folder: Path, count: int, *, seed: int, size: tuple[int, int] = (16, 32)) -> Path:
    options = {"train": count, "val": 2, "height": size[0], "width": size[1], "seed": seed}
    prepare(open_source("synthetic", root=None, options=options), folder, size=size)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("joined")
    return shards(root / "labelled", LABELLED, seed=0), shards(root / "extra", EXTRA, seed=1)


@pytest.fixture
def joined(folders: tuple[Path, Path]) -> JoinedShards:
    return join_shards(open_shards(folders[0]), folders[1], share=0.5)


def test_rows_are_those_of_the_one_and_then_of_the_other(
    joined: JoinedShards, folders: tuple[Path, Path]
) -> None:
    dataset = joined.dataset("train")
    assert len(dataset) == joined.counts["train"] == LABELLED + EXTRA
    parts = [open_shards(folder).dataset("train") for folder in folders]
    for row, (part, inner) in {0: (0, 0), 7: (0, 7), 8: (1, 0), 37: (1, 29)}.items():
        for found, expected in zip(dataset.arrays(row), parts[part].arrays(inner), strict=True):
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(dataset.arrays(9)[0], dataset.arrays(9 + len(dataset))[0])
    assert joined.counts["val"] == 2 and len(joined.dataset("val")) == 2


def test_every_batch_has_its_share_and_so_has_every_rank(joined: JoinedShards) -> None:
    dataset = joined.dataset("train")
    rows = dataset.epoch_rows(0, batch_size=BATCH, seed=(1, 0)) % len(dataset)
    for step in range(len(dataset) // BATCH):
        batch = rows[step * BATCH : (step + 1) * BATCH] >= LABELLED
        assert batch.sum() == BATCH / 2
        assert batch[: BATCH // 2].sum() == batch[BATCH // 2 :].sum()  # of two ranks


def test_every_sample_comes_once_before_any_comes_again(joined: JoinedShards) -> None:
    """Over epochs: 18 labelled and 18 other draws each, 8 and 30 samples."""
    dataset = joined.dataset("train")
    steps = len(dataset) // BATCH
    drawn = [
        int(row) % len(dataset)
        for epoch in range(5)
        for row in dataset.epoch_rows(epoch, batch_size=BATCH, seed=(1, 0))[: steps * BATCH]
    ]
    for first, count in ((0, LABELLED), (LABELLED, EXTRA)):
        own = [row for row in drawn if first <= row < first + count]
        assert len(own) == 5 * 18
        for start in range(0, len(own) - count + 1, count):
            assert len(set(own[start : start + count])) == count
        times = Counter(own).values()
        assert max(times) - min(times) <= 1


def test_a_sample_that_comes_again_in_an_epoch_is_augmented_anew(joined: JoinedShards) -> None:
    dataset = joined.dataset("train")
    rows = dataset.epoch_rows(0, batch_size=BATCH, seed=(1, 0))
    assert len(set(rows.tolist())) == len(rows) > len(set((rows % len(dataset)).tolist()))


def test_the_order_follows_from_seed_and_epoch_alone(joined: JoinedShards) -> None:
    dataset = joined.dataset("train")
    again = pickle.loads(pickle.dumps(dataset))
    first = dataset.epoch_rows(3, batch_size=BATCH, seed=(1, 0))
    np.testing.assert_array_equal(first, again.epoch_rows(3, batch_size=BATCH, seed=(1, 0)))
    for epoch, seed in ((4, 0), (3, 1)):
        assert (first != dataset.epoch_rows(epoch, batch_size=BATCH, seed=(1, seed))).any()


def test_a_loader_gives_the_mixed_batches_and_ranks_share_them(joined: JoinedShards) -> None:
    def batches(rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
        loader = TrainLoader(
            joined.dataset("train"),
            batch_size=BATCH,
            transform=AS_THEY_ARE,
            seed=5,
            rank=rank,
            world_size=world_size,
        )
        return [images.numpy().copy() for images, _ in loader.epoch(1)]

    whole, first, second = batches(), batches(0, 2), batches(1, 2)
    assert len(whole) == (LABELLED + EXTRA) // BATCH
    for complete, one, other in zip(whole, first, second, strict=True):
        np.testing.assert_array_equal(complete, np.concatenate([one, other]))


@pytest.mark.parametrize("share", [0.1, 0.95])
def test_a_share_that_leaves_one_kind_out_is_refused(folders: tuple[Path, Path], share: float) -> None:
    dataset = join_shards(open_shards(folders[0]), folders[1], share=share).dataset("train")
    with pytest.raises(DataError, match="one kind would be left out"):
        dataset.epoch_rows(0, batch_size=BATCH, seed=(0,))


def test_other_sizes_and_classes_do_not_join(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = shards(tmp_path / "other", 4, seed=0, size=(32, 32))
    with pytest.raises(DataError, match=r"its images are 32x32, those they join 16x32"):
        join_shards(open_shards(folders[0]), other, share=0.5)
    index = (other / "index.json").read_text().replace('"sky"', '"heaven"')
    (other / "index.json").write_text(index)
    with pytest.raises(DataError, match="must have been trained on the student's classes"):
        join_shards(open_shards(folders[0]), other, share=0.5)


def test_what_is_known_of_the_data_counts_both(joined: JoinedShards, folders: tuple[Path, Path]) -> None:
    labelled, extra = (open_shards(folder) for folder in folders)
    pixels = [sum(each.class_histogram["train"]) for each in (labelled, extra)]
    assert sum(joined.class_histogram["train"]) == sum(pixels)
    assert joined.class_histogram["val"] == labelled.class_histogram["val"]
    assert joined.digest not in (labelled.digest, extra.digest)
    joined.verify()
