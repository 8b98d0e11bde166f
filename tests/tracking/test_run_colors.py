"""Colours of runs: a method keeps its own, sweeps of one method and dominated trials differ in lightness."""

from __future__ import annotations

from segsweep.models.methods import METHODS
from segsweep.tracking import colors


def _lightness(color: str) -> int:
    return sum(int(color[start : start + 2], 16) for start in (1, 3, 5))


def test_every_method_has_a_colour_of_its_own() -> None:
    found = {colors.method_color(method) for method in METHODS}
    assert len(found) == len(METHODS)
    assert colors.BASELINE not in found


def test_sweeps_of_one_method_are_shades_that_can_be_told_apart() -> None:
    shades = [colors.method_color("eseg", earlier) for earlier in range(4)]
    assert shades[0] == "#0072B2" and len(set(shades)) == 4


def test_a_dominated_trial_is_paler_than_its_sweep() -> None:
    for method in METHODS:
        assert _lightness(colors.pale(colors.method_color(method))) > _lightness(colors.method_color(method))


def test_mixing_with_white_and_black_by_hand() -> None:
    assert colors.shade("#004080", 0.5) == "#80A0C0"  # half way from 0, 64, 128 to 255
    assert colors.shade("#204080", -0.5) == "#102040"
