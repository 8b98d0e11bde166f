from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn.functional import interpolate

from segsweep.data.resampling import CropWindow, bilinear_crop, nearest_crop
from segsweep.data.transforms import MEAN, PADDING_COLOUR, STD, TrainTransform, normalise
from segsweep.labels import IGNORE_INDEX

Case = tuple[np.ndarray, np.ndarray, CropWindow]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An image, its labels and any window of any resized version of them."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    resized = draw(st.integers(1, 50)), draw(st.integers(1, 50))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = generator.integers(256, size=(3, height, width), dtype=np.uint8)
    labels = generator.integers(256, size=(height, width), dtype=np.uint8)
    window = CropWindow(
        resized=resized,
        top=draw(st.integers(0, resized[0] - 1)),
        left=draw(st.integers(0, resized[1] - 1)),
        crop=(draw(st.integers(1, 60)), draw(st.integers(1, 60))),
        flip=draw(st.booleans()),
    )
    return image, labels, window


def cropped(resized: np.ndarray, window: CropWindow) -> np.ndarray:
    rows = slice(window.top, window.top + window.crop[0])
    result = resized[..., rows, window.left : window.left + window.crop[1]]
    return result[..., ::-1] if window.flip else result


@given(cases())
def test_labels_are_bit_equal_to_resizing_everything_and_then_cropping(case: Case) -> None:
    _, labels, window = case
    rows, columns = (
        [floor((i + Fraction(1, 2)) * Fraction(found, target)) for i in range(target)]
        for found, target in zip(labels.shape, window.resized, strict=True)
    )
    np.testing.assert_array_equal(
        nearest_crop(labels, window), cropped(labels[np.ix_(rows, columns)], window)
    )


@given(cases())
@settings(deadline=None)
def test_images_equal_torch_bilinear_resizing_and_then_cropping(case: Case) -> None:
    image, _, window = case
    whole = interpolate(
        torch.from_numpy(image)[None].to(torch.float64),
        size=window.resized,
        mode="bilinear",
        align_corners=False,
    )
    np.testing.assert_allclose(bilinear_crop(image, window), cropped(whole[0].numpy(), window), atol=1e-3)


def test_labels_lie_under_their_pixels() -> None:
    """A label map drawn as an image must resample to the same borders: within half a source pixel."""
    labels = np.zeros((40, 60), np.uint8)
    labels[13:29, 17:44] = 200
    image = np.stack([labels] * 3)
    window = CropWindow(resized=(57, 91), top=5, left=9, crop=(50, 70))
    drawn = bilinear_crop(image, window)[0]
    resampled = nearest_crop(labels, window)
    clear = np.abs(drawn - 100) > 1  # the border itself is the only place where rounding decides
    np.testing.assert_array_equal((drawn > 100)[clear], (resampled > 100)[clear])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_type_is_kept(dtype: type[np.generic]) -> None:
    labels = np.full((6, 8), 200, dtype)
    transform = TrainTransform(crop=(20, 20), scale_range=(1, 1))
    _, result = transform(
        np.zeros((3, 6, 8), np.uint8), labels, generator=np.random.default_rng(0), ignore_index=255
    )
    assert result.dtype == dtype


def augment(
    transform: TrainTransform, seed: int, size: tuple[int, int] = (30, 40)
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    image = generator.integers(256, size=(3, *size), dtype=np.uint8)
    labels = generator.integers(11, size=size, dtype=np.uint8)
    return transform(image, labels, generator=np.random.default_rng(seed), ignore_index=IGNORE_INDEX)


@given(
    seed=st.integers(0, 2**32 - 1),
    crop=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    scale=st.tuples(st.floats(0.1, 1), st.floats(1, 3)),
)
def test_result_has_the_size_of_the_crop(
    seed: int, crop: tuple[int, int], scale: tuple[float, float]
) -> None:
    image, labels = augment(TrainTransform(crop=crop, scale_range=scale), seed)
    assert (image.shape, labels.shape) == ((3, *crop), crop)
    assert (image.dtype, labels.dtype) == (np.uint8, np.uint8)


def test_same_generator_same_result() -> None:
    transform = TrainTransform(crop=(16, 16), brightness=0.1, contrast=0.3, saturation=0.3)
    for one, two in zip(augment(transform, 3), augment(transform, 3), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (augment(transform, 3)[0] != augment(transform, 4)[0]).any()


def test_switching_one_chance_off_does_not_move_the_others() -> None:
    still = augment(TrainTransform(crop=(16, 16), flip=0.0), 3)
    flipped = augment(TrainTransform(crop=(16, 16), flip=1.0), 3)
    np.testing.assert_array_equal(still[0], flipped[0][..., ::-1])
    np.testing.assert_array_equal(still[1], flipped[1][..., ::-1])


def test_without_chance_the_sample_is_unchanged() -> None:
    image, labels = augment(TrainTransform(scale_range=(1, 1), flip=0), 0)
    generator = np.random.default_rng(5)
    np.testing.assert_array_equal(image, generator.integers(256, size=(3, 30, 40), dtype=np.uint8))
    np.testing.assert_array_equal(labels, generator.integers(11, size=(30, 40), dtype=np.uint8))


def test_small_images_are_padded_below_and_right_with_the_mean_and_ignored() -> None:
    image, labels = augment(TrainTransform(scale_range=(0.5, 0.5), crop=(20, 30), flip=0), 0)
    assert (labels[:15, :20] != IGNORE_INDEX).all()
    assert (labels[15:] == IGNORE_INDEX).all()
    assert (labels[:, 20:] == IGNORE_INDEX).all()
    np.testing.assert_array_equal(image[:, 15:].reshape(3, -1).T, np.tile(PADDING_COLOUR, (5 * 30, 1)))
    assert normalise(torch.from_numpy(image[None]))[..., 15:, :].abs().max() < 0.01


def test_every_place_of_the_crop_is_reached() -> None:
    transform = TrainTransform(scale_range=(1, 1), crop=(28, 38))
    generator = np.random.default_rng(0)
    places = {
        (window.top, window.left)
        for window in (
            transform.window((30, 40), scale=0, position=tuple(generator.random(2)), flip=False)
            for _ in range(300)
        )
    }
    assert places == {(top, left) for top in range(3) for left in range(3)}


def test_scale_is_uniform_in_its_range() -> None:
    transform = TrainTransform(scale_range=(0.5, 2.0))
    heights = [
        transform.window((100, 200), scale=scale, position=(0, 0), flip=False).resized
        for scale in (0.0, 1 / 3, 0.999999)
    ]
    assert heights == [(50, 100), (100, 200), (200, 400)]


def test_brightness_shifts_all_channels_alike() -> None:
    image, _ = augment(TrainTransform(scale_range=(1, 1), flip=0, brightness=0.2), 1)
    plain, _ = augment(TrainTransform(scale_range=(1, 1), flip=0), 1)
    inside = (image > 0) & (image < 255)
    shifts = np.unique(image[inside].astype(int) - plain[inside])
    assert len(shifts) <= 2  # one shift, rounded
    assert 0 < abs(shifts).max() <= 51


def test_grey_pictures_stay_grey_whatever_the_saturation() -> None:
    grey = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3)
    transform = TrainTransform(scale_range=(1, 1), flip=0, saturation=0.9)
    result, _ = transform(grey, grey[0], generator=np.random.default_rng(2), ignore_index=IGNORE_INDEX)
    np.testing.assert_allclose(result.astype(int), grey, atol=1)


def test_contrast_keeps_the_mean() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(100, 156, size=(3, 40, 40), dtype=np.uint8)  # far from clipping
    transform = TrainTransform(scale_range=(1, 1), flip=0, contrast=0.5)
    result, _ = transform(image, image[0], generator=generator, ignore_index=IGNORE_INDEX)
    assert result.mean() == pytest.approx(image.mean(), abs=0.5)
    assert result.std() != pytest.approx(image.std(), rel=0.02)


def test_normalisation_is_imagenets() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    # torchvision's documented values for pretrained weights, for images in [0, 1]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(normalise(images), expected)
    assert len(MEAN) == len(STD) == 3


@pytest.mark.parametrize(
    "wrong",
    [{"scale_range": (2.0, 0.5)}, {"scale_range": (0.0, 1.0)}, {"crop": (0, 5)}, {"flip": 1.5}, {"hue": 0.1}],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainTransform.model_validate(wrong)
