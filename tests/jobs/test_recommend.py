"""Choosing a model from finished sweeps: by hand, on results made up for it."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path

import pytest
from scipy import stats
from sweep_folders import trial, write_sweep

from segsweep.errors import DataError, InvalidInput
from segsweep.jobs.recommend import recommend, register_choice
from segsweep.jobs.recommendation_text import recommendation_text
from segsweep.records import TrialStatus

TRIALS = (
    trial(0, 0.50, 1_000_000_000, latency=10),
    trial(1, 0.64, 2_000_000_000, latency=20),
    trial(2, 0.70, 4_000_000_000, latency=40),
    trial(3, 0.71, 8_000_000_000, latency=80),
    trial(4, 0.60, 3_000_000_000, latency=30),  # dominated by 1
    trial(5, 0.99, 1_000_000, latency=1, status=TrialStatus.STOPPED),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweeps" / "tiny-1", TRIALS)


def _number(candidate: object) -> int:
    return candidate.evaluation.number  # type: ignore[attr-defined, no-any-return]


def test_the_best_under_the_conditions_its_runner_up_and_the_next_step(folder: Path) -> None:
    answer = recommend([folder], where=["latency_ms_p90 <= 33"])
    assert answer.chosen is not None and _number(answer.chosen) == 1
    assert answer.runner_up is not None and _number(answer.runner_up.candidate) == 4
    assert answer.runner_up.miou_difference == pytest.approx(0.04)
    step = answer.step_up
    assert step is not None and _number(step.candidate) == 2
    assert (step.metric, step.factor, step.miou_gain) == ("latency_ms_p90", 2.0, pytest.approx(0.06))
    assert step.breaks == ("latency_ms_p90 <= 33",)
    assert (answer.complete, answer.satisfying) == (5, 3)


def test_without_conditions_the_best_miou_is_taken_and_nothing_is_above_it(folder: Path) -> None:
    answer = recommend([folder])
    assert answer.chosen is not None and _number(answer.chosen) == 3
    assert answer.roles == ("max-miou",)
    assert answer.step_up is None and "no complete trial has a higher mIoU" in answer.step_note


def test_the_cheapest_that_is_good_enough(folder: Path) -> None:
    answer = recommend([folder], where=["miou >= 0.60"], objective="macs")
    assert answer.chosen is not None and _number(answer.chosen) == 1
    assert answer.step_up is not None and _number(answer.step_up.candidate) == 2
    assert (answer.step_up.metric, answer.step_up.factor) == ("macs", 2.0)


def test_more_images_per_second_are_better_and_fewer_are_the_price(folder: Path) -> None:
    answer = recommend([folder], where=["images_per_second >= 60"])
    assert answer.chosen is not None and _number(answer.chosen) == 1  # 100 images/s
    assert answer.step_up is not None and answer.step_up.factor == pytest.approx(2.0)  # 50 images/s
    fastest = recommend([folder], objective="images_per_second").chosen
    assert fastest is not None and _number(fastest) == 0


def test_the_knee_is_where_the_front_bends(folder: Path) -> None:
    # scaled mIoU 0, .67, .95, 1 at log2 MACs 0, 1, 2, 3: lacks 1, .67, .71, 1
    answer = recommend([folder], objective="knee")
    assert answer.chosen is not None and _number(answer.chosen) == 1
    assert "knee" in answer.roles


def test_nothing_fits_and_the_nearest_misses_are_named(folder: Path) -> None:
    answer = recommend([folder], where=["latency_ms_p90 <= 9", "miou >= 0.45"])
    assert answer.chosen is None and answer.satisfying == 0
    # 10 ms is 11 % over, 20 ms is 122 % over, 30 ms is 233 % over
    assert [_number(miss.candidate) for miss in answer.misses] == [0, 1, 4]
    assert answer.misses[0].broken == (("latency_ms_p90 <= 9", {"latency_ms_p90": 10}),)
    text = recommendation_text(answer)
    assert "none of 5 complete trials meets latency_ms_p90 <= 9 and miou >= 0.45" in text
    assert "latency_ms_p90 <= 9 fails: p90 10.00 ms" in text


def test_the_choice_agrees_with_looking_at_every_trial(tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(15):
        trials = [
            trial(i, round(rng.random(), 2), rng.randrange(1, 9) * 10**8, latency=rng.randrange(1, 9) * 10)
            for i in range(12)
        ]
        folder = write_sweep(tmp_path / f"sweep-{number}", trials)
        answer = recommend([folder], where=["latency_ms_p90 <= 40", "macs <= 6e8"])
        fitting = [
            item
            for item in trials
            if item.metrics()["latency_ms_p90"] <= 40 and item.metrics()["macs"] <= 6e8
        ]
        if not fitting:
            assert answer.chosen is None
            continue
        assert answer.chosen is not None
        assert answer.chosen.miou == max(item.metrics()["miou"] for item in fitting)
        costlier = [
            item
            for item in trials
            if item.metrics()["miou"] > answer.chosen.miou and item.metrics()["macs"] <= 6e8
        ]
        if answer.step_up is None:
            assert not costlier
        else:
            least = min(item.metrics()["latency_ms_p90"] for item in costlier)
            assert answer.step_up.candidate.metrics["latency_ms_p90"] == least


def test_all_mistakes_are_told_at_once(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        recommend([folder], where=["latency <= 33", "miou >= 70"], objective="mious", out=tmp_path)
    text = str(raised.value)
    assert len(raised.value.problems) == 3
    assert "--objective: found 'mious'; did you mean 'miou'?" in text
    with pytest.raises(InvalidInput, match="sweep nosuch"):
        recommend([folder, "nosuch"], out=tmp_path)
    with pytest.raises(InvalidInput, match="none given"):
        recommend([])


def test_a_sweep_without_a_complete_trial_has_nothing_to_recommend(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no trial of s is complete"):
        recommend([write_sweep(tmp_path / "s", TRIALS[5:])])


def test_speeds_of_two_machines_never_decide_together(tmp_path: Path) -> None:
    here = write_sweep(tmp_path / "here", TRIALS[:2])
    there = write_sweep(
        tmp_path / "there", [trial(0, 0.8, 5_000_000_000, latency=5, device="card-b")], seed=1
    )
    with pytest.raises(InvalidInput, match=r"card-a.*in here.*card-b.*in there"):
        recommend([here, there], where=["latency_ms_p90 <= 33"])
    chosen = recommend([here, there], where=["macs <= 6e9"]).chosen
    assert chosen is not None and chosen.sweep.sweep_id == "there"


def test_sweeps_on_other_data_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    one = write_sweep(tmp_path / "one", TRIALS[:2])
    other = write_sweep(tmp_path / "other", TRIALS[2:4], data={"source": "camvid", "size": [64, 128]})
    with pytest.raises(InvalidInput, match="camvid"):
        recommend([one, other])
    answer = recommend([one, other], allow_different=True)
    assert answer.chosen is not None and answer.chosen.sweep.sweep_id == "other"
    assert any("camvid" in note for note in answer.notes)


def test_a_point_trained_with_several_seeds_gets_students_interval(tmp_path: Path) -> None:
    values = [0.60, 0.64, 0.65]
    point = {"neck.kind": "fpn", "neck.channels": 64}
    folders = [
        write_sweep(tmp_path / f"s{seed}", [trial(0, miou, 10**9, point=point)], seed=seed)
        for seed, miou in enumerate(values)
    ]
    answer = recommend(folders)
    low, high = stats.t.interval(0.95, 2, loc=statistics.fmean(values), scale=stats.sem(values))
    assert answer.interval is not None and (answer.interval.over, answer.interval.count) == ("seeds", 3)
    assert (answer.interval.low, answer.interval.high) == pytest.approx((low, high))
    two = recommend(folders[:2])
    assert two.interval is None and "not at hand" in two.interval_note


def test_what_a_reader_must_know_is_noted(tmp_path: Path) -> None:
    trials = [*TRIALS[:2], trial(6, 0.9, 10**9)]
    folder = write_sweep(tmp_path / "s", trials, trials=9, ends=False)
    answer = recommend([folder], where=["latency_ms_p90 <= 33"])
    notes = " ".join(answer.notes)
    assert "s has not ended (3 of 9 trials so far)" in notes
    assert "1 of 3 complete trials have no latency_ms_p90" in notes
    assert answer.chosen is not None and _number(answer.chosen) == 1


def test_the_answer_in_words_and_as_json(folder: Path) -> None:
    answer = recommend([folder], where=["latency_ms_p90 <= 33"])
    text = recommendation_text(answer)
    assert f"take        {TRIALS[1].trial_id} of tiny-1 (eseg)" in text
    assert "mIoU 64.00 %; no interval: " in text
    assert "2.000 GMACs" in text and "p90 20.00 ms (device card-a, 2 threads, batch 1)" in text
    assert "2.00 x the latency_ms_p90 (p90 40.00 ms) buys 6.00 points of mIoU (70.00 %)" in text
    assert "best miou, latency_ms_p90 <= 33: met by 3 of 5 complete trials" in text
    document = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    assert document["chosen"]["trial_id"] == TRIALS[1].trial_id
    assert document["step_up"]["breaks"] == ["latency_ms_p90 <= 33"]


def test_registering_needs_a_choice_a_name_and_weights(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing to register"):
        register_choice(recommend([folder], where=["miou > 0.99"]))
    with pytest.raises(InvalidInput, match="--register: found 'a b'"):
        register_choice(recommend([folder]), name="a b")
    with pytest.raises(DataError, match="keep_models was none"):
        register_choice(recommend([folder]))
    with pytest.raises(DataError, match="only the front's weights are kept"):
        register_choice(recommend([folder], where=["neck.channels == 12"]))
