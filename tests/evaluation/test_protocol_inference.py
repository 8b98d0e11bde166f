"""Merging of scales, mirror images and windows, written out with Pillow and torch alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from segsweep.data.interface import Image as Pixels
from segsweep.errors import InvalidInput
from segsweep.evaluation.inference import batch, gives_scores, predict_classes, predict_image, views
from segsweep.evaluation.protocols import EvaluationProtocol, Resize, SlidingWindow, read_protocol
from segsweep.models.heads.mask_classification import MaskOutput
from segsweep.models.interface import SegmentationOutput
from segsweep.models.methods.maskformer import MaskFormerConfig

CPU = torch.device("cpu")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet
CLASSES = 4
SMALL_MASKFORMER = {
    "backbone": {"name": "efficientnet_tiny"},
    "neck": {"channels": 32},
    "decoder": {"layers": 1, "queries": 6, "channels": 32, "num_heads": 4, "hidden": 32},
}


class Conv(nn.Module):
    """Half-size logits with a wide view: neither scale nor mirroring commute with it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, CLASSES, 5, stride=2, padding=2)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(3 * self.conv(images))


class Pointwise(nn.Module):
    """Logits of each pixel alone: mirroring commutes with it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, CLASSES, 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.conv(images))


def picture(height: int, width: int) -> Pixels:
    small = np.random.default_rng(0).integers(256, size=(6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def normalised(image: Pixels, size: tuple[int, int]) -> Tensor:
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = (np.asarray(resized, dtype=np.float32) - MEAN) / STD
    return torch.from_numpy(pixels).float().permute(2, 0, 1)[None]


def bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def predicted(model: nn.Module, image: Pixels, protocol: EvaluationProtocol) -> Tensor:
    return torch.from_numpy(predict_image(model.eval(), image, protocol, device=CPU).astype(np.int64))


def agreement(found: Tensor, expected: Tensor) -> float:
    return float((found == expected).float().mean())


@torch.no_grad()
def test_logits_go_to_the_seen_size_then_to_the_labels() -> None:
    model, image = Conv(), picture(48, 70)
    seen = normalised(image, (32, 47))  # short side 32: 70 * 32 / 48 = 46.67
    expected = bilinear(bilinear(model(seen).logits, (32, 47)), (48, 70)).argmax(1)[0]
    found = predicted(model, image, EvaluationProtocol(resize=Resize(short_side=32)))
    assert found.shape == (48, 70) and agreement(found, expected) > 0.999


@torch.no_grad()
def test_scales_and_mirror_images_are_averaged_as_probabilities_of_the_same_pixel() -> None:
    model, image, total = Conv(), picture(40, 56), torch.zeros(1, CLASSES, 40, 56)
    for size in ((20, 28), (40, 56), (60, 84)):
        seen = normalised(image, size)
        plain = bilinear(bilinear(model(seen).logits, size), (40, 56)).softmax(1)
        mirrored = bilinear(bilinear(model(seen.flip(-1)).logits, size), (40, 56)).softmax(1)
        total += plain + mirrored.flip(-1)
    found = predicted(model, image, EvaluationProtocol(scales=(0.5, 1, 1.5), flip=True))
    assert agreement(found, total.argmax(1)[0]) > 0.999


def test_mirror_image_is_turned_back() -> None:
    model, image = Pointwise(), picture(33, 47)
    once, twice = (predicted(model, image, EvaluationProtocol(flip=flip)) for flip in (False, True))
    assert agreement(once, twice) > 0.999 and len(once.unique()) > 1


def test_probabilities_and_not_logits_are_averaged() -> None:
    class Loud(nn.Module):
        """Weakly for class 0 as it is, strongly for class 1 in the mirror (its left is dark)."""

        def forward(self, images: Tensor) -> SegmentationOutput:
            dark = images[:, :1, :, :1].mean() < 0
            logits = torch.zeros(1, 3, *images.shape[-2:])
            logits[:, 0] = 0.0 if dark else 2.0
            logits[:, 1] = 3.0 if dark else 0.0
            logits[:, 2] = 2.9 if dark else -30.0
            return SegmentationOutput(logits)

    image = np.zeros((4, 8, 3), np.uint8)
    image[:, :4] = 255
    # by hand: class 0 2 against class 1 3 in logits; 0.88 + 0.02 against 0.12 + 0.51 in probabilities
    assert (predicted(Loud(), image, EvaluationProtocol(flip=True)) == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(40, 72), (24, 40)])
def test_segmenter_enlarges_cuts_windows_and_resizes_the_merged_logits(size: tuple[int, int]) -> None:
    model, image, side = Conv(), picture(*size), 32
    seen = normalised(image, size)
    if min(size) < side:
        seen = bilinear(seen, (32, 53))  # 40 * 32 / 24 = 53.33
    height, width = seen.shape[-2:]
    total, count = torch.zeros(1, CLASSES, height, width), torch.zeros(height, width)
    for top in sorted({*range(0, height - side, 24), height - side}):
        for left in sorted({*range(0, width - side, 24), width - side}):
            part = (..., slice(top, top + side), slice(left, left + side))
            total[part] += bilinear(model(seen[part]).logits, (side, side))
            count[part[1:]] += 1
    expected = bilinear(total / count, size).argmax(1)[0]
    window = SlidingWindow(size=(side, side), stride=(24, 24), variant="segmenter")
    assert agreement(predicted(model, image, EvaluationProtocol(window=window)), expected) > 0.999


@torch.no_grad()
def test_padding_is_seen_and_cut_off_again() -> None:
    model, image = Conv(), picture(30, 40)
    seen = torch.zeros(1, 3, 33, 49)
    seen[..., :30, :40] = normalised(image, (30, 40))
    expected = bilinear(model(seen).logits, (33, 49))[..., :30, :40].argmax(1)[0]
    assert agreement(predicted(model, image, EvaluationProtocol(padded_to=(33, 49))), expected) > 0.999
    smaller = predicted(model, image, EvaluationProtocol(padded_to=(16, 16)))
    assert torch.equal(smaller, predicted(model, image, EvaluationProtocol()))


@pytest.fixture(scope="module")
def maskformer() -> nn.Module:
    torch.manual_seed(0)
    model = MaskFormerConfig.model_validate(SMALL_MASKFORMER).build(CLASSES).eval()
    nn.init.constant_(model.get_submodule("head.classifier").bias[-1:], -3.0)  # hardly ever "no object"
    return model


@torch.no_grad()
def test_class_maps_of_masks_are_averaged_as_they_are(maskformer: nn.Module) -> None:
    image, total = picture(64, 96), torch.zeros(1, CLASSES, 64, 96)
    for size in ((64, 96), (96, 144)):
        seen = normalised(image, size)
        total += maskformer(seen).semantic_logits((64, 96))
        total += maskformer(seen.flip(-1)).semantic_logits((64, 96)).flip(-1)
    assert gives_scores(maskformer) and not gives_scores(Conv())
    found = predicted(maskformer, image, EvaluationProtocol(scales=(1, 1.5), flip=True))
    assert agreement(found, total.argmax(1)[0]) > 0.999


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.0, 0.999])
def test_general_inference_predicts_void_where_no_query_is_sure(
    maskformer: nn.Module, threshold: float
) -> None:
    image = picture(64, 96)
    output = maskformer(normalised(image, (64, 96)))
    assert isinstance(output, MaskOutput)
    found = predicted(maskformer, image, EvaluationProtocol(general_threshold=threshold))
    assert agreement(found, output.general_prediction((64, 96), threshold)[0]) > 0.999
    assert bool((found == CLASSES).all()) == (threshold > 0.9)


def test_general_inference_of_a_pixel_classifier_is_refused() -> None:
    with pytest.raises(InvalidInput, match="classifies pixels and has no masks"):
        predicted(Conv(), picture(8, 8), EvaluationProtocol(general_threshold=0.3))


@pytest.mark.parametrize("make", [Conv, Pointwise])
def test_images_of_a_batch_do_not_meet(make: Callable[[], nn.Module]) -> None:
    model, images = make().eval(), [picture(24, 32), picture(24, 32)[::-1].copy()]
    protocol = read_protocol({"scales": [1, 0.5], "flip": True}, where="test")
    scaled = [batch(list(both), CPU) for both in zip(*(views(i, protocol) for i in images), strict=True)]
    together = predict_classes(model, scaled, protocol, size=(24, 32))
    alone = torch.stack([predicted(model, image, protocol) for image in images])
    assert agreement(together, alone) > 0.999
