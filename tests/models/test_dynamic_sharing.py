"""Routing of images to models that share more or less."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from segsweep.models.dynamic_sharing import DynamicSharing, mean_reduction, route
from segsweep.models.methods.cts import CTSConfig
from segsweep.models.token_segmenter import TokenSegmenter
from segsweep.training.sliding_window import sliding_window_logits

TRAINED = (0, 41, 78, 103, 130, 157)
SIZE = (64, 96)  # 6 superpatches


def build(shared: int) -> TokenSegmenter:
    sharing = {"shared_superpatches": shared} | ({"policy": "nano"} if shared else {})
    values = {"backbone": {"name": "vit_nano"}, "crop": SIZE, "sharing": sharing}
    model = CTSConfig.model_validate(values).build(4)
    assert isinstance(model, TokenSegmenter)
    return model.eval()


def models(*counts: int) -> dict[int, TokenSegmenter]:
    torch.manual_seed(0)
    built = {count: build(count) for count in counts}
    policy = next(model.encoder.policy for model in built.values() if model.encoder.policy is not None)
    for model in built.values():
        if model.encoder.policy is not None:
            model.encoder.set_policy(copy.deepcopy(policy))
    return built


def images(batch: int = 5) -> Tensor:
    return 5 * torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shareable", "expected"),
    [(0, 0), (1, 0), (41, 0), (42, 41), (78, 41), (103, 78), (104, 103), (157, 130), (158, 157), (256, 157)],
)
def test_the_largest_number_strictly_below_is_chosen(shareable: int, expected: int) -> None:
    assert route(shareable, TRAINED) == expected


def test_each_image_gets_what_its_model_says_alone() -> None:
    built = models(0, 1, 3, 5)
    policy = built[1].encoder.policy
    assert policy is not None
    probabilities = torch.stack([1 / (1 + (-margin).exp()) for margin in policy.margins(images()).flatten()])
    threshold = float(probabilities.median())
    dynamic = DynamicSharing(built, threshold=threshold)
    output = dynamic(images())
    above = (policy.margins(images()).sigmoid() > threshold).sum(1).tolist()
    assert dynamic.shareable(images()).tolist() == above
    assert output.shared_superpatches == tuple(route(count, (0, 1, 3, 5)) for count in above)
    assert len(set(output.shared_superpatches)) > 1
    with torch.no_grad():
        for row, count in enumerate(output.shared_superpatches):
            alone = built[count](images()[row : row + 1]).logits[0]
            torch.testing.assert_close(output.logits[row], alone, rtol=1e-4, atol=1e-5)
    assert output.semantic_logits(SIZE).shape == (5, 4, *SIZE)


@pytest.mark.parametrize(("bias", "expected"), [(20.0, 5), (-20.0, 0)])
def test_extreme_policies_reach_the_extreme_models(bias: float, expected: int) -> None:
    built = models(0, 1, 5)
    for model in built.values():
        if model.encoder.policy is not None:
            with torch.no_grad():
                model.encoder.policy.head.weight.zero_()
                model.encoder.policy.head.bias.copy_(torch.tensor([0.0, bias]))
    dynamic = DynamicSharing(built)
    assert dynamic(images(2)).shared_superpatches == (expected, expected)
    # 24 superpatches share: a window has 6 of them, as many as its own
    assert dynamic.for_image(torch.randn(1, 3, 128, 192), SIZE) is built[expected]


def test_windows_are_routed_one_by_one() -> None:
    dynamic = DynamicSharing(models(0, 1, 3), threshold=0.5)
    wide = torch.cat([images(1), images(2)[1:]], dim=-1)
    logits = sliding_window_logits(dynamic, wide, window=SIZE, stride=SIZE)
    expected = [dynamic(part).semantic_logits(SIZE) for part in wide.split(96, dim=-1)]
    torch.testing.assert_close(logits, torch.cat(expected, dim=-1))


def test_models_that_cannot_be_routed_to_are_refused() -> None:
    with pytest.raises(ValueError, match="one that shares none"):
        DynamicSharing(models(1, 3))
    with pytest.raises(ValueError, match="shares 3 of 6"):
        DynamicSharing({0: build(0), 2: build(3)})
    with pytest.raises(ValueError, match="different policy networks"):
        DynamicSharing({0: build(0), 1: build(1), 3: build(3)})
    with pytest.raises(ValueError, match="no probability"):
        DynamicSharing(models(0, 1), threshold=1.0)


def test_mean_reduction_is_weighted_by_images() -> None:
    assert mean_reduction({0.0: 1, 0.3: 3}) == pytest.approx(0.225)
