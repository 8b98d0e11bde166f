"""Class maps of images under a protocol: scales, mirror images and windows merged into one decision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.data.interface import Image, Labels
from segsweep.data.shard_parts import resize_image
from segsweep.data.transforms import normalise
from segsweep.errors import InvalidInput, Problem
from segsweep.evaluation.protocols import PREPARED, EvaluationProtocol, Resize
from segsweep.models.heads.mask_classification import MaskClassificationHead, MaskOutput
from segsweep.models.interface import SegmentationOutput
from segsweep.models.layers.resize import resize_bilinear
from segsweep.training.sliding_window import sliding_window_logits

Pixels = tuple[int, int]


def views(image: Image, protocol: EvaluationProtocol) -> tuple[Image, ...]:
    """What the network sees of an image: uint8 ``(H, W, 3)`` to one ``(3, h, w)`` for each scale."""
    own = (image.shape[0], image.shape[1])
    resize = Resize(size=own) if protocol.labels == PREPARED else protocol.resize
    sizes = [resize.apply(own, scale=scale, cap=protocol.scaled_long_side) for scale in protocol.scales]
    return tuple(np.ascontiguousarray(resize_image(image, size).transpose(2, 0, 1)) for size in sizes)


@torch.inference_mode()
def predict_classes(
    model: nn.Module, scaled: Sequence[Tensor], protocol: EvaluationProtocol, *, size: Pixels
) -> Tensor:
    """Decide the class of every pixel.

    Args:
        model: In evaluation mode; gives a ``SegmentationOutput`` for ``(B, 3, h, w)``.
        scaled: The same images at each scale of the protocol, normalised RGB ``(B, 3, h, w)``.
        protocol: How they are looked at and merged.
        size: Height and width of the result in pixels.

    Returns:
        ``(B, H, W)`` int64 class ids; K where a mask classifier's general inference predicts nothing.

    Raises:
        InvalidInput: If the protocol asks for general inference and the model has no masks.
    """
    if protocol.general_threshold is not None:
        return _general(model(scaled[0]), size, protocol.general_threshold)
    if protocol.passes == 1:
        return _class_maps(model, scaled[0], protocol, size=size).argmax(1)
    return _summed(model, scaled, protocol, size=size).argmax(1)


@torch.inference_mode()
def mean_probabilities(
    model: nn.Module, scaled: Sequence[Tensor], protocol: EvaluationProtocol, *, size: Pixels
) -> Tensor:
    """Probabilities of the classes, averaged over the protocol's views; arguments as ``predict_classes``.

    Returns:
        ``(B, K, H, W)`` float32. Of a mask classifier: its scores, which do not add up to 1.
    """
    return _summed(model, scaled, protocol, size=size) / protocol.passes


def _summed(
    model: nn.Module, scaled: Sequence[Tensor], protocol: EvaluationProtocol, *, size: Pixels
) -> Tensor:
    scores = gives_scores(model)
    total: Tensor | None = None
    for images in scaled:
        for mirrored in (False, True) if protocol.flip else (False,):
            maps = _class_maps(model, images.flip(-1) if mirrored else images, protocol, size=size)
            maps = (maps.flip(-1) if mirrored else maps).float()
            shares = maps if scores else maps.softmax(1)
            total = shares if total is None else total + shares
    assert total is not None  # a protocol has a scale
    return total


def predict_image(
    model: nn.Module, image: Image, protocol: EvaluationProtocol, *, device: torch.device
) -> Labels:
    """Class ids of one image at its own size: uint8 ``(H, W, 3)`` to ``(H, W)``, K for void."""
    scaled = [batch([view], device) for view in views(image, protocol)]
    classes = predict_classes(model, scaled, protocol, size=(image.shape[0], image.shape[1]))[0]
    return classes.to(torch.int32).cpu().numpy().astype(np.uint16)


def batch(images: Sequence[Image], device: torch.device) -> Tensor:
    """Normalised images on a device: uint8 ``(3, H, W)`` each to ``(B, 3, H, W)``."""
    return normalise(torch.from_numpy(np.stack(images))).to(device, memory_format=torch.channels_last)


def gives_scores(model: nn.Module) -> bool:
    """Whether class maps are sums of probabilities (mask classification), which are averaged as they are."""
    return any(isinstance(module, MaskClassificationHead) for module in model.modules())


def _class_maps(model: nn.Module, images: Tensor, protocol: EvaluationProtocol, *, size: Pixels) -> Tensor:
    """``(B, K, *size)`` of one view."""
    height, width = images.shape[-2:]
    padded = _padded(images, protocol.padded_to)
    if protocol.window is None:
        output = model(padded)
        if padded is images and not _is_plain(output):
            return output.semantic_logits(size)  # type: ignore[no-any-return]
        maps = output.semantic_logits((padded.shape[-2], padded.shape[-1]))
    else:
        window = protocol.window
        enlarged = resize_bilinear(padded, window.enlarged((padded.shape[-2], padded.shape[-1])))
        maps = sliding_window_logits(model, enlarged, window=window.size, stride=window.stride)
        maps = resize_bilinear(maps, (padded.shape[-2], padded.shape[-1])) if padded is not images else maps
    if padded is not images:
        maps = maps[..., :height, :width]
    return resize_bilinear(maps, size)


def _is_plain(output: SegmentationOutput) -> bool:
    """Plain logits go to the seen size and from there to the labels' (mmsegmentation, detectron2); other
    outputs know a way of their own to any size."""
    return type(output).semantic_logits is SegmentationOutput.semantic_logits


def _padded(images: Tensor, least: Pixels | None) -> Tensor:
    """Pad with the mean colour, which is 0, at the bottom and on the right."""
    if least is None:
        return images
    bottom, right = (max(0, side - have) for side, have in zip(least, images.shape[-2:], strict=True))
    return F.pad(images, (0, right, 0, bottom)) if bottom or right else images


def _general(output: SegmentationOutput, size: Pixels, threshold: float) -> Tensor:
    if not isinstance(output, MaskOutput):
        message = "the model classifies pixels and has no masks; leave general_threshold out"
        raise InvalidInput([Problem(where="general_threshold", message=message)])
    return output.general_prediction(size, threshold)
