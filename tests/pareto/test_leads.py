"""Who is ahead at which budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from segsweep.pareto.leads import Lead, leads

COST_AND_MIOU = [False, True]
Values = NDArray[np.float64]
FRONTS = st.lists(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.integers(0, 9).map(float)),
    min_size=2,
    max_size=3,
)


def test_leads_by_hand() -> None:
    first = [[20.0, 0.70], [60.0, 0.72]]
    second = [[10.0, 0.60], [20.0, 0.692], [60.0, 0.75]]
    assert leads([first, second], COST_AND_MIOU) == [
        Lead(start=10.0, stop=20.0, leader=1, smallest=None, largest=None),
        Lead(start=20.0, stop=60.0, leader=0, smallest=pytest.approx(0.008), largest=pytest.approx(0.008)),
        Lead(start=60.0, stop=None, leader=1, smallest=pytest.approx(0.03), largest=pytest.approx(0.03)),
    ]


def test_a_required_speed_counts_downwards() -> None:
    first, second = [[90.0, 0.5]], [[60.0, 0.6], [30.0, 0.61]]
    found = leads([first, second], [True, True])
    assert [(lead.start, lead.stop, lead.leader) for lead in found] == [(90.0, 60.0, 0), (60.0, None, 1)]
    assert (found[1].smallest, found[1].largest) == (pytest.approx(0.1), pytest.approx(0.11))


def test_leads_within_the_tolerance_are_level() -> None:
    found = leads([[[1.0, 0.500]], [[1.0, 0.504]]], COST_AND_MIOU, tolerance=0.005)
    assert found == [Lead(start=1.0, stop=None, leader=None, smallest=0.0, largest=0.0)]


@settings(max_examples=80, deadline=None)
@given(FRONTS, st.integers(0, 9).map(float))
def test_a_lead_says_who_offers_most_at_every_budget_in_its_range(
    fronts: list[Values], budget: float
) -> None:
    found = leads(fronts, COST_AND_MIOU)
    offers = [max((y for x, y in front if x <= budget), default=-np.inf) for front in fronts]
    here = [lead for lead in found if lead.start <= budget and (lead.stop is None or budget < lead.stop)]
    if max(offers) == -np.inf:
        assert here == []
        return
    assert len(here) == 1
    best, second = sorted(offers, reverse=True)[:2]
    if second == -np.inf:
        assert (here[0].leader, here[0].smallest) == (int(np.argmax(offers)), None)
    elif best == second:
        assert here[0].leader is None
    else:
        assert here[0].leader == int(np.argmax(offers))
        assert here[0].smallest is not None
        assert here[0].largest is not None
        assert here[0].smallest <= best - second <= here[0].largest


@settings(max_examples=40, deadline=None)
@given(FRONTS)
def test_ranges_adjoin_and_differ(fronts: list[Values]) -> None:
    found = leads(fronts, COST_AND_MIOU)
    assert found[-1].stop is None
    for before, after in itertools.pairwise(found):
        assert before.stop == after.start
        assert (before.leader, before.smallest is None) != (after.leader, after.smallest is None)


def test_fronts_without_points_have_no_leads_and_wrong_shapes_are_refused() -> None:
    assert leads([np.empty((0, 2)), np.empty((0, 2))], COST_AND_MIOU) == []
    with pytest.raises(ValueError, match="2 objectives, not 3"):
        leads([[[1.0, 2.0, 3.0]]], [True] * 3)
