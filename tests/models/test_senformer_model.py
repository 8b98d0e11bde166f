"""SenFormer, UPerNet and what lies between as a whole: shapes, losses, gradients, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segsweep.errors import ImageSizeError
from segsweep.labels import IGNORE_INDEX
from segsweep.losses.per_pixel import CrossEntropy, LossTerm
from segsweep.models.heads.learner_ensemble import EnsembleOutput
from segsweep.models.heads.merging import on_grid
from segsweep.models.methods import METHODS
from segsweep.models.methods.senformer import PRESETS, SenFormerConfig

CLASSES = 5
DESIGNS: dict[str, dict[str, Any]] = {
    "learners": {},
    "fpn": {"neck": {"kind": "fpn"}},
    "laterals": {"neck": {"kind": "none"}},
    "shared": {"head": {"sharing": "decoder_cls", "norm": "post"}},
    "lean": {"head": {"reuse_keys": True}},
    "two": {"head": {"learners_per_level": 2, "inference_merging": "vote"}},
    "product": {"head": {"inference_merging": "product"}},
    "hierarchical": {"head": {"merging": "hierarchical", "gate_channels": 8}},
    "explicit": {"head": {"merging": "explicit", "gate_channels": 8}},
    "fusion": {"head": {"kind": "fusion"}},
    "senuper": {"head": {"kind": "senuper"}},
    "uper": {"head": {"kind": "uper"}},
}


def tiny(design: str = "learners", backbone: str = "efficientnet_tiny", **parts: Any) -> SenFormerConfig:
    values = DESIGNS[design]
    kind = values.get("head", {}).get("kind", "learners")
    blocks = {} if kind in {"uper", "senuper"} else {"num_blocks": 2}
    return SenFormerConfig.model_validate(
        {
            "backbone": {"name": backbone},
            "neck": {"channels": 16} | values.get("neck", {}),
            "head": blocks | values.get("head", {}),
            "auxiliary": {"channels": 8},
        }
        | parts
    )


def build(config: SenFormerConfig) -> nn.Module:
    torch.manual_seed(0)
    return config.build(CLASSES)


def images(size: tuple[int, int] = (64, 96), batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def labels(size: tuple[int, int] = (64, 96)) -> Tensor:
    drawn = torch.randint(0, CLASSES, (2, *size), generator=torch.Generator().manual_seed(0))
    drawn[:, :7] = IGNORE_INDEX
    return drawn


def value(term: LossTerm) -> float:
    return float(term.weight * term.loss.total.detach() / term.loss.count)


def awake(model: nn.Module) -> nn.Module:
    """Class queries start at zero and make all classes equal."""
    for name, parameter in model.named_parameters():
        if "queries" in name:
            nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_logits_stand_at_stride_4_and_enlarge_to_the_image(design: str, size: tuple[int, int]) -> None:
    model = build(tiny(design)).eval()
    with torch.no_grad():
        output = model(images(size))
    assert (model.stride, model.num_classes) == (4, CLASSES)
    assert output.logits.shape == (2, CLASSES, -(-size[0] // 4), -(-size[1] // 4))
    assert output.semantic_logits(size).shape == (2, CLASSES, *size)
    assert output.auxiliary_logits is None
    assert getattr(output, "learner_logits", None) is None


def test_large_images_and_other_backbones_pass() -> None:
    with torch.no_grad():
        assert build(tiny(backbone="swin_nano")).eval()(images((520, 520), 1)).logits.shape[-2:] == (130, 130)


@pytest.mark.parametrize("design", DESIGNS)
def test_every_parameter_gets_a_gradient(design: str) -> None:
    config = tiny(design)
    model = build(config).train()
    terms = config.criterion(CrossEntropy())(model(images()), labels())
    torch.stack([term.weight * term.loss.total / term.loss.count for term in terms.values()]).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


class ConvPyramid(nn.Module):
    """Four convolutions as a backbone: quick to compile."""

    def __init__(self, channels: dict[int, int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[2], 4, 4)
        self.steps = nn.ModuleList(nn.Conv2d(channels[i], channels[i + 1], 3, 2, 1) for i in (2, 3, 4))

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        pyramid = {2: self.stem(images)}
        for level, step in enumerate(self.steps, start=3):
            pyramid[level] = step(pyramid[level - 1])
        return pyramid


@pytest.mark.parametrize(
    ("design", "training"), [("hierarchical", False), ("hierarchical", True), ("uper", True)]
)
def test_forward_passes_compile_without_breaks(design: str, training: bool) -> None:
    config = tiny(design)
    if design == "hierarchical":
        config = config.model_copy(update={"head": config.head.model_copy(update={"num_blocks": 1})})
    model = build(config)
    model.backbone = ConvPyramid(model.backbone.channels)
    model.train(training)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout2d):
            layer.eval()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected, output = model(images()), compiled(images())
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert (output.auxiliary_logits is not None) == training


@pytest.mark.parametrize("design", ["learners", "explicit", "two", "uper"])
def test_bfloat16_autocast_stays_near_float32(design: str) -> None:
    model = awake(build(tiny(design))).eval()
    with torch.no_grad():
        expected = model(images()).semantic_logits((64, 96)).softmax(1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(images())
        assert (output.semantic_logits((64, 96)).softmax(1) - expected).abs().max() < 0.1


@pytest.mark.parametrize("design", ["shared", "two", "hierarchical", "uper"])
def test_weights_survive_a_round_trip(design: str) -> None:
    source, target = awake(build(tiny(design))).eval(), tiny(design).build(CLASSES).eval()
    target.load_state_dict(source.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(target(images()).logits, source(images()).logits)


def test_criterion_starts_at_ln_k_for_zero_queries() -> None:
    config = tiny()
    terms = config.criterion(CrossEntropy())(build(config).train()(images()), labels())
    assert list(terms) == ["ensemble", "learners", "auxiliary"]
    assert value(terms["ensemble"]) == pytest.approx(math.log(CLASSES), abs=1e-5)
    assert value(terms["learners"]) == pytest.approx(math.log(CLASSES), abs=1e-5)
    assert terms["auxiliary"].weight == 0.4
    assert int(terms["auxiliary"].loss.count) == 2 * 64 * 96
    assert int(terms["ensemble"].loss.count) == 2 * 57 * 96


def test_zero_queries_learn_to_tell_classes_apart() -> None:
    config = tiny()
    model = build(config).train()
    criterion = config.criterion(CrossEntropy())
    scene = images() + 4 * (torch.arange(96) > 47)  # two halves, one bright
    halves = torch.zeros_like(labels())
    halves[:, :, 48:] = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        terms = criterion(model(scene), halves)
        loss = torch.stack([term.loss.total / term.loss.count for term in terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    (first, *_) = model.head.learners
    assert first.queries.weight.std(1).min() > 0
    assert losses[-1] < 0.5 * losses[0]


def test_uper_divides_by_all_pixels_and_fusion_by_the_labelled_ones() -> None:
    for design, count in (("uper", 2 * 64 * 96), ("fusion", 2 * 57 * 96)):
        config = tiny(design)
        terms = config.criterion(CrossEntropy())(build(config).train()(images()), labels())
        assert list(terms) == ["segmentation", "auxiliary"]
        assert int(terms["segmentation"].loss.count) == count


def test_auxiliary_head_is_built_for_a_weight_only() -> None:
    with_head, without = build(tiny()), build(tiny(auxiliary={"weight": 0.0}))
    assert with_head.training_only == ("auxiliary",)
    assert without.training_only == ()
    assert without.train()(images()).auxiliary_logits is None


def test_semantic_logits_are_logarithms_of_enlarged_probabilities() -> None:
    model = awake(build(tiny())).eval()
    with torch.no_grad():
        output = model(images((65, 97)))
    assert isinstance(output, EnsembleOutput)
    enlarged = nn.functional.interpolate(output.logits.exp(), size=(65, 97), mode="bilinear")
    torch.testing.assert_close(output.semantic_logits((65, 97)).softmax(1), enlarged, rtol=0, atol=1e-5)
    before = output.logits.clone()
    output.semantic_logits((17, 25))
    assert torch.equal(output.logits, before)


@pytest.mark.parametrize("level", [2, 3, 4, 5])
def test_a_subset_of_one_level_is_its_learner_alone(level: int) -> None:
    model = awake(build(tiny())).eval()
    with torch.no_grad():
        pyramid = model.neck(model.backbone(images().contiguous(memory_format=torch.channels_last)))
        own = on_grid(model.head.learners[level - 2](pyramid[level]), (16, 24))
        model.head.merged_levels = (level,)
        merged = model(images()).logits
    assert torch.equal(merged, own.permute(0, 2, 3, 1).softmax(-1).log().permute(0, 3, 1, 2))
    torch.testing.assert_close(merged, own.log_softmax(1), rtol=1e-5, atol=1e-5)


def test_averaging_ends_between_its_learners() -> None:
    config = tiny(head={"num_blocks": 2, "merged_levels": (2, 4)})
    model = awake(build(config)).eval()
    with torch.no_grad():
        merged = model(images()).logits.exp()
        each = []
        for level in (2, 4):
            model.head.merged_levels = (level,)
            each.append(model(images()).logits.exp())
    torch.testing.assert_close(merged, (each[0] + each[1]) / 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head": {"kind": "uper", "num_blocks": 3}}, r"num_blocks=3 has no meaning for head\.kind='uper'"),
        ({"head": {"kind": "senuper", "sharing": "none"}}, r"head\.sharing='none' has no meaning"),
        ({"head": {"kind": "uper"}, "neck": {"kind": "fpn"}}, r"neck\.kind='fpn' has no meaning"),
        ({"head": {"kind": "fusion", "merging": "explicit"}}, r"head\.merging='explicit' has no meaning"),
        ({"head": {"kind": "fusion", "sharing": "cls"}}, "has one learner"),
        ({"head": {"merging": "hierarchical", "inference_merging": "vote"}}, "inference_merging='vote' has"),
        ({"head": {"merging": "explicit", "learners_per_level": 2}}, "learners_per_level=2 has no meaning"),
        ({"head": {"gate_channels": 64}}, "gate_channels=64 has no meaning for head.merging='average'"),
        ({"head": {"sharing": "none", "reuse_keys": True}}, "reuse_keys=True has no meaning"),
        ({"head": {"merged_levels": (2, 6)}}, r"one or more of \(2, 3, 4, 5\)"),
        ({"head": {"merged_levels": ()}}, "one or more of"),
        ({"neck": {"kind": "fpn", "window": 12}}, r"neck\.window=12 has no meaning"),
        ({"neck": {"channels": 20}}, r"neck\.num_heads=8 does not divide neck\.channels=20"),
        ({"neck": {"kind": "fpn", "channels": 20}}, r"head\.num_heads=8 does not divide neck\.channels=20"),
        ({"head": {"merging": "vote"}}, "merging"),
    ],
)  # fmt: skip
def test_meaningless_designs_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SenFormerConfig.model_validate(values)


def test_images_that_leave_a_level_empty_are_refused() -> None:
    with pytest.raises(ImageSizeError, match="at least 17 pixels"):
        SenFormerConfig().check_size((16, 64))


def test_method_and_presets_are_registered() -> None:
    assert METHODS["senformer"] is SenFormerConfig
    assert len(PRESETS) == len({preset.model_dump_json() for preset in PRESETS.values()})
