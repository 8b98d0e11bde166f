"""DeepLabV3+ as a method: structure, sizes, training and configuration."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from segsweep.errors import ImageSizeError
from segsweep.losses.per_pixel import CrossEntropy
from segsweep.models.heads.deeplab import DeepLabDecoder
from segsweep.models.methods import METHODS, PRESETS
from segsweep.models.methods.deeplab import DeepLabConfig

TINY = PRESETS["deeplab"]["deeplab-tiny-os16"]


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return TINY.build(num_classes=5)


def test_method_is_registered_under_its_name() -> None:
    assert METHODS["deeplab"] is DeepLabConfig
    assert DeepLabConfig.method == "deeplab"
    assert DeepLabConfig() == PRESETS["deeplab"]["deeplab-b1-os16"]


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (64, 64)])
def test_logits_have_stride_four_of_any_size(size: tuple[int, int]) -> None:
    model = tiny().eval()
    with torch.no_grad():
        output = model(torch.randn(1, 3, *size))
    assert output.logits.shape == (1, 5, -(-size[0] // 4), -(-size[1] // 4))
    assert output.semantic_logits(size).shape == (1, 5, *size)
    assert output.auxiliary_logits is None


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_output_stride_reaches_the_backbone(output_stride: int) -> None:
    config = TINY.model_copy(
        update={"backbone": TINY.backbone.model_copy(update={"output_stride": output_stride})}
    )
    with torch.device("meta"):
        model = config.build(num_classes=5)
        assert model.backbone(torch.empty(1, 3, 520, 520))[5].shape[-1] == -(-520 // output_stride)
        assert model.eval()(torch.empty(1, 3, 520, 520)).logits.shape == (1, 5, 130, 130)


@pytest.mark.parametrize("separable", [False, True])
def test_decoder_joins_enlarged_context_and_narrowed_details(separable: bool) -> None:
    torch.manual_seed(0)
    decoder = DeepLabDecoder(6, 8, channels=10, low_level_channels=4, num_convs=2, separable=separable).eval()
    low_level, context = torch.randn(2, 6, 9, 7), torch.randn(2, 8, 3, 2)
    enlarged = F.interpolate(context, size=(9, 7), mode="bilinear", align_corners=False)
    narrowed = F.conv2d(low_level, decoder.low_level[0].weight).div((1 + 1e-5) ** 0.5).relu()
    torch.testing.assert_close(
        decoder(low_level, context), decoder.convs(torch.cat([enlarged, narrowed], dim=1))
    )
    kernels = [conv.kernel_size for conv in decoder.convs.modules() if isinstance(conv, nn.Conv2d)]
    assert kernels == ([(3, 3), (1, 1)] * 2 if separable else [(3, 3)] * 2)


def test_every_parameter_learns() -> None:
    model = tiny().train()
    labels = torch.randint(0, 5, (2, 65, 97))
    terms = TINY.criterion(CrossEntropy())(model(torch.randn(2, 3, 65, 97)), labels)
    sum(term.weight * term.loss.total / term.loss.count for term in terms.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_compiles_whole(training: bool) -> None:
    config = TINY.model_copy(update={"context": TINY.context.model_copy(update={"dropout": 0.0})})
    model = config.build(num_classes=5).train(training)
    images = torch.randn(2, 3, 64, 96)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images).logits, model(images).logits, rtol=1e-4, atol=1e-5)


def test_runs_in_bfloat16() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = tiny().train()(torch.randn(2, 3, 64, 96))
    assert torch.isfinite(output.logits).all()


def test_state_goes_round() -> None:
    model, copy = tiny().eval(), TINY.build(num_classes=5).eval()
    copy.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(model(images).logits, copy(images).logits)


def test_rates_are_multiples_of_the_base() -> None:
    assert DeepLabConfig().context.rates == (6, 12, 18)  # DeepLabV3, Sec. 3.3, output stride 16
    config = DeepLabConfig.model_validate({"context": {"base_rate": 12}})
    assert config.context.rates == (12, 24, 36)  # doubled at output stride 8


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="output_stride"):
        DeepLabConfig.model_validate({"backbone": {"output_stride": 4}})
    with pytest.raises(ValidationError, match="rates"):
        DeepLabConfig.model_validate({"context": {"rates": [6, 12, 18]}})
    with pytest.raises(ImageSizeError, match="at least 17"):
        DeepLabConfig().check_size((16, 64))


def test_parameters_are_backbone_aspp_decoder_and_classifier() -> None:
    with torch.device("meta"):
        model = DeepLabConfig().build(num_classes=19)
    # widths of EfficientNet-B1: 24 at level 2, 320 at level 5; a norm has two numbers a channel
    aspp = 2 * (320 * 256 + 512) + 3 * (9 * 320 * 256 + 512) + (5 * 256 * 256 + 512)
    low_level = 24 * 48 + 96
    convs = sum(9 * c + 2 * c + c * 256 + 512 for c in (256 + 48, 256))
    expected = 6_101_024 + aspp + low_level + convs + (256 * 19 + 19)  # ESeg's B1 without its head
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
