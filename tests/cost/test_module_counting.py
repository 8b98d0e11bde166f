"""mmcv's convention on layers that can be counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segsweep.cost.counting import count_inference_parameters
from segsweep.cost.module_counting import count_module_macs

IMAGE = torch.empty(1, 4, 6, 10, device="meta")
TOKENS = torch.empty(1, 60, 4, device="meta")


@pytest.mark.parametrize(
    ("layer", "features", "expected"),
    [
        (nn.Conv2d(4, 8, 3, padding=1, bias=False), IMAGE, 60 * 8 * 4 * 9),
        (nn.Conv2d(4, 8, 1), IMAGE, 60 * 8 * (4 + 1)),  # a bias is one operation for each output
        (nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4, bias=False), IMAGE, 3 * 5 * 4 * 9),
        (nn.Linear(4, 7), TOKENS, 60 * 4 * 7),  # its bias is free
        (nn.LayerNorm(4), TOKENS, 2 * 240),
        (nn.ReLU(), IMAGE, 240),
        (nn.MaxPool2d(2), IMAGE, 240),
        (nn.BatchNorm2d(4), IMAGE, 0),
        (nn.GELU(), TOKENS, 0),
        (nn.Sequential(nn.ReLU(), nn.ReLU()), IMAGE, 480),
    ],
)  # fmt: skip
def test_layers_count_what_mmcv_counts(layer: nn.Module, features: torch.Tensor, expected: int) -> None:
    layer = layer.to("meta").eval()
    assert count_module_macs(layer, lambda: layer(features)) == expected


def test_a_layer_that_runs_twice_counts_twice_and_one_that_does_not_run_never() -> None:
    layer, idle = nn.Linear(4, 4).to("meta"), nn.Linear(4, 4).to("meta")
    model = nn.ModuleList([layer, layer, idle])
    assert count_module_macs(model, lambda: layer(layer(TOKENS))) == 2 * 60 * 16


def test_submodules_that_only_teach_are_left_out_of_the_parameters_of_inference() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 2), "auxiliary": nn.Linear(5, 5)})
    model.training_only = ("auxiliary",)  # type: ignore[assignment]
    assert count_inference_parameters(model) == 3 * 2 + 2
