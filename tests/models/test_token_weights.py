"""Checkpoints of the official CTS code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segsweep.models.methods.cts import CTSConfig
from segsweep.models.token_weights import load_official_weights


def build(host: str = "segmenter_mask") -> nn.Module:
    values = {"backbone": {"name": "vit_nano"}, "crop": 64, "host": host, "sharing": {"policy": "lite0"}}
    return CTSConfig.model_validate(values).build(4)


def official_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As tue-mps/cts-segmenter saves a Segmenter: policy_net and the ImageNet classifier included."""
    renames = (
        ("encoder.policy.backbone.features.", "policy_net.backbone."),
        ("encoder.policy.head.", "policy_net.head."),
        ("encoder.backbone.", "encoder."),
        ("head.", "decoder."),
    )
    renamed = {"encoder.head.weight": torch.zeros(1000, 96), "encoder.head.bias": torch.zeros(1000)}
    for name, value in state.items():
        ours, theirs = next(pair for pair in renames if name.startswith(pair[0]))
        renamed[theirs + name.removeprefix(ours)] = value
    return renamed


@pytest.mark.parametrize("host", ["segmenter_mask", "segmenter_linear"])
def test_official_checkpoints_fill_every_weight(host: str) -> None:
    torch.manual_seed(0)
    source, target = build(host), build(host)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    theirs = official_names(source.state_dict())
    assert load_official_weights(target, theirs) == ["encoder.head.bias", "encoder.head.weight"]
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_incomplete_and_foreign_checkpoints_are_refused() -> None:
    model = build()
    theirs = official_names(model.state_dict())
    with pytest.raises(ValueError, match=r"lack 1 of \d+ tensors, encoder\.backbone\.cls_token"):
        load_official_weights(model, {k: v for k, v in theirs.items() if k != "encoder.cls_token"})
    with pytest.raises(ValueError, match=r"pos_embed has shape \(1, 5, 96\)"):
        load_official_weights(model, theirs | {"encoder.pos_embed": torch.zeros(1, 5, 96)})
