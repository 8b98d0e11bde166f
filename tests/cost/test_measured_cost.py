"""Cost reports, speed and the device card."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from segsweep.cost.device_card import DeviceCard, device_card
from segsweep.cost.measure import SpeedConditions, exact_cost, measure_speed
from segsweep.errors import ImageSizeError
from segsweep.models.interface import SegmentationOutput
from segsweep.models.methods.eseg import PRESETS

QUICK = SpeedConditions(batch_size=2, warmup=1, min_samples=12, min_seconds=0.0)


class _Sleeper(nn.Module):
    """Takes a known time, more for every third batch."""

    def __init__(self, milliseconds: float, slow_milliseconds: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.times = (milliseconds, milliseconds, slow_milliseconds)
        self.calls: list[tuple[torch.Size, bool, bool]] = []

    def forward(self, images: Tensor) -> SegmentationOutput:
        time.sleep(self.times[len(self.calls) % 3] / 1e3)
        self.calls.append((images.shape, self.training, torch.is_grad_enabled()))
        return SegmentationOutput(self.scale * images[..., ::4, ::4])


def test_exact_cost_of_eseg_s() -> None:
    report = exact_cost(PRESETS["eseg-s"], num_classes=19, size=(1024, 2048))
    assert (report.num_params, report.num_classes, report.size) == (6_866_691, 19, (1024, 2048))
    assert report.flops == 2 * report.macs
    assert report.images_per_second is None


def test_exact_cost_of_an_image_that_is_too_small_says_so() -> None:
    with pytest.raises(ImageSizeError, match="level 9"):
        exact_cost(PRESETS["eseg-s"], num_classes=19, size=(128, 128))


def test_speed_is_that_of_the_model() -> None:
    model = _Sleeper(4.0, 12.0)
    speed = measure_speed(model, size=(16, 24), conditions=QUICK)
    assert 4.0 <= speed.latency_ms_p50 < 12.0 <= speed.latency_ms_p90 <= speed.latency_ms_p99
    assert speed.images_per_second == pytest.approx(2 / speed.latency_ms_p50 * 1e3)
    assert (speed.batch_size, speed.samples) == (2, 12)


def test_speed_runs_whole_batches_in_evaluation_mode_without_autograd() -> None:
    model = _Sleeper(0.0, 0.0)
    measure_speed(model, size=(16, 24), conditions=QUICK)
    assert set(model.calls) == {(torch.Size((2, 3, 16, 24)), False, False)}
    assert len(model.calls) == QUICK.warmup + QUICK.min_samples
    assert model.training


def test_speed_samples_until_the_time_is_up() -> None:
    conditions = SpeedConditions(warmup=0, min_samples=1, min_seconds=0.1)
    speed = measure_speed(_Sleeper(5.0, 5.0), size=(8, 8), conditions=conditions)
    assert 5 <= speed.samples <= 20


@pytest.mark.parametrize("values", [{"batch_size": 0}, {"min_samples": 0}, {"threads": 2}])
def test_bad_speed_conditions_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SpeedConditions.model_validate(values)


def test_card_describes_the_machine_and_not_the_threads_of_the_moment() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        card = device_card()
    finally:
        torch.set_num_threads(before)
    assert card == device_card()
    assert card.torch == torch.__version__
    assert card.cpu
    assert card.cores >= 1


def test_card_id_depends_on_every_field_and_nothing_else() -> None:
    card = DeviceCard(cpu="A", cores=2, gpus=("H200",), torch="2.13.0", cuda="13.0", cudnn="9")
    others = (
        dataclasses.replace(card, cpu="B"),
        dataclasses.replace(card, cores=3),
        dataclasses.replace(card, gpus=()),
        dataclasses.replace(card, torch="2.12.0"),
        dataclasses.replace(card, cuda=""),
        dataclasses.replace(card, cudnn=""),
    )
    assert len({card.id, *(other.id for other in others)}) == len(others) + 1
    assert dataclasses.replace(card).id == card.id
