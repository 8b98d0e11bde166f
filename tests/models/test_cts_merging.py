"""ToMe and ALGM as choices of a CTS config: what they exclude, what they compute, what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from segsweep.cost.measure import exact_cost
from segsweep.models.methods.cts import PRESETS, CTSConfig
from segsweep.models.token_merging import ALGM, MergingEncoder, ToMe

HOST: dict[str, Any] = {
    "backbone": {"name": "vit_nano"},
    "host": "segmenter_linear",
    "sharing": {"reduction": 0},
    "crop": (64, 96),
}
ALGM_NANO = {"kind": "algm", "global_layer": 3}


def merging(**values: Any) -> CTSConfig:
    return CTSConfig.model_validate(HOST | {"merging": values})


def test_a_config_builds_the_reducer_that_it_names() -> None:
    tome, algm = merging(kind="tome", count=5).build(4), merging(**ALGM_NANO, threshold=0.7).build(4)
    assert isinstance(tome.encoder, MergingEncoder) and isinstance(algm.encoder, MergingEncoder)
    assert tome.encoder.reducer == ToMe(count=5)
    assert algm.encoder.reducer == ALGM(threshold=0.7, global_layer=3)
    assert not isinstance(CTSConfig.model_validate(HOST).build(4).encoder, MergingEncoder)


def test_merging_nothing_is_the_host_bit_by_bit() -> None:
    """No window and no pair reaches a cosine of 1; the same seed gives the same weights."""
    models = []
    for config in (CTSConfig.model_validate(HOST), merging(**ALGM_NANO, threshold=1, global_threshold=1)):
        torch.manual_seed(0)
        models.append(config.build(4).eval())
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        plain, merged = (model(images).logits for model in models)
    torch.testing.assert_close(merged, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sharing": {}, "merging": {"kind": "tome"}}, "exclude each other; set sharing.reduction=0"),
        ({"backbone": {"name": "beit_nano"}, "merging": {"kind": "tome"}}, "has relative positions"),
        (
            {"merging": ALGM_NANO | {"global_layer": 5}},
            "behind the last of the encoder's 4 layers; choose 2..4",
        ),
        ({"merging": ALGM_NANO | {"local_layer": 3}}, "is not before global_layer=3"),
        ({"merging": {"count": 4}}, "merging.count=4 has no meaning for merging.kind='none'"),
        ({"merging": {"kind": "tome", "threshold": 0.9}}, "merging.threshold=0.9 has no meaning"),
        ({"merging": ALGM_NANO | {"count": 4}}, "merging.count=4 has no meaning for merging.kind='algm'"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CTSConfig.model_validate(HOST | values)


@pytest.mark.parametrize(("windows", "pairs"), [(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)])
def test_algm_costs_the_merges_that_it_is_counted_for(windows: float, pairs: float) -> None:
    """24 patches, 6 windows of 4; with the class token, even and odd places alternate. By hand."""
    dim, classes, patches, tokens = 96, 4, 24, 25
    macs = patches * 768 * dim
    for layer in (1, 2, 3, 4):
        macs += 4 * tokens * dim**2 + 2 * tokens**2 * dim
        if layer == 1:
            tokens -= 3 * round(windows * 6)
        if layer == 3:
            even, odd = (tokens + 1) // 2, tokens // 2
            macs += even * odd * dim
            tokens -= min(round(pairs * even), (tokens - 1) // 2)
        macs += 8 * tokens * dim**2
    macs += patches * dim * classes
    config = merging(**ALGM_NANO, counted_windows=windows, counted_pairs=pairs)
    assert exact_cost(config, num_classes=classes, size=(64, 96)).macs == macs


def test_algm_is_counted_as_its_host_unless_told_otherwise() -> None:
    size = (512, 512)
    host, algm, tome, cts = (
        exact_cost(PRESETS[name], num_classes=150, size=size).macs
        for name in ("segmenter-s", "algm-s", "tome-s", "cts-s")
    )
    assert host < algm < 1.003 * host
    assert tome < host and cts < host
