"""Operation counts against closed forms and torch's own counter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segsweep.cost.counting import count_elementwise, count_macs, count_operations, count_parameters
from segsweep.models.methods.eseg import PRESETS, ESegConfig

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "eseg.json").read_text())
SIZE = (32, 48)


def on_meta(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).to("meta")


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 3 * 9 * 8 * 32 * 48),
        (nn.Conv2d(3, 8, 3, padding=1, stride=2), 3 * 9 * 8 * 16 * 24),
        (nn.Conv2d(3, 6, 5, padding=2, groups=3), 25 * 6 * 32 * 48),
        (nn.Conv2d(3, 7, 1), 3 * 7 * 32 * 48),
        (nn.Conv2d(3, 4, 3, padding=2, dilation=2), 3 * 9 * 4 * 32 * 48),
        (nn.ConvTranspose2d(3, 4, 2, stride=2), 3 * 4 * 4 * 32 * 48),
        (nn.Linear(48, 5), 3 * 32 * 48 * 5),
        (nn.BatchNorm2d(3), 0),
        (nn.ReLU(), 0),
    ],
)
def test_macs_of_one_layer_are_its_closed_form(layer: nn.Module, macs: int) -> None:
    assert count_macs(on_meta(layer), SIZE) == macs


@pytest.mark.parametrize(
    ("layer", "operations"),
    [
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), 0),
        (nn.Conv2d(3, 8, 3, padding=1), 8 * 32 * 48),
        (nn.SiLU(), 3 * 32 * 48),
        (nn.ReLU(), 0),
        (nn.Sigmoid(), 0),
        (nn.BatchNorm2d(3), 0),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 0),
        (nn.MaxPool2d(3, 2, 1), 9 * 3 * 16 * 24),
        (nn.AvgPool2d(2), 4 * 3 * 16 * 24),
    ],
)
def test_elementwise_operations_of_one_layer(layer: nn.Module, operations: int) -> None:
    assert count_elementwise(on_meta(layer), SIZE) == operations


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.embed = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens, need_weights=True)[0] * 0.5 + 1
        return mixed @ tokens.transpose(1, 2) / tokens.mean((1, 2), keepdim=True)


@pytest.mark.parametrize("name", ["attention", "eseg-s", "eseg-lite-s", "eseg-s-fpn-p5", "eseg-s-resnet50"])
def test_macs_are_those_of_torchs_own_counter(name: str) -> None:
    with torch.device("meta"):
        model = (_Attention() if name == "attention" else PRESETS[name].build(num_classes=7)).eval()
        with FlopCounterMode(display=False) as oracle, torch.no_grad():
            model(torch.empty(1, 3, 288, 320))
    assert count_macs(model, (288, 320)) == oracle.get_total_flops() // 2


@pytest.mark.parametrize("preset", GOLDEN["giga_macs_1024x2048"])
def test_macs_of_the_presets(preset: str) -> None:
    with torch.device("meta"):
        model = PRESETS[preset].build(num_classes=19)
    expected = GOLDEN["giga_macs_1024x2048"][preset]
    assert count_macs(model, (1024, 2048)) / 1e9 == pytest.approx(expected, abs=0.006)


def test_macs_and_parameters_grow_with_the_top_level() -> None:
    macs, params = [], []
    for top_level in range(5, 10):
        with torch.device("meta"):
            model = ESegConfig.model_validate({"neck": {"top_level": top_level}}).build(num_classes=19)
        macs.append(count_macs(model, (1024, 2048)))
        params.append(count_parameters(model))
    assert macs == sorted(set(macs))
    assert params == sorted(set(params))
    assert (macs[-1] - macs[0]) / 1e9 == pytest.approx(0.16, abs=0.01)  # ESeg, Table 1: 34.3 -> 34.5 B
    assert (params[-1] - params[0]) / 1e6 == pytest.approx(0.456, abs=0.001)


def test_macs_quadruple_when_both_sides_double() -> None:
    with torch.device("meta"):
        model = PRESETS["eseg-lite-s"].build(num_classes=19)
    small, large = count_macs(model, (512, 512)), count_macs(model, (1024, 1024))
    assert large == pytest.approx(4 * small, rel=1e-3)  # P9 and squeeze-free: all but one-pixel levels scale


def test_counting_leaves_the_mode_of_the_model() -> None:
    model = on_meta(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    count_operations(model, SIZE)
    assert model.training


def test_frozen_parameters_do_not_count() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert count_parameters(model) == 3 * 4 + 4 + 8
    model[0].weight.requires_grad_(False)
    assert count_parameters(model) == 4 + 8


def test_counting_an_eseg_imports_neither_timm_nor_dynamo() -> None:
    program = (
        "import sys\n"
        "from segsweep.cost.measure import exact_cost\n"
        "from segsweep.models.methods.eseg import PRESETS\n"
        "exact_cost(PRESETS['eseg-l'], num_classes=19, size=(1024, 2048))\n"
        "print(sorted({'timm', 'torchvision', 'torch._dynamo'} & set(sys.modules)))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
