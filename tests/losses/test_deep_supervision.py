"""Losses of ensembles and auxiliary heads."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from segsweep.labels import IGNORE_INDEX
from segsweep.losses.deep_supervision import auxiliary_term, ensemble_terms
from segsweep.losses.per_pixel import CrossEntropy, LossTerm

LABELS = torch.randint(0, 5, (2, 12, 20), generator=torch.Generator().manual_seed(0))
LABELS[:, :3] = IGNORE_INDEX


def logits(seed: int, size: tuple[int, int] = (3, 5)) -> torch.Tensor:
    return torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(seed))


def value(term: LossTerm) -> float:
    return float(term.weight * term.loss.total / term.loss.count)


def enlarged(features: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, size=(12, 20), mode="bilinear", align_corners=False)


def test_learners_count_by_the_mean_of_their_losses() -> None:
    learners = [logits(seed) for seed in (1, 2, 3)]
    terms = ensemble_terms(logits(0), learners, LABELS, pixel_loss=CrossEntropy())
    each = [float(F.cross_entropy(enlarged(one), LABELS, ignore_index=IGNORE_INDEX)) for one in learners]
    assert value(terms["learners"]) == pytest.approx(sum(each) / 3, rel=1e-6)


def test_the_logarithm_is_enlarged_and_not_the_probabilities() -> None:
    merged = logits(0).softmax(1)
    terms = ensemble_terms(merged.log(), [logits(1)], LABELS, pixel_loss=CrossEntropy())
    expected = F.nll_loss(enlarged(merged.log()).log_softmax(1), LABELS, ignore_index=IGNORE_INDEX)
    assert value(terms["ensemble"]) == pytest.approx(float(expected), rel=1e-6)


def test_a_factor_common_to_all_merged_probabilities_changes_nothing() -> None:
    merged = logits(0).softmax(1)
    mean, total = (
        value(
            ensemble_terms((merged * factor).log(), [logits(1)], LABELS, pixel_loss=CrossEntropy())[
                "ensemble"
            ]
        )
        for factor in (1.0, 4.0)
    )
    assert total == pytest.approx(mean, rel=1e-6)


def test_a_uniform_prediction_has_the_loss_ln_k() -> None:
    uniform = torch.full((2, 5, 3, 5), math.log(1 / 5))
    terms = ensemble_terms(uniform, [torch.zeros(2, 5, 3, 5)], LABELS, pixel_loss=CrossEntropy())
    assert value(terms["ensemble"]) == pytest.approx(math.log(5), rel=1e-6)
    assert value(terms["learners"]) == pytest.approx(math.log(5), rel=1e-6)


def test_auxiliary_loss_is_divided_by_all_pixels() -> None:
    term = auxiliary_term(logits(0), LABELS, ignore_index=IGNORE_INDEX, weight=0.4)
    total = F.cross_entropy(enlarged(logits(0)), LABELS, ignore_index=IGNORE_INDEX, reduction="sum")
    assert value(term) == pytest.approx(0.4 * float(total) / (2 * 12 * 20), rel=1e-6)
