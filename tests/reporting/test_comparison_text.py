"""The sentences of a comparison."""

from __future__ import annotations

import pytest
from compared_sweeps import trial

from segsweep.pareto.comparison import compare_fronts
from segsweep.pareto.comparison_records import Comparison, Contender, FrontComparison, SearchRun
from segsweep.pareto.statistics import seed_test
from segsweep.records import DEFAULT_OBJECTIVES, Evaluation, Objective
from segsweep.reporting.comparison_text import (
    SHOWN_RANGES,
    amount,
    comparison_markdown,
    comparison_text,
    headline,
    lead_shares,
    space_sentences,
)
from segsweep.reporting.comparison_text import (
    test_sentence as sentence_of_test,
)

MIOU, MACS, SPEED = DEFAULT_OBJECTIVES


def contender(label: str, *runs: list[Evaluation]) -> Contender:
    return Contender(
        label=label,
        method=label,
        runs=tuple(
            SearchRun(sweep_id=f"{label}-{seed}", seed=seed, evaluations=tuple(run))
            for seed, run in enumerate(runs)
        ),
    )


SENFORMER = [trial(1, 0.70, 20e9, 30.0), trial(2, 0.72, 60e9, 10.0)]
HFGD = [trial(1, 0.60, 10e9, 60.0), trial(2, 0.692, 20e9, 25.0), trial(3, 0.75, 60e9, 12.0)]


def space(*objectives: Objective) -> FrontComparison:
    return compare_fronts(
        [contender("senformer", SENFORMER), contender("hfgd", HFGD)], objectives, given={"macs": 100e9}
    )


def test_who_leads_where() -> None:
    sentences = space_sentences(space(MIOU, MACS))
    assert sentences[:3] == [
        "From 10 to 20 GMACs only hfgd has a design.",
        "From 20 to 60 GMACs senformer leads by 0.80 mIoU points.",
        "From 60 GMACs on hfgd leads by 3.00 mIoU points.",
    ]


def test_a_speed_is_counted_downwards() -> None:
    assert space_sentences(space(MIOU, SPEED))[:3] == [
        "From 60 down to 30 images/s only hfgd has a design.",
        "From 30 down to 12 images/s senformer leads by 0.80 to 10.00 mIoU points.",
        "At 12 images/s and slower hfgd leads by 3.00 to 5.00 mIoU points.",
    ]


def test_volumes_name_their_reference_and_the_share_of_what_all_reach() -> None:
    # senformer: 0.70 x 40 + 0.72 x 40 = 56.8; hfgd: 0.60 x 10 + 0.692 x 40 + 0.75 x 40 = 63.68;
    # together: 0.60 x 10 + 0.70 x 40 + 0.75 x 40 = 64, all times 1e9
    found = next(line for line in space_sentences(space(MIOU, MACS)) if line.startswith("Hypervolume"))
    assert found == (
        "Hypervolume up to 0.00 % mIoU, 100 GMACs, as a share of what all reach together: "
        "senformer 88.8 % (5.68e+10); hfgd 99.5 % (6.368e+10)."
    )


def test_indicators_both_ways() -> None:
    # senformer reaches (0.692, 20) but neither (0.60, 10) nor (0.75, 60); hfgd reaches (0.72, 60)
    found = next(line for line in space_sentences(space(MIOU, MACS)) if line.startswith("senformer over"))
    assert "hypervolume ratio 0.892, coverage 33 % (back 50 %)" in found
    # the point (0.60, 10 GMACs) is reached once 20 GMACs are halved: factor 2; additively 10 of a range of 50
    assert "to reach all of hfgd's front senformer lacks 20 % of the fronts' range, a factor of 2" in found
    # (0.70, 20) from (0.692, 20): 0.008 of a range of 0.15
    assert "to reach all of senformer's front hfgd lacks 5 % of the fronts' range, a factor of 1.01" in found


def test_the_share_of_the_costs_at_which_someone_leads() -> None:
    # between 20 and 60 GMACs only: beyond nothing changes, below there is no choice
    assert lead_shares(space(MIOU, MACS)) == {"senformer": pytest.approx(1.0)}


def test_many_ranges_are_counted_instead_of_listed() -> None:
    first = [trial(i, 0.1 + 0.02 * i, (2 * i + 1) * 1e9) for i in range(20)]
    second = [trial(i, 0.11 + 0.02 * i, (2 * i + 2) * 1e9) for i in range(20)]
    found = compare_fronts([contender("a", first), contender("b", second)], (MIOU, MACS), given={})
    sentences = space_sentences(found)
    assert sentences[0].startswith("Ahead, as a share of the costs")
    assert f"{len(found.leads) - SHOWN_RANGES} more ranges are in comparison.json." in sentences
    assert sum(" GMACs " in line and line.startswith("From") for line in sentences) == SHOWN_RANGES


def test_a_knee_is_named_with_its_sweep_and_a_front_of_two_has_none() -> None:
    sentences = space_sentences(space(MIOU, MACS))
    assert "Knee of hfgd: trial 2 of hfgd-0 with 69.20 % mIoU, 20 GMACs." in sentences
    assert any(line.startswith("Front of senformer: two designs, so no knee:") for line in sentences)


def test_what_the_seeds_say_in_the_direction_of_the_better_one() -> None:
    test = seed_test([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], paired=True)
    found = sentence_of_test(test, "a", "b", name="hypervolume", told=lambda value: f"{value:.1f}")
    assert found.startswith(
        "Seeds: in hypervolume b is ahead of a by 4.0 (95 % bootstrap interval from 4.0 to 4.0)"
    )
    assert "a run of b is better with chance 1.00" in found
    assert found.endswith("so few seeds cannot decide: no p below 0.25 is possible.")
    more = seed_test([1.0, 1.1, 1.2, 1.3, 1.4, 1.5], [2.0] * 6, paired=False)
    told = sentence_of_test(more, "a", "b", name="hypervolume", told=str)
    assert told.endswith("more than chance explains.")
    same = seed_test([1.0, 2.0, 3.0, 4.0], [1.1, 1.9, 3.1, 3.9], paired=False)
    assert sentence_of_test(same, "a", "b", name="x", told=str).endswith("chance explains it too.")


def whole(*contenders: Contender) -> Comparison:
    return Comparison(
        contenders=contenders,
        panels=(compare_fronts(contenders, (MIOU, MACS), given={"macs": 100e9}),),
        joint=None,
        conditions=(("data", "camvid"), ("size", "180x240")),
        notes=("One seed.",),
    )


def test_the_headline_names_the_winner_first() -> None:
    comparison = whole(contender("senformer", SENFORMER), contender("hfgd", HFGD))
    # 63.68 / 56.8
    assert headline(comparison) == (
        "In mIoU (%) against GMACs per image hfgd dominates the largest volume, 12.1 % more than senformer."
    )


def test_text_and_markdown_say_the_same() -> None:
    comparison = whole(contender("senformer", SENFORMER, SENFORMER), contender("hfgd", HFGD, HFGD))
    text, markdown = comparison_text(comparison), comparison_markdown(comparison)
    assert text.splitlines()[0] == "senformer against hfgd"
    assert markdown.splitlines()[0] == "# senformer against hfgd"
    for line in text.splitlines()[2:]:
        assert line.strip() in markdown
    assert "senformer: method senformer, 2 sweeps senformer-0 (seed 0), senformer-1 (seed 1)" in text
    assert "the median of 2 sweeps" in text
    assert "One seed." in text


def test_who_has_no_trial_here_is_told() -> None:
    found = compare_fronts(
        [contender("a", HFGD), contender("b", [trial(1, 0.5, 1e9)])], (MIOU, SPEED), given={}
    )
    assert "b: no complete trial here." in space_sentences(found)


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("miou", 0.4183, "41.83 % mIoU"),
        ("macs", 20.34e9, "20.3 GMACs"),
        ("num_params", 4.2e6, "4.2 M parameters"),
        ("images_per_second", 1439.2, "1,439 images/s"),
        ("latency_ms_p90", 33.04, "33 ms p90 latency"),
    ],
)
def test_values_carry_their_units(metric: str, value: float, words: str) -> None:
    assert amount(metric, value) == words


def test_the_headline_names_no_winner_where_nobody_has_any_volume() -> None:
    panel = compare_fronts(
        [contender("senformer", SENFORMER), contender("hfgd", HFGD)], (MIOU, MACS), given={"macs": 1e9}
    )
    found = Comparison(contenders=(), panels=(panel,), joint=None, conditions=(), notes=())
    assert headline(found).startswith("No one has any volume at the reference (0.00 % mIoU, 1 GMACs)")
