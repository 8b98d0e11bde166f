"""What every method promises, on small designs; a new method adds one entry to ``small_designs``."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from small_designs import LEARNS, METHODS_COVERED, SMALL_DESIGNS
from torch import Tensor, nn

from segsweep.cost.measure import exact_cost
from segsweep.losses.per_pixel import CrossEntropy
from segsweep.metrics.confusion import confusion_matrix, mean_iou
from segsweep.models.interface import MethodConfig
from segsweep.models.layers.transformer import DropPath
from segsweep.models.methods import METHODS

NUM_CLASSES = 5
SHAPES_SIZE = (96, 128)
STEPS = 300
OWN_CLASSES = ("policy-",)  # what predicts classes of its own, which its targets make of the labels
EVERY_DESIGN = pytest.mark.parametrize("name", list(SMALL_DESIGNS))
EVERY_SEGMENTER = pytest.mark.parametrize(
    "name", [name for name in SMALL_DESIGNS if not name.startswith(OWN_CLASSES)]
)


def _model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return SMALL_DESIGNS[name].build(NUM_CLASSES)


def _labels(size: tuple[int, int], batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, NUM_CLASSES, (batch, 1, 4, 4), generator=generator).float()
    labels = nn.functional.interpolate(blocks, size=size, mode="nearest").long()[:, 0]
    labels[:, :3] = 255
    return labels


def _loss(model: nn.Module, config: MethodConfig, images: Tensor, labels: Tensor) -> Tensor:
    terms = config.criterion(CrossEntropy())(model(images), labels)
    parts = [term.weight * term.loss.total / term.loss.count.clamp(min=1) for term in terms.values()]
    return torch.stack(parts).sum()


def test_every_method_has_a_small_design() -> None:
    assert set(METHODS) == METHODS_COVERED


@EVERY_SEGMENTER
def test_a_segmenter_has_the_classes_of_the_data_and_is_compared_with_the_labels(name: str) -> None:
    labels = _labels((64, 96))
    assert _model(name).num_classes == NUM_CLASSES
    assert torch.equal(SMALL_DESIGNS[name].targets(labels), labels)


@EVERY_DESIGN
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (520, 520)])
def test_logits_of_any_image_size_come_back_at_image_size(name: str, size: tuple[int, int]) -> None:
    model = _model(name).eval()
    with torch.inference_mode():
        output = model(torch.randn(1, 3, *size))
    assert output.semantic_logits(size).shape == (1, model.num_classes, *size)
    assert output.semantic_logits(size).isfinite().all()
    assert output.auxiliary_logits is None  # nothing that only teaches runs at inference


@EVERY_DESIGN
def test_every_trainable_parameter_gets_a_gradient(name: str) -> None:
    model = _model(name).train()
    images, labels = torch.randn(2, 3, 65, 97), _labels((65, 97))
    _nudge(model)
    _loss(model, SMALL_DESIGNS[name], images, labels).backward()
    without = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []


@EVERY_DESIGN
def test_bfloat16_autocast_trains(name: str) -> None:
    model = _model(name).train()
    images, labels = torch.randn(2, 3, 64, 96), _labels((64, 96))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = _loss(model, SMALL_DESIGNS[name], images, labels)
    loss.backward()
    assert math.isfinite(loss.item())


@EVERY_DESIGN
@pytest.mark.parametrize("training", [False, True])
def test_one_graph_compiles_to_the_same_logits(name: str, training: bool) -> None:
    torch._dynamo.reset()
    model = _model(name).eval()
    images = torch.randn(2, 3, 64, 96)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    if training:  # random parts (dropout, stochastic depth) make the values differ: one graph is the promise
        model.train()
        assert compiled(images).logits.isfinite().all()
        return
    with torch.no_grad():
        torch.testing.assert_close(compiled(images).logits, model(images).logits, atol=1e-4, rtol=1e-4)


@EVERY_DESIGN
def test_a_state_dict_carries_the_whole_model(name: str) -> None:
    model = _model(name).eval()
    torch.manual_seed(1)
    other = SMALL_DESIGNS[name].build(NUM_CLASSES).eval()
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(other(images).logits, model(images).logits, atol=0, rtol=0)


@EVERY_DESIGN
def test_cost_is_counted_without_weights(name: str) -> None:
    cost = exact_cost(SMALL_DESIGNS[name], num_classes=NUM_CLASSES, size=(64, 96))
    assert cost.macs > 0
    model = _model(name)
    teaching = tuple(f"{part}." for part in getattr(model, "training_only", ()))
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert cost.num_params == sum(v.numel() for key, v in trained.items() if not key.startswith(teaching))


@pytest.mark.parametrize("name", LEARNS)
def test_four_images_are_learnt_by_heart(name: str) -> None:
    images, labels = _shapes()
    model = _model(name).train()
    for module in model.modules():  # four images to know by heart need no regularisation
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        if isinstance(module, DropPath):
            module.rate = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    best = 0.0
    for step in range(STEPS):
        optimizer.zero_grad()
        _loss(model, SMALL_DESIGNS[name], images, labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            best = max(best, _miou(model, SMALL_DESIGNS[name], images, labels))
            if best > 0.95:
                return
    raise AssertionError(f"mIoU {best:.3f} after {STEPS} steps")


def _shapes() -> tuple[Tensor, Tensor]:
    """Four noisy images of coloured discs and rectangles anywhere, and their labels."""
    height, width = SHAPES_SIZE
    generator = np.random.default_rng(0)
    colours = generator.normal(size=(NUM_CLASSES, 3))
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((4, height, width), dtype=np.int64)
    for image in labels:
        for label in range(1, NUM_CLASSES):
            row, column = generator.integers(10, height - 10), generator.integers(10, width - 10)
            radius = generator.integers(18, 30)
            disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
            box = (abs(rows - row) < radius) & (abs(columns - column) < radius)
            image[disc if label % 2 else box] = label
    noise = generator.normal(scale=0.2, size=(4, height, width, 3))
    images = torch.from_numpy((colours[labels] + noise).transpose(0, 3, 1, 2)).float()
    return images, torch.from_numpy(labels)


def _miou(model: nn.Module, config: MethodConfig, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.inference_mode():
        predictions = model(images).semantic_logits(SHAPES_SIZE).argmax(1)
    model.train()
    truth = config.targets(labels)
    return mean_iou(confusion_matrix(predictions, truth, num_classes=model.num_classes))


def _nudge(model: nn.Module) -> None:
    """Leave initial zeros, which cut the gradients of what comes before them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
