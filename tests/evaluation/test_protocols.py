"""Sizes that the papers' test pipelines give, by their formulas; and what users may write."""

from __future__ import annotations

import pytest

from segsweep.errors import InvalidInput
from segsweep.evaluation.protocols import (
    PROTOCOLS,
    EvaluationProtocol,
    Resize,
    SlidingWindow,
    find_protocol,
    read_protocol,
)


@pytest.mark.parametrize(
    ("name", "image", "scale", "expected"),
    [
        # detectron2's ResizeShortestEdge: 512 / 480 * 640 = 682.67 -> 683; cap: 2048 / 3000 * 300 = 204.8
        ("maskformer/ade20k", (480, 640), 1.0, (512, 683)),
        ("maskformer/ade20k", (300, 3000), 1.0, (205, 2048)),
        # its cap is one for all scales: the short side of 256 is kept
        ("maskformer/ade20k-ms", (300, 3000), 0.5, (256, 2560)),
        ("maskformer/ade20k-ms", (480, 640), 1.75, (896, 1195)),
        # mmcv's imrescale of img_scale (2048, 512) * 0.5: 1024 / 3000 * 300 = 102.4
        ("senformer/ade20k-ms", (300, 3000), 0.5, (102, 1024)),
        ("senformer/cityscapes-ms", (1024, 2048), 1.75, (1792, 3584)),
        ("maskformer/mapillary", (3000, 4000), 1.0, (1536, 2048)),
        ("cts/ade20k", (683, 512), 1.0, (683, 512)),
        ("eseg/cityscapes", (1024, 2048), 1.0, (1024, 2048)),
        ("eseg/ade20k", (480, 640), 1.0, (520, 520)),
        ("hfgd/cityscapes-ms", (1024, 2048), 0.5, (512, 1024)),
    ],
)
def test_network_sees_the_size_of_the_papers_pipeline(
    name: str, image: tuple[int, int], scale: float, expected: tuple[int, int]
) -> None:
    protocol = PROTOCOLS[name]
    assert scale in protocol.scales
    assert protocol.resize.apply(image, scale=scale, cap=protocol.scaled_long_side) == expected


def test_multi_scale_protocols_see_six_scales_and_their_mirror_images() -> None:
    # MaskFormer, official ADE20K config: short sides 256, 384, ..., 896; mmsegmentation: 0.5, 0.75, ..., 1.75
    ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    assert [round(512 * scale) for scale in PROTOCOLS["maskformer/ade20k-ms"].scales] == list(
        range(256, 897, 128)
    )
    for name in ("maskformer/cityscapes-ms", "senformer/ade20k-ms"):
        assert (PROTOCOLS[name].scales, PROTOCOLS[name].passes) == (ratios, 12)


def test_segmenter_enlarges_an_image_until_a_window_fits_and_mmseg_does_not() -> None:
    values = {"size": (512, 512), "stride": (512, 512)}
    segmenter = SlidingWindow(**values, variant="segmenter")
    assert segmenter.enlarged((256, 384)) == (512, 768)
    assert segmenter.enlarged((511, 700)) == (512, 701)
    assert segmenter.enlarged((512, 683)) == (512, 683)
    assert SlidingWindow(**values).enlarged((256, 384)) == (256, 384)


def test_original_looks_at_the_training_size_and_prepared_at_the_prepared_data() -> None:
    original = find_protocol("original", size=(240, 320))
    assert (original.labels, original.resize.apply((360, 480))) == ("original", (240, 320))
    assert find_protocol("original").resize.apply((360, 480)) == (360, 480)
    assert find_protocol("prepared", size=(240, 320)).labels == "prepared"


def test_values_of_a_name_can_be_replaced() -> None:
    protocol = find_protocol("cts/ade20k", overrides={"flip": True, "scales": [0.5, 1]})
    assert (protocol.passes, protocol.window) == (4, PROTOCOLS["cts/ade20k"].window)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_survives_being_written_down(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert read_protocol(protocol.model_dump(mode="json"), where=name) == protocol
    assert "\n" not in protocol.summary


def test_summary_says_what_was_done() -> None:
    assert PROTOCOLS["maskformer/ade20k-ms"].summary == (
        "labels original, seen at short side 512 and long side 2048, whole, 6 scales + flip"
    )
    assert PROTOCOLS["cts/cityscapes"].summary == (
        "labels original, seen at short side 1024, window 768x768 stride 512x512 (segmenter), scale 1"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": [1]}, r"scale: .*allowed keys are labels, resize"),
        ({"scales": []}, r"scales: "),
        ({"scales": [0]}, r"scales\.0: "),
        ({"resize": {"size": [64, 64], "short_side": 64}}, "size fixes both sides"),
        ({"window": {"size": [8, 8], "stride": [9, 8]}}, "would leave gaps"),
        ({"general_threshold": 0.3, "flip": True}, "whole images at one scale"),
        ({"general_threshold": 1.0}, "general_threshold: "),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_protocol(values, where="mine")


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"found 'slide', allowed: original, prepared, maskformer/ade20k"):
        find_protocol("slide")


def test_cap_alone_only_shrinks() -> None:
    assert Resize().apply((100, 400), cap=200) == (50, 200)
    assert Resize().apply((100, 150), cap=200) == (100, 150)
    assert EvaluationProtocol().passes == 1
