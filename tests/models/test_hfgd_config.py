"""What an HFGD config accepts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from segsweep.errors import ImageSizeError
from segsweep.models.methods import METHODS, PRESETS
from segsweep.models.methods.hfgd import HFGDConfig


def test_method_is_registered_under_its_own_name() -> None:
    assert METHODS["hfgd"] is HFGDConfig
    assert METHODS["hfgd"].method == "hfgd"


def test_defaults_are_the_published_design_at_stride_4() -> None:
    assert HFGDConfig() == PRESETS["hfgd"]["hfgd-r50-os4"]


def test_presets_are_different_designs() -> None:
    assert len(set(PRESETS["hfgd"].values())) == len(PRESETS["hfgd"])


def test_every_preset_survives_a_round_trip_through_its_values() -> None:
    for config in PRESETS["hfgd"].values():
        assert HFGDConfig.model_validate(config.model_dump()) == config


def test_image_needs_17_pixels_a_side() -> None:
    HFGDConfig().check_size((17, 40))
    with pytest.raises(ImageSizeError, match="16x40"):
        HFGDConfig().check_size((16, 40))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": {"output_stride": 4}}, "Input should be 8, 16 or 32"),
        (
            {"context": {"kind": "aspp", "wide_channels": 64}},
            "wide_channels=64 has no meaning .* only for 'cae'",
        ),
        ({"context": {"auxiliary_weight": 1.0}}, "auxiliary_weight=1.0 has no meaning .* only for 'ocr'"),
        ({"context": {"kind": "psp"}}, "Input should be"),
        ({"upsampler": {"kind": "uper", "output_stride": 2}}, "output_stride=2 has no meaning"),
        ({"upsampler": {"kind": "none"}}, "nothing to guide with upsampler.kind='none'"),
        ({"guidance": {"kind": "none", "stop_gradient": False}}, "stop_gradient=False has no meaning"),
        ({"guidance": {"kind": "guidance", "attention_heads": 2}}, "attention_heads=2 has no meaning"),
        ({"guidance": {"attention_heads": 3}}, "attention_heads=3 does not divide attention_channels=512"),
        (
            {"upsampler": {"channels": 40}, "guidance": {"attention_heads": 16}},
            "attention_heads=16 does not divide upsampler.channels=40",
        ),
        ({"context": {"kind": "identity"}, "car": {"intra": 0}}, "no feature to act on"),
        ({"car": {"intra": -1}}, "greater than or equal to 0"),
        ({"decoder": {}}, "Extra inputs are not permitted"),
        ({"batch_norm_momentum": 0}, "greater than 0"),
    ],
)
def test_bad_values_are_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HFGDConfig.model_validate(values)


def test_a_value_that_does_not_apply_may_have_its_default() -> None:
    values = {
        "guidance": {"kind": "none", "attention_heads": 4},
        "context": {"kind": "aspp", "attention": True},
    }
    assert HFGDConfig.model_validate(values).guidance.kind == "none"
