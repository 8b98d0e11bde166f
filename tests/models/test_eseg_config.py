"""What an ESeg config accepts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from segsweep.models.methods.eseg import PRESETS, ESegConfig


def test_defaults_are_eseg_s() -> None:
    assert ESegConfig() == PRESETS["eseg-s"]


def test_nested_axes_override_only_what_they_name() -> None:
    config = ESegConfig.model_validate({"neck": {"kind": "fpn", "top_level": 5}})
    assert config == PRESETS["eseg-s-fpn-p5"]


def test_a_config_is_hashable_and_equal_by_value() -> None:
    values = {"neck": {"channels": 64}}
    assert len({ESegConfig.model_validate(values), ESegConfig.model_validate(values)}) == 1


@pytest.mark.parametrize("neck", [{"kind": "fpn"}, {"kind": "fpn", "repeats": 4}])
def test_fpn_takes_repeats_only_left_out_or_at_the_default(neck: dict[str, Any]) -> None:
    assert ESegConfig.model_validate({"neck": neck}).neck.kind == "fpn"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"neck": {"bottom_level": 5, "top_level": 5}}, "bottom_level=5 is not below top_level=5"),
        ({"neck": {"bottom_level": 4, "top_level": 3}}, "bottom_level=4 is not below top_level=3"),
        ({"neck": {"channels": 100}}, "channels=100 is not a multiple of 8; use 96 or 104"),
        ({"neck": {"channels": 0}}, "greater than or equal to 8"),
        ({"neck": {"kind": "fpn", "repeats": 2}}, "repeats=2 has no meaning for kind='fpn'"),
        ({"neck": {"kind": "panet"}}, "'bifpn' or 'fpn'"),
        ({"neck": {"top_level": 10}}, "less than or equal to 9"),
        ({"neck": {"bottom_level": 1}}, "greater than or equal to 2"),
        ({"neck": {"repeats": 0}}, "greater than or equal to 1"),
        ({"neck": {"width": 96}}, "Extra inputs are not permitted"),
        ({"backbone": {"name": ""}}, "at least 1 character"),
        ({"activation": "gelu"}, "'silu' or 'relu'"),
        ({"batch_norm_momentum": 0}, "greater than 0"),
    ],
)
def test_bad_values_are_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ESegConfig.model_validate(values)
