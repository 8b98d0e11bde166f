"""Rules by which several predictions become one, against brute force."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from segsweep.models.heads.merging import GatedMerge, GatedRule, LevelLogits, PlainMerge, PlainRule

SIZE = (8, 12)
CLASSES = 5
LEVELS = (2, 3, 4, 5)


def predictions(levels: tuple[int, ...] = LEVELS) -> list[LevelLogits]:
    generator = torch.Generator().manual_seed(0)
    return [
        LevelLogits(level, 3 * torch.randn(2, CLASSES, SIZE[0] >> i, -(-SIZE[1] >> i), generator=generator))
        for i, level in enumerate(levels)
    ]


def enlarged(logits: Tensor) -> Tensor:
    dense = logits.contiguous(memory_format=torch.channels_last)  # the layout decides how sums are rounded
    return F.interpolate(dense, size=SIZE, mode="bilinear", align_corners=False)


def chances() -> list[Tensor]:
    return [
        enlarged(logits).permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2) for _, logits in predictions()
    ]


def gated(rule: GatedRule) -> GatedMerge:
    torch.manual_seed(0)
    merge = GatedMerge(rule, LEVELS, num_classes=CLASSES, channels=8).eval()
    for parameter in merge.parameters():
        nn.init.normal_(parameter)
    return merge


def gate(merge: GatedMerge, index: int) -> Tensor:
    level, logits = predictions()[index]
    return enlarged(merge.gates[str(level)](logits))


@pytest.mark.parametrize("rule", ["average", "product", "hierarchical", "explicit"])
def test_merged_probabilities_add_up_to_one(rule: str) -> None:
    merge = PlainMerge(rule) if rule in {"average", "product"} else gated(rule)  # type: ignore[arg-type]
    merged = merge(predictions(), SIZE)
    assert merged.shape == (2, CLASSES, *SIZE)
    torch.testing.assert_close(merged.sum(1), torch.ones(2, *SIZE), rtol=0, atol=1e-5)


def test_average_is_the_mean_of_the_probabilities() -> None:
    torch.testing.assert_close(PlainMerge("average")(predictions(), SIZE), torch.stack(chances()).mean(0))


def test_product_is_the_normalised_product_of_the_probabilities() -> None:
    product = torch.stack(chances()).double().prod(0)
    expected = (product / product.sum(1, keepdim=True)).float()
    merged = PlainMerge("product")(predictions(), SIZE)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-6)
    summed = sum(enlarged(logits).log_softmax(1) for _, logits in predictions())
    assert torch.equal(merged.argmax(1), summed.argmax(1))


def test_vote_keeps_the_probability_of_each_first_choice() -> None:
    expected = torch.zeros(2, CLASSES, *SIZE)
    for image in range(2):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                for chance in chances():
                    column = chance[image, :, y, x].tolist()
                    expected[image, column.index(max(column)), y, x] += max(column) / len(LEVELS)
    torch.testing.assert_close(PlainMerge("vote")(predictions(), SIZE), expected)


def test_hierarchical_gates_belong_to_the_coarser_level() -> None:
    merge = gated("hierarchical")
    assert set(merge.gates) == {"3", "4", "5"}
    expected = chances()[0]
    for index in (1, 2, 3):
        opened = gate(merge, index)
        expected = opened * chances()[index] + (1 - opened) * expected
    torch.testing.assert_close(merge(predictions(), SIZE), expected)


def test_explicit_weights_are_normalised_over_the_levels() -> None:
    merge = gated("explicit")
    weights = [gate(merge, index) for index in range(4)]
    expected = sum(w * p for w, p in zip(weights, chances(), strict=True)) / sum(weights)
    torch.testing.assert_close(merge(predictions(), SIZE), expected)


@pytest.mark.parametrize("rule", ["average", "hierarchical", "explicit"])
@pytest.mark.parametrize("index", range(4))
def test_one_learner_alone_is_its_own_prediction(rule: str, index: int) -> None:
    merge = PlainMerge("average") if rule == "average" else gated(rule)  # type: ignore[arg-type]
    assert torch.equal(merge([predictions()[index]], SIZE), chances()[index])


def test_gates_follow_the_published_layers() -> None:
    # 3x3 without bias, BN, ReLU, 3x3 without bias, BN, ReLU, 1x1 without bias; SenFormer R50: 58.05M - 55.24M
    with torch.device("meta"):
        merge = GatedMerge("hierarchical", LEVELS, num_classes=150)
    gate_params = 150 * 256 * 9 + 512 + 256 * 256 * 9 + 512 + 256
    assert sum(parameter.numel() for parameter in merge.parameters()) == 3 * gate_params == 2_810_112


@pytest.mark.parametrize(("rule", "maps"), [("average", 3), ("product", 3), ("vote", 3)])
def test_merging_four_learners_needs_three_maps_at_a_time(rule: PlainRule, maps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [
        LevelLogits(level, torch.randn(1, 150, 256 >> level, 256 >> level, generator=generator))
        for level in LEVELS
    ]
    size = (64, 64)
    one_map = 150 * 64 * 64 * 4
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        PlainMerge(rule)(inputs, size)
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert peak <= (maps + 0.1) * one_map  # all learners enlarged and softmaxed at once would be 8
