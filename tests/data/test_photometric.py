"""Photometric distortion against the standard library's HSV and the published definitions."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from pydantic import ValidationError

from segsweep.data.photometric import CHANCES, PhotometricDistortion, hue_turned, saturated

# Place of the contrast, then (whether, how much) of brightness, contrast, saturation and hue.
NEVER, ALWAYS = 0.99, 0.0


def _pixels(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed).integers(256, size=(3, 12, 25))
    random[:, 0, :3] = [[0, 255, 90], [0, 255, 90], [0, 255, 90]]  # black, white and grey have no hue
    random[:, 0, 3:6] = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    return random.astype(np.float32)


def _with_colorsys(pixels: np.ndarray, *, turn: float = 0.0, factor: float = 1.0) -> np.ndarray:
    result = np.empty_like(pixels, dtype=np.float64)
    for row, column in np.ndindex(pixels.shape[1:]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[:, row, column].astype(float) / 255))
        turned = colorsys.hsv_to_rgb((hue + turn) % 1, min(1.0, saturation * factor), value)
        result[:, row, column] = 255 * np.array(turned)
    return result


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.1, 0.37, -0.5])
def test_a_turned_hue_is_that_of_colorsys(turn: float) -> None:
    pixels = _pixels()
    np.testing.assert_allclose(hue_turned(pixels, turn), _with_colorsys(pixels, turn=turn), atol=2e-3)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5, 4.0])
def test_saturation_is_that_of_colorsys(factor: float) -> None:
    pixels = _pixels()
    np.testing.assert_allclose(saturated(pixels, factor), _with_colorsys(pixels, factor=factor), atol=2e-3)


def _distorted(distortion: PhotometricDistortion, **chosen: float) -> np.ndarray:
    """Only the named steps happen, each with its number in [0, 1)."""
    chance = [chosen.pop("order", 0.0)]
    for name in ("brightness", "contrast", "saturation", "hue"):
        chance += [ALWAYS if name in chosen else NEVER, chosen.pop(name, 0.5)]
    assert not chosen and len(chance) == CHANCES
    return distortion(_pixels(), chance)


def test_brightness_adds_up_to_32_grey_levels() -> None:
    distortion = PhotometricDistortion()
    np.testing.assert_allclose(_distorted(distortion, brightness=0.0), np.clip(_pixels() - 32, 0, 255))
    np.testing.assert_allclose(_distorted(distortion, brightness=0.75), np.clip(_pixels() + 16, 0, 255))


def test_contrast_multiplies_from_black_or_from_the_mean_of_each_channel() -> None:
    pixels = _pixels()
    black = _distorted(PhotometricDistortion(), contrast=0.75)  # factor 1.25
    np.testing.assert_allclose(black, np.clip(1.25 * pixels, 0, 255), atol=1e-3)
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    around = _distorted(PhotometricDistortion(contrast_pivot="channel_mean"), contrast=0.0)  # factor 0.5
    np.testing.assert_allclose(around, (pixels + mean) / 2, atol=1e-3)


@pytest.mark.parametrize(
    ("place", "order", "first"), [("random", 0.7, True), ("random", 0.2, False), ("first", 0.2, True)]
)
def test_contrast_comes_before_or_after_saturation_and_hue(place: str, order: float, first: bool) -> None:
    distortion = PhotometricDistortion.model_validate({"contrast_place": place})
    found = _distorted(distortion, order=order, contrast=0.999999, saturation=0.999999, hue=0.0)
    turned = {"turn": -0.1, "factor": 1.5}
    expected = (
        _with_colorsys(np.clip(1.5 * _pixels(), 0, 255), **turned)
        if first
        else np.clip(1.5 * _with_colorsys(_pixels(), **turned), 0, 255)
    )
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_each_step_happens_as_often_as_its_probability_says() -> None:
    distortion = PhotometricDistortion(
        probability=0.25, hue_probability=1.0, saturation=(1, 1), contrast=(1, 1)
    )
    generator = np.random.default_rng(0)
    red = np.zeros((3, 1, 1), np.float32) + np.array([200, 40, 40], np.float32)[:, None, None]
    results = [distortion(red.copy(), generator.random(CHANCES).tolist()).ravel() for _ in range(2000)]
    brightened = sum(abs(result.max() - 200) > 1e-3 for result in results) / 2000
    turned = sum(abs(result[1] - result[2]) > 1e-3 for result in results) / 2000
    assert brightened == pytest.approx(0.25, abs=0.04)  # 4 standard deviations
    assert turned > 0.99


def test_steps_that_are_off_change_nothing() -> None:
    distortion = PhotometricDistortion(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0, probability=1)
    np.testing.assert_array_equal(
        _distorted(distortion, brightness=0, contrast=0, saturation=0, hue=0), _pixels()
    )


@pytest.mark.parametrize("wrong", [{"contrast": (1.5, 0.5)}, {"hue": 18}, {"brightness": -1}, {"gamma": 2}])
def test_impossible_distortions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PhotometricDistortion.model_validate(wrong)
