"""Losses on masks against brute force, and the batches in which objects are missing or too many.

Equality with transformers' matcher and losses is tested with the model, in test_maskformer_parity.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from segsweep.losses.mask_losses import dice_losses, focal_losses
from segsweep.losses.mask_matching import (
    MaskPrediction,
    MaskTargets,
    MaskWeights,
    mask_terms,
    match_queries,
    semantic_targets,
)
from segsweep.losses.per_pixel import LossTerm

CLASSES = 5
WEIGHTS = MaskWeights()


def predictions(batch: int = 2, queries: int = 4, size: tuple[int, int] = (6, 8)) -> MaskPrediction:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(batch, queries, CLASSES + 1, generator=generator, dtype=torch.float64)
    masks = 2 * torch.randn(batch, queries, *size, generator=generator, dtype=torch.float64)
    return MaskPrediction(classes.requires_grad_(), masks.requires_grad_())


def labels(batch: int = 2, size: tuple[int, int] = (24, 32)) -> Tensor:
    drawn = torch.randint(0, 3, (batch, *size), generator=torch.Generator().manual_seed(1))
    drawn[:, :5] = 255
    return drawn


def targets(drawn: Tensor, **options: bool) -> list[MaskTargets]:
    return semantic_targets(drawn, num_classes=CLASSES, ignore_index=255, **options)


def value(term: LossTerm) -> float:
    return float(term.loss.total.detach() / term.loss.count.clamp_min(1))


def focal_by_hand(logit: float, inside: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if inside else -0.75 * p**2 * math.log(1 - p)


def test_one_mask_for_each_class_that_occurs() -> None:
    drawn = torch.tensor([[[4, 4], [1, 255]], [[255, 255], [255, 255]]])
    first, second = targets(drawn)
    assert first.classes.tolist() == [1, 4]
    assert first.masks.tolist() == [[[False, False], [True, False]], [[True, True], [False, False]]]
    assert first.counted is None
    assert second.classes.tolist() == []
    assert second.masks.shape == (0, 2, 2)


@pytest.mark.parametrize("void", [255, 65535, -1])
def test_any_label_can_be_the_ignored_one(void: int) -> None:
    (target,) = semantic_targets(torch.tensor([[[void, 2]]]), num_classes=3, ignore_index=void)
    assert target.classes.tolist() == [2]


def test_focal_and_dice_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], dtype=torch.float64)
    masks = torch.tensor([[True, False, False], [True, True, False]])
    focal = [
        sum(focal_by_hand(logit, inside) for logit, inside in zip(*pair, strict=True)) / 3
        for pair in zip(logits.tolist(), masks.tolist(), strict=True)
    ]
    assert focal_losses(logits, masks).tolist() == pytest.approx(focal, rel=1e-12)
    p = [[1 / (1 + math.exp(-logit)) for logit in row] for row in logits.tolist()]
    dice = [
        1 - (2 * p[0][0] + 1) / (sum(p[0]) + 1 + 1),
        1 - (2 * (p[1][0] + p[1][1]) + 1) / (sum(p[1]) + 2 + 1),
    ]
    assert dice_losses(logits, masks).tolist() == pytest.approx(dice, rel=1e-12)


def test_the_assignment_is_the_cheapest_of_all() -> None:
    """Costs from the losses of every pair; all 24 injections of three objects into four queries."""
    prediction, found = predictions(), targets(labels())
    (matches,) = match_queries([prediction], found, weights=WEIGHTS)
    for image, (target, match) in enumerate(zip(found, matches, strict=True)):
        small = target.masks[:, ::4, ::4].flatten(1)  # nearest neighbour from 24x32 to 6x8
        probabilities = prediction.class_logits[image].softmax(-1)
        rows = prediction.mask_logits[image].flatten(1)
        cost = [
            [
                20 * focal_losses(row[None], mask[None]).item()
                + dice_losses(row[None], mask[None]).item()
                - probabilities[query, class_id].item()
                for mask, class_id in zip(small, target.classes, strict=True)
            ]
            for query, row in enumerate(rows)
        ]
        cheapest = min(
            itertools.permutations(range(4), 3), key=lambda qs: sum(cost[q][m] for m, q in enumerate(qs))
        )
        found_pairs = dict(zip(match.targets.tolist(), match.queries.tolist(), strict=True))
        assert found_pairs == dict(enumerate(cheapest))


def test_cost_of_extreme_logits_is_finite_and_right() -> None:
    """Of two queries with certain masks, the one that is right gets the object."""
    masks = torch.full((1, 2, 6, 8), 80.0)
    masks[0, 0] = -80.0
    prediction = MaskPrediction(torch.zeros(1, 2, CLASSES + 1), masks)
    (matches,) = match_queries([prediction], targets(torch.full((1, 24, 32), 2)), weights=WEIGHTS)
    assert matches[0].queries.tolist() == [1]


def test_no_value_of_a_diverged_model_stops_the_matching() -> None:
    prediction = predictions()
    broken = MaskPrediction(prediction.class_logits, prediction.mask_logits * float("nan"))
    terms = mask_terms([broken], targets(labels()), weights=WEIGHTS)
    assert math.isnan(value(terms["focal"]))  # the training loop sees it there


def test_classification_divides_by_the_sum_of_the_weights() -> None:
    prediction, found = predictions(), targets(labels())
    (matches,) = match_queries([prediction], found, weights=WEIGHTS)
    logs = prediction.class_logits.log_softmax(-1)
    total = weight = 0.0
    for image, match in enumerate(matches):
        pairs = dict(zip(match.queries.tolist(), match.targets.tolist(), strict=True))
        for query in range(4):
            matched = query in pairs
            class_id = int(found[image].classes[pairs[query]]) if matched else CLASSES
            weight += 1.0 if matched else 0.1
            total -= (1.0 if matched else 0.1) * logs[image, query, class_id].item()
    term = mask_terms([prediction], found, weights=WEIGHTS)["classification"]
    assert value(term) == pytest.approx(total / weight, rel=1e-12)
    assert float(term.loss.count) >= 2 * 4  # so that no count is taken for one by the training loop


def test_void_pixels_are_background_of_every_mask() -> None:
    prediction, drawn = predictions(), labels()
    void = mask_terms([prediction], targets(drawn), weights=WEIGHTS)
    as_class = drawn.where(drawn != 255, 4)  # background of the others, too, and a mask of its own
    filled = [
        MaskTargets(target.classes[:-1], target.masks[:-1]) for target in targets(as_class)
    ]  # without it
    assert value(void["focal"]) == value(mask_terms([prediction], filled, weights=WEIGHTS)["focal"])


def test_void_pixels_can_be_left_out() -> None:
    prediction, drawn = predictions(size=(24, 32)), labels()
    found = targets(drawn, ignore_void=True)
    terms = mask_terms([prediction], found, weights=WEIGHTS)
    cut = MaskPrediction(prediction.class_logits, prediction.mask_logits[:, :, 5:])
    expected = mask_terms([cut], targets(drawn[:, 5:]), weights=WEIGHTS)
    for name, term in terms.items():
        assert value(term) == pytest.approx(value(expected[name]), rel=1e-12)


def test_an_image_without_labels_counts_in_the_classification_alone() -> None:
    prediction, drawn = predictions(), labels()
    drawn[1] = 255
    terms = mask_terms([prediction], targets(drawn), weights=WEIGHTS)
    first = MaskPrediction(prediction.class_logits[:1], prediction.mask_logits[:1])
    alone = mask_terms([first], targets(drawn[:1]), weights=WEIGHTS)
    for name in ("focal", "dice"):
        assert value(terms[name]) == pytest.approx(value(alone[name]), rel=1e-12)
        assert int(terms[name].loss.count) == 3
    assert value(terms["classification"]) != value(alone["classification"])


def test_a_batch_without_any_object_has_no_mask_loss_but_gradients() -> None:
    prediction = predictions()
    terms = mask_terms([prediction] * 2, targets(torch.full((2, 24, 32), 255)), weights=WEIGHTS)
    assert value(terms["focal"]) == value(terms["dice"]) == 0
    assert int(terms["focal"].loss.count) == 0
    no_object = -prediction.class_logits.log_softmax(-1)[..., CLASSES].mean()
    assert value(terms["classification"]) == pytest.approx(2 * no_object.item(), rel=1e-12)
    sum(term.loss.total for term in terms.values()).backward()  # type: ignore[union-attr]
    assert prediction.mask_logits.grad is not None
    assert not prediction.mask_logits.grad.any()


def test_an_image_of_one_class_has_one_match() -> None:
    (matches,) = match_queries([predictions()], targets(torch.full((2, 24, 32), 3)), weights=WEIGHTS)
    assert [len(match.queries) for match in matches] == [1, 1]


def test_more_objects_than_queries() -> None:
    """Two of three objects are matched; all three divide."""
    prediction, found = predictions(queries=2), targets(labels())
    (matches,) = match_queries([prediction], found, weights=WEIGHTS)
    assert [match.queries.tolist() for match in matches] == [[0, 1], [0, 1]]
    terms = mask_terms([prediction], found, weights=WEIGHTS)
    assert int(terms["focal"].loss.count) == 6
    assert int(terms["classification"].loss.count) == 10 * 4  # four matched queries, in units of 0.1


def test_each_layer_is_matched_anew() -> None:
    first = predictions()
    second = MaskPrediction(first.class_logits.flip(1), first.mask_logits.flip(1))
    found = targets(labels())
    layers = match_queries([first, second], found, weights=WEIGHTS)
    for match, flipped in zip(*layers, strict=True):
        assert sorted((3 - flipped.queries).tolist()) == match.queries.tolist()


def test_half_precision_is_computed_in_full() -> None:
    prediction, found = predictions(), targets(labels())
    half = MaskPrediction(*(logits.detach().bfloat16() for logits in prediction))
    full = MaskPrediction(*(logits.float() for logits in half))
    for name, term in mask_terms([half], found, weights=WEIGHTS).items():
        assert value(term) == value(mask_terms([full], found, weights=WEIGHTS)[name])


def test_weight_nought_for_no_object_is_allowed() -> None:
    weights = MaskWeights(no_object=0.0)
    terms = mask_terms([predictions()], targets(labels()), weights=weights)
    assert int(terms["classification"].loss.count) == 6  # the matched queries
    assert value(terms["classification"]) > 0
