"""Conditions of ``recommend --where``."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_folders import SPACE, trial

from segsweep.errors import InvalidInput
from segsweep.jobs.where import Bound, Condition, read_conditions, trial_values
from segsweep.search.load import parse_space

SLOW = trial(0, 0.7, 2_000_000_000, latency=40.0)
UNTIMED = trial(1, 0.7, 2_000_000_000)


def _condition(text: str) -> Condition:
    return read_conditions([text], [parse_space(SPACE, file="space.yaml")])[0]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("latency_ms_p90 <= 33", False),
        ("latency_ms_p90 <= 40", True),
        ("miou >= 0.7 and macs < 2.5e9", True),
        ("0.6 <= miou < 0.7", False),
        ("neck.kind == 'fpn'", True),
        ("neck.channels in [16, 32]", False),
        ("cost.flops == 2 * cost.macs", True),  # the names of a space's constraints mean the same
        ("min(latency_ms_p50, latency_ms_p90) < 33 or miou > 0.9", True),
    ],
)
def test_a_condition_holds_as_it_reads(text: str, holds: bool) -> None:
    assert _condition(text).holds(trial_values(SLOW)) is holds


def test_what_was_not_measured_meets_no_condition() -> None:
    assert not _condition("latency_ms_p90 <= 1e9").holds(trial_values(UNTIMED))
    assert not _condition("not latency_ms_p90 > 33").holds(trial_values(UNTIMED))


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("latency_ms_p90 <= 33", (Bound("latency_ms_p90", "<=", 33.0),)),
        ("0.5 <= miou < 0.7", (Bound("miou", ">=", 0.5), Bound("miou", "<=", 0.7))),
        ("miou > 0.5 and 3e9 >= cost.macs", (Bound("miou", ">=", 0.5), Bound("cost.macs", "<=", 3e9))),
        ("miou > 0.5 or macs < 3e9", ()),
        ("neck.kind == 'fpn'", ()),
        ("macs < 2 * num_params", ()),
    ],
)
def test_limits_are_found_in_a_condition(text: str, bounds: tuple[Bound, ...]) -> None:
    assert _condition(text).bounds == bounds


def test_a_shortfall_is_a_share_of_the_limit() -> None:
    values = trial_values(SLOW)
    assert _condition("latency_ms_p90 <= 32").shortfall(values) == pytest.approx(0.25)
    assert _condition("miou >= 0.8").shortfall(values) == pytest.approx(0.125)
    assert _condition("macs <= 2e9").shortfall(values) == 0.0
    assert _condition("latency_ms_p90 <= 32").shortfall(trial_values(UNTIMED)) == 1.0
    assert _condition("neck.kind == 'bifpn'").shortfall(values) == 1.0


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    wrong = [
        "mioo >= 0.5",
        "miou >= 70",
        "neck.kind == 'bifpm'",
        "macs",
        "macs <= 'three'",
        f"__import__('pathlib').Path({str(evil)!r}).touch()",
        "macs <=",
    ]
    with pytest.raises(InvalidInput) as raised:
        read_conditions([*wrong, "macs <= 3e9"], [parse_space(SPACE, file="space.yaml")])
    found = [str(problem) for problem in raised.value.problems]
    assert len(found) == len(wrong)
    expected = ["did you mean 'miou'", "write 0.7 for 70 %", "did you mean 'bifpn'", "is no condition"]
    expected += ["cannot be compared", "is not allowed", "cannot read"]
    assert [text in message for text, message in zip(expected, found, strict=True)] == [True] * len(wrong)
    assert not evil.exists()
