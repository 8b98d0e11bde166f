"""What the published pipelines need of the augmentation: sizes, steps, crops of several classes, padding."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from segsweep.data.photometric import PhotometricDistortion
from segsweep.data.resampling import bilinear_crop, nearest_crop
from segsweep.data.transforms import TrainTransform
from segsweep.labels import IGNORE_INDEX


def _sample(size: tuple[int, int] = (30, 40)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    image = generator.integers(256, size=(3, *size), dtype=np.uint8)
    return image, generator.integers(11, size=size, dtype=np.uint8)


def _augment(transform: TrainTransform, seed: int, sample: tuple[np.ndarray, np.ndarray] | None = None):  # type: ignore[no-untyped-def]
    image, labels = sample or _sample()
    return transform(image, labels, generator=np.random.default_rng(seed), ignore_index=IGNORE_INDEX)


def _resized(transform: TrainTransform, shape: tuple[int, int], scale: float) -> tuple[int, int]:
    return transform.window(shape, scale=scale, position=(0, 0), flip=False).resized


# mmcv's imrescale by hand: the factor is min(long bound / long side, short bound / short side), bounds are
# truncated and sides rounded half up.
@pytest.mark.parametrize(
    ("shape", "ratio", "expected"),
    [
        ((400, 600), 1.0, (512, 768)),  # 512 / 400 = 1.28
        ((600, 400), 1.0, (768, 512)),  # the bounds do not care which side is which
        ((300, 2000), 1.0, (307, 2048)),  # 2048 / 2000 = 1.024; 307.2
        ((400, 600), 0.7, (358, 537)),  # int(358.4) / 400 = 0.895
        ((1024, 2048), 2.0, (1024, 2048)),
    ],
)
def test_sizes_under_a_resize_base_are_those_of_mmcv(
    shape: tuple[int, int], ratio: float, expected: tuple[int, int]
) -> None:
    for base in ((2048, 512), (512, 2048)):
        transform = TrainTransform(resize_base=base, scale_range=(ratio, ratio))
        assert _resized(transform, shape, 0.5) == expected


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.0, (512, 1536)),
        (2.0, (683, 2048)),  # 1024 x 3072 is too long: 2048 / 1200 x 400 = 682.7
        (0.5, (256, 768)),
    ],
)
def test_a_longest_side_binds_at_every_factor(ratio: float, expected: tuple[int, int]) -> None:
    """detectron2's ResizeShortestEdge with max_size, by hand."""
    transform = TrainTransform(resize_base=(8192, 512), longest=2048, scale_range=(ratio, ratio))
    assert _resized(transform, (400, 1200), 0.5) == expected


def test_scale_steps_are_equally_likely_and_both_ends_included() -> None:
    transform = TrainTransform(scale_range=(0.5, 2.0), scale_step=0.1)
    heights = [_resized(transform, (1000, 10), (draw + 0.5) / 160)[0] for draw in range(160)]
    values, counts = np.unique(heights, return_counts=True)
    assert values.tolist() == [500 + 100 * step for step in range(16)]
    assert set(counts.tolist()) == {10}


def test_older_options_see_the_draws_that_they_always_saw() -> None:
    """Seven numbers a sample: scale, place, flip, colour. What came later is drawn behind them."""
    transform = TrainTransform(crop=(24, 32))
    image, labels = _augment(transform, 3)
    scale, top, left, flip, *_ = np.random.default_rng(3).random(7).tolist()
    window = transform.window((30, 40), scale=scale, position=(top, left), flip=flip < 0.5)
    pixels, ids = bilinear_crop(_sample()[0], window), nearest_crop(_sample()[1], window)
    height, width = ids.shape
    np.testing.assert_array_equal(labels[:height, :width], ids)
    np.testing.assert_allclose(image[:, :height, :width], pixels, atol=1)  # torch's 8-bit kernel rounds twice


def _mostly_one_class() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 48:] = np.arange(16) % 4 + 1
    return np.zeros((3, 64, 64), np.uint8), labels


def _share(labels: np.ndarray) -> float:
    return float(np.bincount(labels[labels != IGNORE_INDEX]).max() / (labels != IGNORE_INDEX).sum())


def test_crops_of_one_class_are_drawn_again() -> None:
    sample = _mostly_one_class()
    shares = {
        limit: [
            _share(
                _augment(
                    TrainTransform(scale_range=(1, 1), crop=(24, 24), max_class_share=limit), seed, sample
                )[1]
            )
            for seed in range(60)
        ]
        for limit in (1.0, 0.75)
    }
    plain, balanced = (sum(share < 0.75 for share in shares[limit]) / 60 for limit in (1.0, 0.75))
    assert plain < 0.4  # crops that begin right of column 30: 10 of 41
    assert balanced > 0.85  # one of 11 places must do: 1 - (31 / 41) ** 11 = 0.95


def test_a_good_first_crop_is_kept() -> None:
    for seed in range(10):
        one, two = (
            _augment(TrainTransform(crop=(16, 16), max_class_share=share), seed) for share in (1.0, 0.75)
        )
        np.testing.assert_array_equal(one[0], two[0])


def test_a_picture_of_one_class_ends_the_search() -> None:
    sample = np.zeros((3, 20, 20), np.uint8), np.full((20, 20), 7, np.uint8)
    _, labels = _augment(TrainTransform(scale_range=(1, 1), crop=(8, 8), max_class_share=0.75), 0, sample)
    assert (labels == 7).all()


def test_ignored_pixels_are_no_class() -> None:
    image, labels = np.zeros((3, 20, 20), np.uint8), np.full((20, 20), IGNORE_INDEX, np.uint8)
    labels[::2, ::2], labels[1::2, 1::2] = 1, 2  # half of the pixels have a class, in equal parts
    transform = TrainTransform(scale_range=(1, 1), flip=0, crop=(10, 10), max_class_share=0.6)
    found = _augment(transform, 0, (image, labels))[1]
    first = _augment(transform.model_copy(update={"max_class_share": 1.0}), 0, (image, labels))[1]
    np.testing.assert_array_equal(found, first)


def test_padding_has_the_colour_of_the_recipe() -> None:
    transform = TrainTransform(scale_range=(0.5, 0.5), crop=(20, 30), flip=0, padding=(128, 127, 0))
    image, labels = _augment(transform, 0)
    np.testing.assert_array_equal(image[:, 15:].reshape(3, -1).T, np.tile([128, 127, 0], (5 * 30, 1)))
    assert (labels[15:] == IGNORE_INDEX).all()


def test_distortion_changes_the_colours_and_nothing_else() -> None:
    plain = TrainTransform(crop=(16, 16))
    distorted = TrainTransform(crop=(16, 16), photometric=PhotometricDistortion(probability=1))
    for seed in range(5):
        before, after = _augment(plain, seed), _augment(distorted, seed)
        np.testing.assert_array_equal(before[1], after[1])
        assert (before[0] != after[0]).mean() > 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"photometric": {}, "brightness": 0.1},
        {"scale_step": 0},
        {"resize_base": (2048, 0)},
        {"longest": 2048},
        {"max_class_share": 1.5},
        {"padding": (128, 128, 256)},
    ],
)
def test_impossible_recipes_of_augmentation_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainTransform.model_validate(wrong)
