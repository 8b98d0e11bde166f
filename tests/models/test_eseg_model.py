"""ESeg as a whole: published sizes, shapes, gradients."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from segsweep.errors import ImageSizeError
from segsweep.models.methods import METHODS
from segsweep.models.methods.eseg import PRESETS, ESegConfig

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "eseg.json").read_text())


def tiny(**neck: object) -> ESegConfig:
    values = {"top_level": 6, "channels": 16, "repeats": 1} | neck
    if values.get("kind") == "fpn":
        del values["repeats"]
    return ESegConfig.model_validate({"backbone": {"name": "efficientnet_tiny"}, "neck": values})


def num_params(config: ESegConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in config.build(num_classes=19).parameters())


@pytest.mark.parametrize("preset", GOLDEN["num_params"])
def test_presets_have_exactly_the_expected_parameters(preset: str) -> None:
    assert num_params(PRESETS[preset]) == GOLDEN["num_params"][preset]


@pytest.mark.parametrize("top_level", [5, 9])
def test_fpn_parameters_follow_the_closed_form(top_level: int) -> None:
    taps, width = [24, 40, 112, 320], 96
    in_channels = taps + [320] * (top_level - 5)
    laterals = sum(c * width + width + 2 * width for c in in_channels)  # 1x1 with bias, batch norm
    outputs = len(in_channels) * (9 * width * width + 2 * width)
    head = 9 * width + width * width + 2 * width + width * 19 + 19 + len(in_channels)
    expected = GOLDEN["backbone_params"]["tf_efficientnet_b1"] + laterals + outputs + head
    assert num_params(PRESETS[f"eseg-s-fpn-p{top_level}"]) == expected


def test_each_further_level_of_eseg_s_adds_113973_parameters() -> None:
    # One lateral, 4 x (2 nodes + one input more of the node below), one score of the head
    counts = [
        num_params(ESegConfig.model_validate({"neck": {"top_level": level}}))
        for level in map(int, GOLDEN["num_params_by_top_level"])
    ]
    assert counts == list(GOLDEN["num_params_by_top_level"].values())
    assert {after - before for before, after in pairwise(counts)} == {113_973}


def test_meta_build_allocates_no_weights() -> None:
    with torch.device("meta"):
        model = PRESETS["eseg-l"].build(num_classes=19)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


@pytest.mark.parametrize("kind", ["bifpn", "fpn"])
@pytest.mark.parametrize("size", [(64, 96), (520, 72), (65, 65)])
def test_logits_stand_at_the_bottom_level_and_enlarge_to_the_image(kind: str, size: tuple[int, int]) -> None:
    model = tiny(kind=kind).build(num_classes=5).eval()
    with torch.no_grad():
        output = model(torch.randn(1, 3, *size))
    assert (model.stride, model.num_classes) == (4, 5)
    assert output.logits.shape == (1, 5, -(-size[0] // 4), -(-size[1] // 4))
    assert output.semantic_logits(size).shape == (1, 5, *size)


def test_semantic_logits_of_a_constant_map_are_constant() -> None:
    model = tiny().build(num_classes=3).eval()
    nn.init.zeros_(model.head.classifier.weight)
    nn.init.constant_(model.head.classifier.bias, 2.5)
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 64)).semantic_logits((64, 64))
    torch.testing.assert_close(logits, torch.full((1, 3, 64, 64), 2.5))


def test_level_sizes_of_a_520_pixel_image_are_halved_upwards() -> None:
    with torch.device("meta"):
        model = PRESETS["eseg-s"].build(num_classes=150)
        pyramid = model.neck(model.backbone(torch.empty(1, 3, 520, 520)))
    assert [pyramid[level].shape[-1] for level in range(2, 10)] == [130, 65, 33, 17, 9, 5, 3, 2]


@pytest.mark.parametrize(
    ("size", "top_level", "fits"),
    [((512, 1024), 9, True), ((256, 512), 9, False), ((256, 512), 8, True), ((257, 512), 9, True)],
)
def test_images_that_leave_the_top_level_less_than_a_pixel_are_refused(
    size: tuple[int, int], top_level: int, fits: bool
) -> None:
    with torch.device("meta"):
        model = tiny(top_level=top_level).build(num_classes=2).eval()
        images = torch.empty(1, 3, *size)
        if fits:
            model(images)
        else:
            with pytest.raises(ImageSizeError, match=r"256x512.*level 9.*257 pixels.*at most 8"):
                model(images)


@pytest.mark.parametrize("config", [tiny(), tiny(kind="fpn"), tiny(bottom_level=3), tiny(top_level=4)])
def test_gradient_reaches_every_parameter(config: ESegConfig) -> None:
    torch.manual_seed(0)
    model = config.build(num_classes=3)
    model(torch.randn(2, 3, 96, 128)).logits.square().sum().backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # batch norm removes a constant: the bias of a convolution before it has no gradient but rounding errors
    assert [name for name in unreached if not name.endswith("bias")] == []
    assert all(p.grad is not None for p in model.parameters())


def test_training_reduces_the_loss() -> None:
    torch.manual_seed(0)
    model = tiny().build(num_classes=2)
    images = nn.functional.interpolate(torch.randn(4, 3, 4, 4), size=(64, 64))
    labels = (images[:, 0] > 0).long()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(images).semantic_logits((64, 64)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(0.693, abs=0.01)  # ln 2: the classifier starts undecided
    assert losses[-1] < losses[0] - 0.1


def test_memory_layout_does_not_change_the_result() -> None:
    torch.manual_seed(0)
    model = tiny().build(num_classes=3).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = model(images).logits
        actual = model.to(memory_format=torch.channels_last)(
            images.contiguous(memory_format=torch.channels_last)
        ).logits
    torch.testing.assert_close(actual, expected)


def test_norms_are_ordinary_batch_norms_with_the_momentum_of_the_config() -> None:
    config = ESegConfig(batch_norm_momentum=0.01)
    with torch.device("meta"):
        model = config.build(num_classes=2)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert {type(norm) for norm in norms} == {nn.BatchNorm2d}
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_method_is_registered_under_its_own_name() -> None:
    assert METHODS["eseg"] is ESegConfig
    assert METHODS["eseg"].method == "eseg"
