"""Cost of a config without weights, and speed of a model with them."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from segsweep.cost.counting import OperationCounts, count_inference_parameters, count_operations
from segsweep.models.interface import MethodConfig
from segsweep.records import CostReport


class SpeedConditions(BaseModel):
    """How speed is measured.

    Attributes:
        batch_size: Images a batch.
        warmup: Batches run before the clock starts.
        min_samples: Batches timed at least.
        min_seconds: Seconds of timed batches at least.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    batch_size: int = Field(default=1, ge=1)
    warmup: int = Field(default=3, ge=0)
    min_samples: int = Field(default=10, ge=1)
    min_seconds: float = Field(default=0.5, ge=0)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured speed.

    Attributes:
        images_per_second: Batch size over the median latency.
        latency_ms_p50: Median time of one batch in ms; p90 and p99 likewise.
        batch_size: Images a batch.
        samples: Timed batches.
    """

    images_per_second: float
    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    batch_size: int
    samples: int


def exact_cost(config: MethodConfig, *, num_classes: int, size: tuple[int, int]) -> CostReport:
    """Count parameters and MACs of a config without allocating a weight.

    Args:
        config: Any method's config.
        num_classes: Number of classes of the head.
        size: Height and width of the image in pixels.

    Raises:
        ImageSizeError: If the model cannot take images of this size.
    """
    num_params, operations = count_config(config, num_classes=num_classes, size=size)
    return CostReport(num_params=num_params, macs=operations.macs, size=size, num_classes=num_classes)


@functools.lru_cache(maxsize=1024)
def count_config(
    config: MethodConfig, *, num_classes: int, size: tuple[int, int]
) -> tuple[int, OperationCounts]:
    """Trainable parameters that inference needs, and operations of a config; arguments as ``exact_cost``."""
    with torch.device("meta"):
        model = config.build(num_classes)
    return count_inference_parameters(model), count_operations(model, size)


def measure_speed(model: nn.Module, *, size: tuple[int, int], conditions: SpeedConditions) -> Speed:
    """Time a model from normalised images to class maps of image size, on the device its weights are on.

    The timed region is forward, resizing of the logits to image size and argmax, in evaluation mode without
    autograd; on a GPU the clock stops when the GPU has finished.

    Args:
        model: Any method's model; its mode is restored.
        size: Height and width of the images in pixels.
        conditions: Batch size and number of samples.
    """
    device = next(model.parameters()).device
    images = torch.randn(conditions.batch_size, 3, *size, device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for _ in range(conditions.warmup):
                _predict(model, images)
            milliseconds = _time_batches(model, images, conditions)
    finally:
        model.train(was_training)
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    return Speed(
        images_per_second=conditions.batch_size / p50 * 1e3,
        latency_ms_p50=p50,
        latency_ms_p90=p90,
        latency_ms_p99=p99,
        batch_size=conditions.batch_size,
        samples=len(milliseconds),
    )


def _predict(model: nn.Module, images: Tensor) -> Tensor:
    size = (images.shape[-2], images.shape[-1])
    return model(images).semantic_logits(size).argmax(1)  # type: ignore[no-any-return]


def _time_batches(model: nn.Module, images: Tensor, conditions: SpeedConditions) -> list[float]:
    milliseconds: list[float] = []
    _finish(images.device)
    while len(milliseconds) < conditions.min_samples or sum(milliseconds) < conditions.min_seconds * 1e3:
        start = time.perf_counter_ns()
        _predict(model, images)
        _finish(images.device)
        milliseconds.append((time.perf_counter_ns() - start) / 1e6)
    return milliseconds


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
