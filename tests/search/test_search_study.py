from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from segsweep.records import Objective, Point, TrialStatus
from segsweep.search.document import Constraint
from segsweep.search.draw import SpaceExhausted, all_points
from segsweep.search.load import parse_space
from segsweep.search.space import SearchSpace
from segsweep.search.study import SAMPLERS, Study

FINITE = """
method: eseg
source: a test
axes:
  kind: {choice: [fpn, bifpn]}
  repeats: {int: [1, 4], when: {kind: [bifpn]}}
  width: {choice: [8, 16, 32]}
constraints:
  - {name: small, require: "repeats * width <= 64", why: "fits the test"}
  - {name: budget, require: "cost.macs <= 1e9", why: "decided later, by the trial"}
seeds:
  - {name: A, source: paper, point: {kind: bifpn, repeats: 4, width: 16}}
  - {name: B, source: paper, point: {kind: fpn, width: 32}}
"""
CONTINUOUS = """
method: eseg
source: a test
axes:
  encoder: {choice: [a, b, c, d, e, f]}
  kind: {choice: [fpn, bifpn]}
  repeats: {int: [1, 4], when: {kind: [bifpn]}}
  rate: {float: [1e-3, 1e-1], log: true}
"""
OBJECTIVES = (
    Objective(metric="miou", direction="maximize"),
    Objective(metric="macs", direction="minimize"),
)


@pytest.fixture
def finite() -> SearchSpace:
    return parse_space(FINITE, file="finite.yaml")


@pytest.fixture
def continuous() -> SearchSpace:
    return parse_space(CONTINUOUS, file="continuous.yaml")


def outcome(point: Point) -> dict[str, float]:
    width = float(point.get("width", 1))
    return {"miou": 0.5 + width / 100, "macs": 1e8 * width, "images_per_second": 100 / width}


def drive(study: Study, asks: int, status: Callable[[int], TrialStatus]) -> list[Point]:
    points = []
    for _ in range(asks):
        suggestion = study.ask()
        points.append(suggestion.point)
        told = status(suggestion.number)
        values = outcome(suggestion.point) if told is TrialStatus.COMPLETE else None
        study.tell(suggestion.number, status=told, values=values)
    return points


def always_complete(number: int) -> TrialStatus:
    return TrialStatus.COMPLETE


def mixed(number: int) -> TrialStatus:
    return random.Random(number).choice(list(TrialStatus))


def test_published_points_come_first_in_their_order(finite: SearchSpace) -> None:
    study = Study(finite, seed=0)
    asked = [study.ask() for _ in range(3)]
    assert [s.number for s in asked] == [0, 1, 2]
    assert [s.source for s in asked[:2]] == ["seed:A", "seed:B"]
    assert [dict(s.point) for s in asked[:2]] == [dict(seed.point) for seed in finite.seeds]
    assert not asked[2].source.startswith("seed:")


def test_published_points_can_be_left_out(finite: SearchSpace) -> None:
    assert Study(finite, seed=0, use_seeds=False).ask().source == "sampler"


def test_published_points_against_a_constraint_of_the_job_are_not_asked(finite: SearchSpace) -> None:
    space = finite.with_constraints([Constraint(name="thin", require="width <= 16", why="a test")])
    study = Study(space, seed=0)
    assert study.ask().source == "seed:A"
    assert study.ask().source != "seed:B"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_allowed_point_is_asked_once_and_then_the_space_is_exhausted(
    finite: SearchSpace, sampler: str
) -> None:
    allowed = {point for point in all_points(finite) if not finite.violated(point, None)}
    study = Study(finite, seed=3, sampler=sampler)
    points = drive(study, len(allowed), mixed)
    assert len(set(points)) == len(points)
    assert set(points) == allowed
    with pytest.raises(SpaceExhausted, match="no new point"):
        study.ask()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_mix_of_endings_can_be_told_while_others_run(continuous: SearchSpace, sampler: str) -> None:
    study = Study(continuous, seed=1, sampler=sampler, use_seeds=False)
    rng = random.Random(0)
    running = [study.ask() for _ in range(6)]
    for _ in range(80):
        suggestion = running.pop(rng.randrange(len(running)))
        status = rng.choice(list(TrialStatus))
        values = {"miou": rng.random(), "macs": 1e9 * rng.random(), "images_per_second": 1.0}
        study.tell(suggestion.number, status=status, values=values)
        running.append(study.ask())
    assert running[-1].source == "sampler"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_and_tells_give_the_same_points(continuous: SearchSpace, sampler: str) -> None:
    runs = [drive(Study(continuous, seed=5, sampler=sampler), 40, mixed) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != drive(Study(continuous, seed=6, sampler=sampler), 40, mixed)


def test_points_do_not_depend_on_the_process() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_search_study import CONTINUOUS, Study, drive, mixed, parse_space
points = drive(Study(parse_space(CONTINUOUS, file="c.yaml"), seed=5), 40, mixed)
print([point.key for point in points])
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    here = drive(Study(parse_space(CONTINUOUS, file="c.yaml"), seed=5), 40, mixed)
    assert outputs[0] == outputs[1] == f"{[point.key for point in here]}\n"


@pytest.mark.parametrize("status", [TrialStatus.STOPPED, TrialStatus.INFEASIBLE, TrialStatus.FAILED])
def test_values_of_a_trial_that_is_not_complete_never_count(
    continuous: SearchSpace, status: TrialStatus
) -> None:
    def run(told: dict[str, float] | None) -> list[Point]:
        study = Study(continuous, seed=2)
        points = []
        for number in range(30):
            suggestion = study.ask()
            points.append(suggestion.point)
            if number % 2:
                study.tell(suggestion.number, status=status, values=told)
            else:
                values = outcome(suggestion.point)
                study.tell(suggestion.number, status=TrialStatus.COMPLETE, values=values)
        return points

    flattering = {"miou": 1.0, "macs": 1.0, "images_per_second": 1e9}
    assert run(flattering) == run(None)


def share_of_encoder_a(space: SearchSpace, status: TrialStatus) -> float:
    """How often suggestions 10 to 59 of three studies have encoder a, all of which ends in ``status``.

    Where it is complete it has the best mIoU. At random it would be one in six.
    """
    shares = []
    for seed in range(3):
        study = Study(space, objectives=OBJECTIVES, seed=seed)
        noise = random.Random(seed)
        for _ in range(60):
            suggestion = study.ask()
            is_a = suggestion.point["encoder"] == "a"
            shares.append(is_a if suggestion.number >= 10 else None)
            values = {"miou": (0.8 if is_a else 0.4) + 0.1 * noise.random(), "macs": 1e9}
            study.tell(suggestion.number, status=status if is_a else TrialStatus.COMPLETE, values=values)
    counted = [share for share in shares if share is not None]
    return sum(counted) / len(counted)


def test_tpe_proposes_more_of_what_did_well(continuous: SearchSpace) -> None:
    assert share_of_encoder_a(continuous, TrialStatus.COMPLETE) > 1 / 3


@pytest.mark.parametrize("status", [TrialStatus.STOPPED, TrialStatus.INFEASIBLE, TrialStatus.FAILED])
def test_tpe_turns_from_what_ended_badly(continuous: SearchSpace, status: TrialStatus) -> None:
    assert share_of_encoder_a(continuous, status) < 1 / 8


@pytest.mark.parametrize("values", [None, {}, {"miou": 0.5}, {"miou": float("nan"), "macs": 1.0}])
def test_a_complete_trial_needs_every_objective_and_can_be_told_again(
    continuous: SearchSpace, values: dict[str, float] | None
) -> None:
    study = Study(continuous, objectives=OBJECTIVES, seed=0)
    number = study.ask().number
    with pytest.raises(ValueError, match="tell the trial as failed instead"):
        study.tell(number, status=TrialStatus.COMPLETE, values=values)
    study.tell(number, status=TrialStatus.FAILED, values=None)


def test_a_suggestion_is_told_once(continuous: SearchSpace) -> None:
    study = Study(continuous, seed=0)
    study.tell(study.ask().number, status=TrialStatus.FAILED, values=None)
    for number in (0, 1):
        with pytest.raises(ValueError, match=f"suggestion {number} is not running"):
            study.tell(number, status=TrialStatus.FAILED, values=None)


def test_an_unknown_sampler_is_refused(continuous: SearchSpace) -> None:
    with pytest.raises(ValueError, match="allowed: tpe, nsga2, random"):
        Study(continuous, seed=0, sampler="cmaes")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_printed_or_warned(
    continuous: SearchSpace, sampler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(Study(continuous, seed=0, sampler=sampler), 30, mixed)
    assert capfd.readouterr() == ("", "")
