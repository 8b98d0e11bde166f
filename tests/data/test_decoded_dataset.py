"""Loading without preparation: the batches of shards, decoded once, in memory that is used again."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from clean_labels import write_clean_camvid
from hypothesis import given, settings
from hypothesis import strategies as st

from segsweep.data.batch_memory import BatchMemory
from segsweep.data.decoded import DecodedDataset
from segsweep.data.fast_crop import resized_crop
from segsweep.data.interface import Sample, Source
from segsweep.data.loader import TrainLoader
from segsweep.data.photometric import CHANCES, PhotometricDistortion
from segsweep.data.resampling import CropWindow, bilinear_crop
from segsweep.data.shards import prepare
from segsweep.data.sources import open_source
from segsweep.data.transforms import TrainTransform

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))
RECIPE = TrainTransform(crop=(40, 40), photometric=PhotometricDistortion())


@dataclass
class Counted:
    """A source that counts what is decoded."""

    inner: Source
    read: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def load(self, split: str, key: str) -> Sample:
        self.read.append(key)
        return self.inner.load(split, key)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return open_source("camvid", root=write_clean_camvid(tmp_path / "camvid", train=6))


def test_batches_are_those_of_shards(tmp_path: Path, source: Source) -> None:
    shards = prepare(source, tmp_path / "shards").dataset("train")
    loaders = [
        TrainLoader(dataset, batch_size=2, transform=RECIPE, seed=4)
        for dataset in (DecodedDataset(source, "train"), shards)
    ]
    for (images, labels), (others, other_labels) in zip(
        *(loader.epoch(1) for loader in loaders), strict=True
    ):
        assert torch.equal(labels, other_labels)
        # the memory formats of the two may be resized by different kernels of torch: one grey level of 255
        assert (images - others).abs().max() <= 1.01 / 57.12 + 1e-6 or torch.equal(images, others)


def test_every_sample_is_decoded_once_while_it_fits(source: Source) -> None:
    counted = Counted(source)
    dataset = DecodedDataset(counted, "train")
    for _ in range(3):
        for row in range(len(dataset)):
            dataset.arrays(row)
    assert sorted(counted.read) == sorted(source.keys("train"))
    assert dataset.cached == 6


def test_what_does_not_fit_is_decoded_again(source: Source) -> None:
    counted = Counted(source)
    dataset = DecodedDataset(
        counted, "train", cache_bytes=2 * 48 * 64 * 4
    )  # two samples of 3 + 1 bytes a pixel
    for _ in range(2):
        for row in range(len(dataset)):
            dataset.arrays(row)
    assert dataset.cached == 2
    assert len(counted.read) == 6 + 4


def test_keys_choose_the_samples(source: Source) -> None:
    dataset = DecodedDataset(source, "train", keys=["a4", "a1"])
    assert [dataset.key(row) for row in range(len(dataset))] == ["a4", "a1"]
    np.testing.assert_array_equal(dataset.arrays(0)[0].transpose(1, 2, 0), source.load("train", "a4").image)
    with pytest.raises(IndexError, match=r"row 2 is outside 0\.\.1"):
        dataset.arrays(2)


def test_batches_that_are_kept_are_never_overwritten(source: Source) -> None:
    loader = TrainLoader(DecodedDataset(source, "train"), batch_size=1, transform=RECIPE, seed=0)
    kept = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    again = TrainLoader(DecodedDataset(source, "train"), batch_size=1, transform=RECIPE, seed=0)
    for number, expected in enumerate(batch for epoch in range(3) for batch in again.epoch(epoch)):
        assert torch.equal(kept[number][0], expected[0])
        assert torch.equal(kept[number][1], expected[1])


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    memory = BatchMemory()
    first = memory.tensor((4, 5), np.float32)
    place = first.data_ptr()
    view = first[1:]
    del first
    assert memory.tensor((4, 5), np.float32).data_ptr() != place  # a view of it is still there
    del view
    places = {memory.tensor((4, 5), np.float32).data_ptr() for _ in range(5)}
    assert len(places) == 1


def test_memory_saved_for_a_backward_pass_is_held() -> None:
    memory = BatchMemory()
    weight = torch.ones(3, requires_grad=True)
    batch = memory.tensor((3,), np.float32)
    batch[:] = torch.tensor([1.0, 2.0, 3.0])
    loss = (batch * weight).sum()
    del batch
    memory.tensor((3,), np.float32).fill_(9.0)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 2.0, 3.0]


def test_memory_does_not_grow_without_bound() -> None:
    memory = BatchMemory()
    held = [memory.tensor((2, size), np.float32) for size in range(1, 30)]
    assert memory.kept <= 8
    held.clear()
    for size in range(1, 30):
        memory.tensor((3, size), np.int64)
    assert memory.kept <= 8
    assert pickle.loads(pickle.dumps(memory)).kept == 0


@given(
    shape=SIDES,
    window=st.builds(
        lambda resized, crop, corner, flip: CropWindow(
            resized=resized,
            top=int(corner[0] * resized[0]),
            left=int(corner[1] * resized[1]),
            crop=crop,
            flip=flip,
        ),
        resized=SIDES,
        crop=SIDES,
        corner=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
        flip=st.booleans(),
    ),
    decoded=st.booleans(),
)
@settings(deadline=None, max_examples=400)
def test_fast_crops_are_those_of_the_definition_up_to_one_grey_level(
    shape: tuple[int, int], window: CropWindow, decoded: bool
) -> None:
    generator = np.random.default_rng(shape)
    image = generator.integers(256, size=(3, *shape), dtype=np.uint8)
    if decoded:  # in memory as Pillow gives it
        image = np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1)
    found, expected = resized_crop(image, window), bilinear_crop(image, window)
    assert found.shape == expected.shape
    assert found.flags.c_contiguous and not np.shares_memory(found, image)
    assert np.abs(found - expected).max() <= 1.01  # after the columns and after the rows half a level each


def test_distorting_by_rows_is_distorting_at_once() -> None:
    generator = np.random.default_rng(3)
    image = generator.integers(256, size=(3, 70, 700), dtype=np.uint8)  # several blocks of rows
    for pivot in ("black", "channel_mean"):
        distortion = PhotometricDistortion(contrast_pivot=pivot)  # type: ignore[arg-type]
        for _ in range(12):
            chance = generator.random(CHANCES).tolist()
            whole = distortion(image.astype(np.float32), chance)
            rows = image.copy()
            distortion.distort(rows, chance)
            np.testing.assert_array_equal(rows, (whole + np.float32(0.5)).astype(np.uint8))
