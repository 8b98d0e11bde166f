"""HFGD as a whole: published sizes, where gradients go, what evaluation leaves out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from guided_models import NUM_CLASSES, batch, loss_terms, tiny_config, weighted_loss
from torch import Tensor, nn

from segsweep.cost.counting import count_operations
from segsweep.losses.per_pixel import CrossEntropy
from segsweep.models.guidance import GuidedOutput, GuidedSegmenter
from segsweep.models.interface import SegmentationOutput
from segsweep.models.methods.hfgd import PRESETS, HFGDConfig

STUDENT_PARTS = ("upsampler", "guidance.attention")
TEACHER_PARTS = ("backbone", "context", "guidance.tokens")


def built_on_meta(config: HFGDConfig, num_classes: int = 59) -> GuidedSegmenter:
    with torch.device("meta"):
        return config.build(num_classes)


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def gradient_sizes(model: nn.Module, loss: Tensor) -> dict[str, float | None]:
    """Norm of every parameter's gradient; ``None`` where the loss does not reach it."""
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {
        name: None if parameter.grad is None else float(parameter.grad.norm())
        for name, parameter in model.named_parameters()
    }


def part_of(name: str) -> str:
    return next(part for part in (*STUDENT_PARTS, *TEACHER_PARTS) if name.startswith(part + "."))


def parts_reached(sizes: dict[str, float | None]) -> set[str]:
    return {part_of(name) for name, size in sizes.items() if size is not None}


# HFGD specification: exact parameters with 59 classes and stem 64/64/64
@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("backbone", 23_574_336),
        ("context", 5_970_560),
        ("upsampler", 8_328_704),
        ("guidance.attention", 328_960),
        ("guidance.tokens", 15_163),
    ],
)
def test_parts_have_exactly_the_expected_parameters(part: str, expected: int) -> None:
    assert num_params(built_on_meta(PRESETS["hfgd-r50-os4"]).get_submodule(part)) == expected


@pytest.mark.parametrize(("preset", "expected"), [("hfgd-r50-os4", 38_217_723), ("hfgd-r50-os2", 40_579_067)])
def test_hfgd_has_exactly_the_expected_parameters(preset: str, expected: int) -> None:
    assert num_params(built_on_meta(PRESETS[preset])) == expected


# HFGD specification: not published, computed. (512, 512) 69.17, (513, 1025) 145.39, (641, 641) 112.48 GMACs
@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), 69.17e9), ((513, 1025), 145.39e9), ((641, 641), 112.48e9)]
)
def test_macs_at_other_sizes_are_those_of_the_specification(size: tuple[int, int], expected: float) -> None:
    macs = count_operations(built_on_meta(PRESETS["hfgd-r50-os4"]), size).macs
    assert macs == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("preset", ["hfgd-swin-l-os4", "hfgd-convnext-l-os4"])
def test_large_backbones_have_the_parameters_of_the_specification(preset: str) -> None:
    expected = {"hfgd-swin-l-os4": 207.8e6, "hfgd-convnext-l-os4": 208.8e6}[preset]
    assert num_params(built_on_meta(PRESETS[preset])) == pytest.approx(expected, rel=1e-3)


def test_meta_build_allocates_no_weights() -> None:
    assert all(tensor.is_meta for tensor in built_on_meta(PRESETS["hfgd-r50-os2"]).state_dict().values())


def test_student_loss_reaches_upsampler_and_attention_alone() -> None:
    model = tiny_config().build(NUM_CLASSES)
    images, labels = batch()
    output = model(images)
    sizes = gradient_sizes(model, loss_terms(tiny_config(), output, labels)["segmentation"].loss.total)
    assert parts_reached(sizes) == set(STUDENT_PARTS)


def test_teacher_loss_reaches_backbone_context_encoder_and_tokens_alone() -> None:
    model = tiny_config().build(NUM_CLASSES)
    images, labels = batch()
    sizes = gradient_sizes(model, loss_terms(tiny_config(), model(images), labels)["teacher"].loss.total)
    assert parts_reached(sizes) == set(TEACHER_PARTS)


def test_class_aware_losses_leave_student_and_tokens_alone() -> None:
    model = tiny_config().build(NUM_CLASSES)
    images, labels = batch()
    terms = loss_terms(tiny_config(), model(images), labels)
    car = {name: term for name, term in terms.items() if name not in {"segmentation", "teacher"}}
    assert len(car) == 3
    assert parts_reached(gradient_sizes(model, weighted_loss(car))) == {"backbone", "context"}


def test_without_stopped_gradients_the_student_loss_reaches_all_parts() -> None:
    config = tiny_config(guidance={"stop_gradient": False})
    model = config.build(NUM_CLASSES)
    images, labels = batch()
    sizes = gradient_sizes(model, loss_terms(config, model(images), labels)["segmentation"].loss.total)
    assert parts_reached(sizes) == {*STUDENT_PARTS, *TEACHER_PARTS}


@pytest.mark.parametrize("kind", ["none", "attention"])
def test_without_a_teacher_one_loss_reaches_all_parts(kind: str) -> None:
    config = tiny_config(guidance={"kind": kind})
    model = config.build(NUM_CLASSES)
    images, labels = batch()
    terms = loss_terms(config, model(images), labels)
    assert "teacher" not in terms
    sizes = gradient_sizes(model, terms["segmentation"].loss.total)
    assert None not in sizes.values()


DESIGNS: dict[str, dict[str, Any]] = {
    "usfpn": {},
    "usfpn-2": {"upsampler": {"output_stride": 2}},
    "sfpn-guidance": {"upsampler": {"kind": "sfpn"}, "guidance": {"kind": "guidance"}},
    "sfpn-replace": {"upsampler": {"kind": "sfpn"}, "guidance": {"residual": False}},
    "fapn": {"upsampler": {"kind": "fapn"}, "context": {"kind": "identity"}},
    "uper": {"upsampler": {"kind": "uper"}, "context": {"kind": "ppm"}},
    "deeplab": {
        "upsampler": {"kind": "deeplab"},
        "context": {"kind": "aspp"},
        "backbone": {"output_stride": 16},
    },
    "ocr": {"context": {"kind": "ocr", "width": 16}},
    "sa-car": {
        "context": {"kind": "sa_car", "width": 16},
        "upsampler": {"kind": "none"},
        "guidance": {"kind": "none"},
        "backbone": {"output_stride": 8},
    },
    "self-attention": {"context": {"kind": "self_attention", "width": 16}, "guidance": {"kind": "attention"}},
    "cae-no-attention": {"context": {"attention": False, "wide_kernel": 3}},
}  # fmt: skip


@pytest.mark.parametrize("name", DESIGNS)
def test_all_losses_together_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    config = tiny_config(**DESIGNS[name])
    model = config.build(NUM_CLASSES)
    images, labels = batch()
    sizes = gradient_sizes(model, weighted_loss(loss_terms(config, model(images), labels)))
    # Softmax takes no notice of a constant, so the bias of keys has a gradient of rounding errors only.
    assert [part for part, size in sizes.items() if not size and not part.endswith("bias")] == []
    assert all(size is not None and math.isfinite(size) for size in sizes.values())


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_evaluation_gives_one_logit_map_and_runs_no_teacher(name: str, size: tuple[int, int]) -> None:
    model = tiny_config(**DESIGNS[name]).build(NUM_CLASSES).eval()
    seen: list[nn.Module] = []
    model.guidance.tokens.register_forward_hook(lambda module, *_: seen.append(module))
    with torch.no_grad():
        output = model(torch.randn(1, 3, *size))
    assert (output.teacher_logits, output.class_features, output.auxiliary_logits) == (None, None, None)
    assert output.logits.shape == (1, NUM_CLASSES, *(math.ceil(pixels / model.stride) for pixels in size))
    assert output.semantic_logits(size).shape == (1, NUM_CLASSES, *size)
    assert seen == []


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (32, [6, 12, 18])])
def test_atrous_rates_are_doubled_at_output_stride_8(output_stride: int, rates: list[int]) -> None:
    # Chen et al. 2017, DeepLabV3, Sec. 3.3
    config = tiny_config(context={"kind": "aspp"}, backbone={"output_stride": output_stride})
    atrous = built_on_meta(config, NUM_CLASSES).get_submodule("context.encoder.atrous")
    dilations = [module.dilation[0] for module in atrous.modules() if isinstance(module, nn.Conv2d)]
    assert dilations == rates


def test_stride_2_logits_have_half_of_a_520_pixel_image() -> None:
    model = built_on_meta(tiny_config(upsampler={"output_stride": 2}), NUM_CLASSES).eval()
    assert model(torch.empty(1, 3, 520, 519, device="meta")).logits.shape == (1, NUM_CLASSES, 260, 260)


def test_student_is_classified_by_the_teachers_tokens() -> None:
    config = tiny_config(guidance={"kind": "guidance"})
    model = config.build(NUM_CLASSES)
    nn.init.zeros_(model.guidance.tokens.weight)
    nn.init.constant_(model.guidance.tokens.bias, 2.5)
    output = model(batch()[0])
    for logits in (output.logits, output.teacher_logits):
        torch.testing.assert_close(logits, torch.full_like(logits, 2.5))


@pytest.mark.parametrize(("residual", "expected"), [(True, 2.0), (False, 1.0)])
def test_attention_of_a_constant_feature_is_that_feature(residual: bool, expected: float) -> None:
    guidance = tiny_config(guidance={"residual": residual}).build(NUM_CLASSES).guidance
    value = guidance.get_submodule("attention.value")
    nn.init.eye_(value.weight.view(16, 16))
    upsampled = torch.ones(1, 16, 5, 7)
    expected_logits = guidance.tokens(expected * upsampled)
    torch.testing.assert_close(guidance.student_logits(upsampled), expected_logits)


def test_terms_carry_the_weights_of_the_config() -> None:
    config = tiny_config(
        guidance={"teacher_weight": 0.25}, car={"intra": 0.5, "inter_class": 2.0, "inter_pixel": 3.0}
    )
    images, labels = batch()
    terms = loss_terms(config, config.build(NUM_CLASSES)(images), labels)
    assert (terms["segmentation"].weight, terms["teacher"].weight) == (1.0, 0.25)
    assert sorted(term.weight for term in terms.values()) == [0.25, 0.5, 1.0, 2.0, 3.0]


def test_regions_of_ocr_have_a_loss_of_their_own() -> None:
    config = tiny_config(context={"kind": "ocr", "width": 16})
    images, labels = batch()
    terms = loss_terms(config, config.build(NUM_CLASSES)(images), labels)
    assert terms["auxiliary"].weight == 0.4  # Yuan et al. 2020


def test_segmentation_term_is_the_cross_entropy_of_the_enlarged_logits() -> None:
    config = tiny_config()
    images, labels = batch()
    output = config.build(NUM_CLASSES)(images)
    term = loss_terms(config, output, labels)["segmentation"].loss
    enlarged = nn.functional.interpolate(output.logits, size=labels.shape[1:], mode="bilinear")
    expected = nn.functional.cross_entropy(enlarged, labels, ignore_index=255)
    torch.testing.assert_close(term.total / term.count, expected)


def test_output_of_another_method_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a GuidedOutput, not a SegmentationOutput"):
        HFGDConfig().criterion(CrossEntropy())(
            SegmentationOutput(torch.zeros(1, 3, 4, 4)), torch.zeros(1, 8, 8).long()
        )


@pytest.mark.parametrize("name", ["usfpn-2", "fapn", "uper", "deeplab", "ocr"])
def test_bfloat16_autocast_trains_with_finite_gradients(name: str) -> None:
    config = tiny_config(**DESIGNS[name])
    model = config.build(NUM_CLASSES)
    images, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(images)
    sizes = gradient_sizes(model, weighted_loss(loss_terms(config, output, labels)))
    assert all(size is not None and math.isfinite(size) for size in sizes.values())


@pytest.mark.parametrize(("name", "training"), [("usfpn-2", True), ("fapn", False)])
def test_forward_compiles_into_one_graph(name: str, training: bool) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    config = tiny_config(**DESIGNS[name], backbone={"name": "resnet_slim_nano"})
    model = config.build(NUM_CLASSES).train(training)
    if training:  # two passes over the same batch: statistics must not matter
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
    images = batch()[0]
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected: GuidedOutput = model(images)
    torch.testing.assert_close(compiled(images).logits, expected.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["usfpn", "fapn"])
def test_memory_layout_does_not_change_the_result(name: str) -> None:
    torch.manual_seed(0)
    model = tiny_config(**DESIGNS[name]).build(NUM_CLASSES).eval()
    images = batch()[0]
    with torch.no_grad():
        expected = model(images).logits
        actual = model.to(memory_format=torch.channels_last)(images).logits
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_state_dict_makes_the_round_trip() -> None:
    model, other = (tiny_config().build(NUM_CLASSES).eval() for _ in range(2))
    other.load_state_dict(model.state_dict(), strict=True)
    images = batch()[0]
    with torch.no_grad():
        assert torch.equal(other(images).logits, model(images).logits)


def test_training_reduces_both_losses() -> None:
    torch.manual_seed(0)
    config = tiny_config()
    model = config.build(NUM_CLASSES)
    images = nn.functional.interpolate(torch.randn(4, 3, 4, 4), size=(64, 64))
    labels = (images[:, 0] > 0).long()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    history: list[dict[str, float]] = []
    for _ in range(12):
        terms = loss_terms(config, model(images), labels)
        history.append(
            {name: float((term.loss.total / term.loss.count).detach()) for name, term in terms.items()}
        )
        optimizer.zero_grad()
        weighted_loss(terms).backward()
        optimizer.step()
    for name in ("segmentation", "teacher"):
        assert history[0][name] == pytest.approx(math.log(NUM_CLASSES), abs=0.1)  # small weights: undecided
        assert history[-1][name] < history[0][name] - 0.1
