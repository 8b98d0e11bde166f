"""MaskFormer and its baselines as a whole: shapes, padding, inference, losses, gradients, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_maskformer import CLASSES, DESIGNS, tiny
from torch import Tensor, nn

from segsweep.errors import ImageSizeError
from segsweep.labels import IGNORE_INDEX
from segsweep.losses.per_pixel import CrossEntropy, LossTerm
from segsweep.models.heads.mask_classification import FramedOutput, MaskClassificationHead, MaskOutput
from segsweep.models.layers.padding import Frame
from segsweep.models.layers.sine_position import sine_positions
from segsweep.models.methods import METHODS
from segsweep.models.methods.maskformer import PRESETS, MaskFormerConfig

SIZES = [(64, 96), (65, 97)]


def build(config: MaskFormerConfig) -> nn.Module:
    torch.manual_seed(0)
    return config.build(CLASSES)


def images(size: tuple[int, int] = (64, 96), batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def labels(size: tuple[int, int] = (64, 96), batch: int = 2) -> Tensor:
    drawn = torch.randint(0, CLASSES, (batch, *size), generator=torch.Generator().manual_seed(0))
    drawn[:, :7] = IGNORE_INDEX
    return drawn


def loss_of(terms: dict[str, LossTerm]) -> Tensor:
    parts = [term.weight * term.loss.total / term.loss.count.clamp_min(1) for term in terms.values()]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("size", SIZES)
def test_outputs_are_of_the_padded_image_and_class_maps_of_the_image(
    design: str, size: tuple[int, int]
) -> None:
    model = build(tiny(design)).eval()
    with torch.no_grad():
        output = model(images(size))
        maps = output.semantic_logits(size)
    padded = (64, 96) if size == (64, 96) else (96, 128)
    assert (model.stride, model.num_classes, model.training_only) == (4, CLASSES, ())
    assert output.frame == Frame(size, padded)
    assert output.logits.shape[-2:] == (padded[0] // 4, padded[1] // 4)
    assert maps.shape == (2, CLASSES, *size)
    assert torch.isfinite(maps).all()
    assert output.layer_logits is None
    assert getattr(output, "auxiliary", None) is None


@pytest.mark.parametrize("backbone", ["swin_nano", "resnet_slim_nano", "resnet18"])
def test_large_images_and_other_backbones_pass(backbone: str) -> None:
    model = build(tiny(backbone=backbone)).eval()
    with torch.no_grad():
        output = model(images((520, 520), 1))
    assert output.class_logits.shape == (1, 12, CLASSES + 1)
    assert output.mask_logits.shape == (1, 12, 136, 136)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_gets_a_gradient(design: str, size: tuple[int, int]) -> None:
    config = tiny(design)
    model = build(config).train()
    loss_of(config.criterion(CrossEntropy())(model(images(size)), labels(size))).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("design", ["encoder"])
def test_forward_passes_compile_without_breaks(design: str) -> None:
    model = build(tiny(design, "resnet_slim_nano"))
    for training in (True, False):
        model.train(training)
        for layer in model.modules():
            if isinstance(layer, nn.Dropout):
                layer.eval()
            if hasattr(layer, "dropout") and isinstance(layer.dropout, float):
                layer.dropout = 0.0
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        expected, output = model(images((65, 97))), compiled(images((65, 97)))
        torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-4)
        assert output.frame == expected.frame


@pytest.mark.parametrize("design", ["maskformer", "encoder", "general", "perpixel_plus", "perpixel"])
def test_bfloat16_autocast_stays_near_float32(design: str) -> None:
    config = tiny(design)
    model = build(config).eval()
    with torch.no_grad():
        expected = model(images()).semantic_logits((64, 96))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(images())
        if design != "general":  # whose best query may be another one
            assert (output.semantic_logits((64, 96)) - expected).abs().max() < 0.05 * expected.abs().max()
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(images())
    assert torch.isfinite(loss_of(config.criterion(CrossEntropy())(output, labels())))


@pytest.mark.parametrize("design", ["maskformer", "encoder", "perpixel_plus"])
def test_weights_survive_a_round_trip(design: str) -> None:
    source, target = build(tiny(design)).eval(), tiny(design).build(CLASSES).eval()
    target.load_state_dict(source.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(target(images()).logits, source(images()).logits)


def test_padding_is_zeros_at_the_bottom_and_right() -> None:
    model = build(tiny()).eval()
    with torch.no_grad():
        output = model(images((65, 97)))
        framed = model(F.pad(images((65, 97)), (0, 31, 0, 31)))
    assert torch.equal(output.logits, framed.logits)
    maps = framed.semantic_logits((96, 128))[..., :65, :97]
    torch.testing.assert_close(output.semantic_logits((65, 97)), maps)


def test_semantic_inference_by_hand() -> None:
    """Masks to the padded size, product with the classes, crop, resize, in this order."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(2, 3, CLASSES + 1, generator=generator)
    masks = torch.randn(2, 3, 16, 24, generator=generator)
    output = MaskOutput(logits=masks, class_logits=classes, frame=Frame((60, 90), (64, 96)))
    large = F.interpolate(masks, size=(64, 96), mode="bilinear", align_corners=False).sigmoid()
    merged = sum(classes.softmax(-1)[:, query, :-1, None, None] * large[:, None, query] for query in range(3))
    expected = F.interpolate(merged[..., :60, :90], size=(30, 50), mode="bilinear", align_corners=False)  # type: ignore[index]
    torch.testing.assert_close(output.semantic_logits((30, 50)), expected)
    torch.testing.assert_close(output.semantic_logits((60, 90)), merged[..., :60, :90])  # type: ignore[index]


def queries(*rows: tuple[int, float]) -> Tensor:
    """Class logits of one image: each query has a class and its probability; the others share the rest."""
    logits = torch.zeros(1, len(rows), CLASSES + 1)
    for query, (class_id, probability) in enumerate(rows):
        logits[0, query] = torch.tensor((1 - probability) / CLASSES).log()
        logits[0, query, class_id] = torch.tensor(probability).log()
    return logits


def general(classes: Tensor, masks: list[list[float]], **options: Any) -> MaskOutput:
    return MaskOutput(logits=torch.tensor([masks])[:, :, None], class_logits=classes, **options)


def test_general_inference_gives_each_pixel_to_the_best_kept_query() -> None:
    classes = queries((0, 0.9), (3, 0.5), (1, 0.3), (CLASSES, 0.9))
    output = general(classes, [[3.0, -3.0, 0.0], [-3.0, 3.0, 0.0], [9.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    # query 2 has 0.3, query 3 is no object
    assert output.general_prediction((1, 3), threshold=0.31).tolist() == [[[0, 3, 0]]]
    assert output.general_prediction((1, 3), threshold=0.6).tolist() == [[[0, 0, 0]]]


def test_general_inference_without_a_kept_query_is_void() -> None:
    output = general(queries((0, 0.25), (1, 0.2)), [[3.0, -3.0], [-3.0, 3.0]])
    assert output.general_prediction((1, 2)).tolist() == [[[CLASSES, CLASSES]]]


def test_general_inference_of_certain_negatives_still_finds_the_best() -> None:
    """Probabilities of masks that underflow to zero do not make a pixel void or class 0."""
    output = general(queries((2, 0.9)), [[-200.0, 5.0]])
    assert output.general_prediction((1, 2)).tolist() == [[[2, 2]]]


def test_class_maps_of_general_inference_give_its_classes() -> None:
    config = tiny("general", inference={"kind": "general", "threshold": 0.17})
    model = build(config).eval()
    with torch.no_grad():
        output = model(images((65, 97)))
        maps, prediction = output.semantic_logits((65, 97)), output.general_prediction((65, 97), 0.17)
    assert (prediction < CLASSES).all()
    assert torch.equal(maps.argmax(1), prediction)


def test_class_maps_of_general_inference_fall_back_to_semantic_inference() -> None:
    classes = queries((0, 0.25), (1, 0.2))
    masks = [[3.0, -3.0], [-3.0, 3.0]]
    with_threshold, without = general(classes, masks, threshold=0.3), general(classes, masks)
    torch.testing.assert_close(with_threshold.semantic_logits((1, 2)), without.semantic_logits((1, 2)))


def test_inference_may_change_with_the_same_weights() -> None:
    model = build(tiny()).eval()
    assert isinstance(model.head, MaskClassificationHead)
    with torch.no_grad():
        semantic = model(images()).semantic_logits((64, 96))
        model.head.threshold = 0.0
        best = model(images()).semantic_logits((64, 96))
    assert not torch.equal(semantic, best)


def test_baseline_plus_has_a_query_and_a_loss_for_each_class_and_layer() -> None:
    config = tiny("perpixel_plus")
    model = build(config).train()
    output = model(images())
    assert isinstance(output, FramedOutput)
    assert output.logits.shape[1] == CLASSES
    terms = config.criterion(CrossEntropy())(output, labels())
    assert list(terms) == ["segmentation", "layer_1"]
    enlarged = F.interpolate(output.logits, scale_factor=4, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(enlarged, labels(), ignore_index=IGNORE_INDEX)
    term = terms["segmentation"]
    torch.testing.assert_close(term.loss.total / term.loss.count, expected)
    assert {term.weight for term in terms.values()} == {1.0}


@pytest.mark.parametrize(("design", "layers"), [("maskformer", 2), ("last_layer", 1), ("shallow", 1)])
def test_deep_supervision_sums_over_the_layers(design: str, layers: int) -> None:
    config = tiny(design)
    output = build(config).train()(images())
    assert len(output.auxiliary) == layers - 1
    terms = config.criterion(CrossEntropy())(output, labels())
    assert list(terms) == ["classification", "focal", "dice"]
    assert int(terms["focal"].loss.count) == 2 * CLASSES


def test_labels_are_padded_as_void() -> None:
    config = tiny()
    model = build(config).eval()
    padded = F.pad(labels((65, 97)), (0, 31, 0, 31), value=IGNORE_INDEX)
    with torch.no_grad():
        output = model(images((65, 97)))
        framed = model(F.pad(images((65, 97)), (0, 31, 0, 31)))
    criterion = config.criterion(CrossEntropy())
    assert loss_of(criterion(output, labels((65, 97)))) == loss_of(criterion(framed, padded))


def test_labels_of_another_size_are_refused() -> None:
    config = tiny()
    with pytest.raises(ValueError, match="labels of 32x48 pixels for images of 64x96"):
        config.criterion(CrossEntropy())(build(config)(images()), labels((32, 48)))


def test_four_scenes_are_learned_by_heart() -> None:
    """Boxes of five colours on four images; mIoU over all of them above 0.9 within 100 steps."""
    config = tiny(
        decoder={"channels": 32, "num_heads": 4, "hidden": 64, "layers": 2, "queries": 10, "dropout": 0}
    )
    drawn = torch.randint(0, CLASSES, (4, 4, 4), generator=torch.Generator().manual_seed(3))
    truth = drawn.repeat_interleave(16, 1).repeat_interleave(16, 2)
    colours = torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(4))
    scenes = colours[truth].permute(0, 3, 1, 2) + 0.05 * torch.randn(4, 3, 64, 64)
    model = build(config).train()
    criterion = config.criterion(CrossEntropy())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = loss_of(criterion(model(scenes), truth))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        prediction = model(scenes).semantic_logits((64, 64)).argmax(1)
    ious = [
        ((prediction == c) & (truth == c)).sum() / ((prediction == c) | (truth == c)).sum()
        for c in range(CLASSES)
    ]
    assert losses[-1] < 0.3 * losses[0]
    assert torch.stack(ious).mean() > 0.9


def test_positions_do_not_depend_on_the_batch_and_start_at_one() -> None:
    encoded = sine_positions(torch.zeros(3, 8, 4, 5, dtype=torch.float64))
    assert encoded.shape == (1, 20, 8)
    turn = 2 * torch.pi / (4 + 1e-6)  # first of four rows
    row = torch.tensor([turn]).double()
    torch.testing.assert_close(encoded[0, 0, 0], row.sin()[0], rtol=0, atol=1e-7)
    torch.testing.assert_close(encoded[0, 0, 3], (row / 100).cos()[0], rtol=0, atol=1e-7)
    assert torch.equal(encoded[0, 0, :4], encoded[0, 4, :4])  # same row
    assert torch.equal(encoded[0, 0, 4:], encoded[0, 5, 4:])  # same column


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "perpixel", "decoder": {"layers": 3}}, r"decoder\.layers=3 has no meaning"),
        ({"model": "perpixel", "loss": {"dice": 3}}, r"loss\.dice=3\.0 has no meaning"),
        ({"model": "perpixel_plus", "decoder": {"queries": 50}}, "which has a query for each class"),
        ({"model": "perpixel_plus", "inference": {"kind": "general"}}, r"inference\.kind='general' has no"),
        ({"inference": {"threshold": 0.5}}, r"inference\.threshold=0\.5 has no meaning"),
        ({"neck": {"channels": 48}}, "not a multiple of 32"),
        ({"decoder": {"channels": 30}}, "not a multiple of 4"),
        ({"decoder": {"channels": 36}}, "num_heads=8 does not divide decoder.channels=36"),
        ({"neck": {"encoder_layers": 1}, "decoder": {"num_heads": 3, "channels": 48}}, "divide neck"),
        ({"backbone": {"name": "swin_tiny", "norm": "frozen"}}, "norm='frozen' has no meaning"),
        ({"decoder": {"layers": 7}}, "less than or equal to 6"),
        ({"loss": {"no_object": 1.5}}, "less than or equal to 1"),
    ],
)  # fmt: skip
def test_meaningless_designs_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskFormerConfig.model_validate(values)


def test_images_that_leave_one_pixel_are_refused() -> None:
    with pytest.raises(ImageSizeError, match="at least 33 pixels"):
        MaskFormerConfig().check_size((32, 64))
    with pytest.raises(ImageSizeError, match="at least 33 pixels"):
        build(tiny())(images((64, 32)))


def test_method_and_presets_are_registered() -> None:
    assert METHODS["maskformer"] is MaskFormerConfig
    assert len(PRESETS) == len({preset.model_dump_json() for preset in PRESETS.values()})
