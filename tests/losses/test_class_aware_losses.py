"""Class-aware losses against loops in numpy, closed forms, and two ranks against one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from segsweep.labels import IGNORE_INDEX
from segsweep.losses.class_aware import ClassAwareLoss, class_centres

K = 4
NAMES = ("car_intra", "car_inter_class", "car_inter_pixel")


def batch(seed: int = 0, *, channels: int = 6, images: int = 3) -> tuple[Tensor, Tensor]:
    """Features at the size of the labels; class 2 is absent and some pixels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, channels, 5, 7, generator=generator) * 2
    labels = torch.tensor([0, 1, 3])[torch.randint(0, 3, (images, 5, 7), generator=generator)]
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = IGNORE_INDEX
    return features, labels


def values(loss: ClassAwareLoss, features: Tensor, labels: Tensor, num_classes: int = K) -> dict[str, float]:
    terms = loss(features, labels, num_classes)
    assert all(int(term.loss.count) == 1 for term in terms.values())
    return {name: term.loss.total.item() for name, term in terms.items()}


def by_hand(features: Tensor, labels: Tensor, *, mask_ignored: bool) -> dict[str, float]:
    """The three terms pixel by pixel, after CAR (Huang et al. 2022, Sec. 3)."""
    pixels = features.double().permute(0, 2, 3, 1).flatten(0, 2).numpy()
    classes = labels.flatten().numpy()
    channels = pixels.shape[1]
    centres = np.zeros((K, channels))
    for k in range(K):
        if (classes == k).any():
            centres[k] = pixels[classes == k].mean(0)

    def softmax(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()

    distance = sum(
        np.abs(centres[k] - x).sum() for x, k in zip(pixels, classes, strict=True) if k != IGNORE_INDEX
    )
    between = []
    for i in range(K):
        relation = softmax(centres @ centres[i] / np.sqrt(channels))
        excess = sum(max(relation[j] - 0.5 / (K - 1), 0) for j in range(K) if j != i)
        between.append(np.clip(excess, 1e-7, 1 - 1e-7))
    towards = []
    for x, k in zip(pixels, classes, strict=True):
        if k == IGNORE_INDEX and mask_ignored:
            continue
        energy = centres @ x
        if k != IGNORE_INDEX:
            energy[k] = centres[k] @ centres[k]
        relation = softmax(energy / np.sqrt(channels))
        excess = sum(max(relation[j] - 0.25 / (K - 1), 0) for j in range(K) if j != k)
        towards.append(np.clip(excess, 1e-7, 1 - 1e-7))
    return {
        "car_intra": max((distance / pixels.size) ** 2, 1e-5),
        "car_inter_class": float(np.mean(between)) ** 2,
        "car_inter_pixel": float(np.mean(towards)) ** 2,
    }


@pytest.mark.parametrize("mask_ignored", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_terms_are_those_of_a_loop_over_the_pixels(seed: int, mask_ignored: bool) -> None:
    features, labels = batch(seed)
    actual = values(ClassAwareLoss(mask_ignored=mask_ignored), features, labels)
    assert actual == pytest.approx(by_hand(features, labels, mask_ignored=mask_ignored), rel=1e-5)


def test_identical_features_have_the_terms_of_the_closed_form() -> None:
    # all relations are 1/4: 3 * (1/4 - 0.5/3) = 1/4 and 3 * (1/4 - 0.25/3) = 1/2; no distance: the floor
    labels = torch.arange(K).repeat(2, 3, 1)
    actual = values(ClassAwareLoss(), torch.ones(2, 8, 3, K), labels)
    expected = {"car_intra": 1e-5, "car_inter_class": 0.0625, "car_inter_pixel": 0.25}
    assert actual == pytest.approx(expected, abs=1e-6)


def test_orthogonal_features_of_large_norm_leave_only_floors() -> None:
    labels = torch.arange(K).repeat(2, 3, 1)
    features = 40 * nn.functional.one_hot(labels, K).permute(0, 3, 1, 2).float()
    expected = {"car_intra": 1e-5, "car_inter_class": 1e-14, "car_inter_pixel": 1e-14}
    assert values(ClassAwareLoss(), features, labels) == pytest.approx(expected, rel=1e-5)


def test_centres_are_class_means_and_zero_for_an_absent_class() -> None:
    features, labels = batch()
    means, counts = class_centres(features, labels, K)
    for k in (0, 1, 3):
        chosen = features.permute(0, 2, 3, 1)[labels == k]
        torch.testing.assert_close(means[k], chosen.mean(0))
        assert counts[k] == len(chosen)
    assert not means[2].any()
    assert counts[2] == 0


def test_labels_are_taken_from_the_middle_of_each_cell() -> None:
    labels = torch.full((1, 6, 9), IGNORE_INDEX)
    labels[0, 1, 4], labels[0, 4, 7] = 0, 1  # middles of cells (0, 1) and (1, 2) of 3x3 pixels
    features = torch.arange(6.0).reshape(1, 1, 2, 3)
    means, counts = class_centres(features, labels, 2)
    assert counts.tolist() == [1, 1]
    assert means[:, 0].tolist() == [1, 5]


def gradient(features: Tensor, labels: Tensor, **weights: float) -> Tensor:
    features = features.clone().requires_grad_(True)
    terms = ClassAwareLoss(**{"intra": 0.0, "inter_class": 0.0, "inter_pixel": 0.0} | weights)(
        features, labels, K
    )
    (term,) = terms.values()
    (result,) = torch.autograd.grad(term.loss.total, features)
    return result


def test_pixels_are_pulled_to_a_centre_that_does_not_move() -> None:
    features, labels = batch()
    means = class_centres(features, labels, K).means
    pixels = features.permute(0, 2, 3, 1)
    difference = torch.zeros_like(pixels)
    labelled = labels != IGNORE_INDEX
    difference[labelled] = pixels[labelled] - means[labels[labelled]]
    root = difference.abs().sum() / difference.numel()
    expected = 2 * root * difference.sign() / difference.numel()  # d root**2, centres held
    torch.testing.assert_close(gradient(features, labels, intra=1.0), expected.permute(0, 3, 1, 2))


def test_ignored_pixels_have_a_gradient_only_where_cars_code_is_followed() -> None:
    features, labels = batch()
    ignored = (labels == IGNORE_INDEX)[:, None].expand_as(features)
    for name in ("intra", "inter_class", "inter_pixel"):
        assert not gradient(features, labels, **{name: 1.0})[ignored].any()
    features.requires_grad_(True)
    term = ClassAwareLoss(mask_ignored=False)(features, labels, K)["car_inter_pixel"]
    (followed,) = torch.autograd.grad(term.loss.total, features)
    assert followed[ignored].any()


def test_similar_centres_push_each_other_apart() -> None:
    features = torch.ones(1, 8, 2, 2) + 0.01 * torch.randn(1, 8, 2, 2, generator=torch.manual_seed(0))
    labels = torch.arange(4).reshape(1, 2, 2)
    stepped = features - 50 * gradient(features, labels, inter_class=1.0)
    loss = ClassAwareLoss()
    after, before = (values(loss, x, labels)["car_inter_class"] for x in (stepped, features))
    assert after < before


def test_a_term_without_weight_is_left_out() -> None:
    features, labels = batch()
    terms = ClassAwareLoss(intra=0.5, inter_class=0)(features, labels, K)
    assert {name: term.weight for name, term in terms.items()} == {"car_intra": 0.5, "car_inter_pixel": 1.0}


def test_a_batch_without_labels_is_finite() -> None:
    features, labels = batch()
    nothing = torch.full_like(labels, IGNORE_INDEX)
    features.requires_grad_(True)
    total = sum(term.loss.total for term in ClassAwareLoss()(features, nothing, K).values())
    assert isinstance(total, Tensor)
    total.backward()
    assert torch.isfinite(total)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_one_class_is_refused() -> None:
    features, labels = batch()
    with pytest.raises(ValueError, match=r"num_classes=1.*2 or more"):
        ClassAwareLoss()(features, labels, 1)


def test_terms_are_float32_under_autocast() -> None:
    features, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = values(ClassAwareLoss(), features, labels)
    assert inside == values(ClassAwareLoss(), features, labels)


# Two ranks


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(6, 5, 1)


def training_gradients(features: Tensor, labels: Tensor, world_size: int) -> dict[str, Tensor]:
    """Values and gradients as the training loop makes them from the terms."""
    model = network()
    inputs = features.clone().requires_grad_(True)
    terms = ClassAwareLoss(mask_ignored=True)(model(inputs), labels, K)
    sums = torch.stack([torch.stack([t.loss.total.detach(), t.loss.count.float()]) for t in terms.values()])
    if world_size > 1:
        dist.all_reduce(sums)
    shares = [
        term.loss.total * world_size / count
        for term, count in zip(terms.values(), sums[:, 1].tolist(), strict=True)
    ]
    torch.stack(shares).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if world_size > 1:  # as DistributedDataParallel does
        for value in gradients.values():
            assert value is not None
            dist.all_reduce(value.div_(world_size))
    return {
        **{name: value for name, value in gradients.items() if value is not None},
        "values": sums[:, 0] / sums[:, 1],
        "centres": class_centres(model(features), labels, K).means.detach(),
    }


def _worker(rank: int, folder: str, features: Tensor, labels: Tensor) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    shares = features.split([3, 1])[rank], labels.split([3, 1])[rank]  # uneven on purpose
    torch.save(training_gradients(*shares, world_size=2), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_train_as_one_on_the_whole_batch(tmp_path: Path) -> None:
    features, labels = batch(images=4)
    labels[3][labels[3] == 1] = 0  # a class that only the first rank has
    mp.spawn(_worker, args=(str(tmp_path), features, labels), nprocs=2)
    whole = training_gradients(features, labels, world_size=1)
    for rank in range(2):
        part = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert set(part) == {"weight", "bias", "values", "centres"}
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, rtol=1e-4, atol=1e-7)
