"""Windows over images of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segsweep.models.interface import SegmentationOutput
from segsweep.training.sliding_window import sliding_window_logits, window_anchors


class CellMeans(nn.Module):
    """Half-size means minus the mean of the window: what a window sees changes what it says."""

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(nn.functional.avg_pool2d(images - images.mean((2, 3), keepdim=True), 2))


@pytest.mark.parametrize(
    ("pixels", "window", "stride", "expected"),
    [
        (10, 10, 10, [0]),
        (8, 10, 4, [0]),
        (20, 10, 10, [0, 10]),
        (21, 10, 10, [0, 10, 11]),
        (20, 8, 6, [0, 6, 12]),
        (683, 512, 512, [0, 171]),  # ADE20K, short side 512
        (2048, 768, 512, [0, 512, 1024, 1280]),  # Cityscapes
    ],
)
def test_windows_cover_the_axis(pixels: int, window: int, stride: int, expected: list[int]) -> None:
    anchors = window_anchors(pixels, window, stride)
    assert anchors == expected
    assert set(range(pixels)) == {p for first in anchors for p in range(first, min(first + window, pixels))}


@pytest.mark.parametrize("stride", [0, 11])
def test_gaps_between_windows_are_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=r"outside 1\.\.10"):
        window_anchors(20, 10, stride)


@pytest.mark.parametrize("size", [(12, 20), (13, 21), (6, 7)])
def test_each_pixel_is_the_mean_of_the_windows_that_see_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, *size)
    model, window, stride = CellMeans(), (8, 10), (5, 6)
    found = sliding_window_logits(model, images, window=window, stride=stride)
    values: dict[tuple[int, int], list[Tensor]] = {}
    for top in window_anchors(size[0], window[0], stride[0]):
        for left in window_anchors(size[1], window[1], stride[1]):
            part = images[..., top : top + window[0], left : left + window[1]]
            logits = model(part).semantic_logits((part.shape[-2], part.shape[-1]))
            for row in range(part.shape[-2]):
                for column in range(part.shape[-1]):
                    values.setdefault((top + row, left + column), []).append(logits[..., row, column])
    assert found.shape == (2, 3, *size)
    for (row, column), seen in values.items():
        torch.testing.assert_close(found[..., row, column], torch.stack(seen).mean(0))


def test_one_window_is_the_model_itself() -> None:
    images = torch.randn(1, 3, 16, 24)
    whole = CellMeans()(images).semantic_logits((16, 24))
    assert torch.equal(sliding_window_logits(CellMeans(), images, window=(16, 24), stride=(8, 8)), whole)
