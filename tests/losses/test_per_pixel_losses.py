"""Pixel losses against loops in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segsweep.labels import IGNORE_INDEX
from segsweep.losses.per_pixel import CrossEntropy, OhemCrossEntropy, PixelLoss

K = 4


def batch(
    seed: int, *, ignored: float = 0.2, size: tuple[int, int] = (6, 7)
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, K, *size, generator=generator) * 2
    labels = torch.randint(0, K, (3, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = IGNORE_INDEX
    return logits, labels


def pixel_losses(logits: torch.Tensor, labels: torch.Tensor) -> list[list[float]]:
    """Minus log-probability of the true class of every labelled pixel, image by image."""
    images = []
    for scores, truth in zip(logits.double().numpy(), labels.numpy(), strict=True):
        losses = []
        for i, j in np.ndindex(truth.shape):
            if truth[i, j] != IGNORE_INDEX:
                column = scores[:, i, j]
                losses.append(float(np.log(np.exp(column).sum()) - column[truth[i, j]]))
        images.append(losses)
    return images


def brute_force_ohem(
    logits: torch.Tensor, labels: torch.Tensor, *, prob_threshold: float, min_kept: int
) -> tuple[float, int]:
    total, count = 0.0, 0
    for losses in pixel_losses(logits, labels):
        hardest = sorted(losses, reverse=True)
        hard = [loss for loss in hardest if math.exp(-loss) < prob_threshold]
        kept = max((hard, hardest[:min_kept]), key=len)
        total, count = total + sum(kept), count + len(kept)
    return total, count


def assert_equal(loss: PixelLoss, expected: tuple[float, int]) -> None:
    assert loss.count.item() == expected[1]
    assert loss.total.item() == pytest.approx(expected[0], rel=1e-5)


def test_cross_entropy_sums_labelled_pixels() -> None:
    logits, labels = batch(0)
    losses = [loss for image in pixel_losses(logits, labels) for loss in image]
    assert_equal(CrossEntropy()(logits, labels), (sum(losses), len(losses)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    prob_threshold=st.floats(0.05, 1.0),
    min_kept=st.integers(0, 60),
    ignored=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_ohem_keeps_what_a_search_over_each_image_keeps(
    seed: int, prob_threshold: float, min_kept: int, ignored: float
) -> None:
    logits, labels = batch(seed, ignored=ignored)
    loss = OhemCrossEntropy(prob_threshold=prob_threshold, min_kept=min_kept)(logits, labels)
    assert_equal(loss, brute_force_ohem(logits, labels, prob_threshold=prob_threshold, min_kept=min_kept))


def test_ohem_does_not_depend_on_how_the_batch_is_split() -> None:
    logits, labels = batch(1)
    loss = OhemCrossEntropy(prob_threshold=0.3, min_kept=10)
    whole = loss(logits, labels)
    parts = [loss(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert sum(part.count.item() for part in parts) == whole.count.item()
    assert sum(part.total.item() for part in parts) == pytest.approx(whole.total.item(), rel=1e-6)


def test_ohem_gradient_is_that_of_the_kept_pixels_only() -> None:
    logits, labels = batch(2, ignored=0.0)
    logits.requires_grad_()
    OhemCrossEntropy(prob_threshold=1e-6, min_kept=5)(logits, labels).total.backward()
    assert (logits.grad.abs().sum(1) > 0).flatten(1).sum(1).tolist() == [5, 5, 5]


def test_ohem_that_keeps_everything_is_cross_entropy() -> None:
    logits, labels = batch(3)
    everything = OhemCrossEntropy(min_kept=10**6)(logits, labels)
    expected = CrossEntropy()(logits, labels)
    assert_equal(everything, (expected.total.item(), int(expected.count.item())))


def test_ohem_keeps_all_pixels_that_tie_with_the_last_one() -> None:
    logits, labels = torch.zeros(1, K, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64)
    loss = OhemCrossEntropy(prob_threshold=0.1, min_kept=2)(logits, labels)
    assert_equal(loss, (9 * math.log(K), 9))


@pytest.mark.parametrize("loss", [CrossEntropy(), OhemCrossEntropy(min_kept=5), OhemCrossEntropy()])
def test_a_batch_without_labels_gives_zero_with_a_gradient_path(
    loss: CrossEntropy | OhemCrossEntropy,
) -> None:
    logits, labels = batch(4, ignored=1.1)
    logits.requires_grad_()
    total, count = loss(logits, labels)
    total.backward()
    assert (total.item(), count.item()) == (0.0, 0)
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_logits_lose_nothing_in_the_sum() -> None:
    logits, labels = batch(5)
    half = logits.bfloat16()
    total = CrossEntropy()(half, labels).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, CrossEntropy()(half.float(), labels).total)


@pytest.mark.parametrize("values", [{"prob_threshold": 0.0}, {"prob_threshold": 1.5}, {"min_kept": -1}])
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        OhemCrossEntropy(**values)
