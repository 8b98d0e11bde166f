"""Two processes share a split and both know the whole result."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from segsweep.data.sources.synthetic import SYNTHETIC, SyntheticOptions, SyntheticSource
from segsweep.evaluation.evaluate import evaluate_protocol
from segsweep.evaluation.protocols import EvaluationProtocol
from segsweep.evaluation.report import EvaluationReport
from segsweep.models.interface import SegmentationOutput

RANKS = 2
IMAGES = 3  # one for the first rank, two for the second


class Conv(nn.Module):
    """Half-size logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, SYNTHETIC.num_classes, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.conv(images))


def evaluated() -> EvaluationReport:
    source = SyntheticSource(SyntheticOptions(height=32, width=48, val=IMAGES))
    return evaluate_protocol(Conv(), source, EvaluationProtocol())


def test_two_ranks_count_what_one_counts(tmp_path: Path) -> None:
    mp.spawn(_evaluate_rank, args=(str(tmp_path),), nprocs=RANKS)
    alone = evaluated()
    for rank in range(RANKS):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert torch.equal(found["matrix"], alone.matrix)
        torch.testing.assert_close(found["segments"], alone.segments, rtol=0, atol=1e-12)
        assert found["images"] == [(image.row, image.key, image.miou) for image in alone.images]


def _evaluate_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    report = evaluated()
    state = {
        "matrix": report.matrix,
        "segments": report.segments,
        "images": [(image.row, image.key, image.miou) for image in report.images],
    }
    torch.save(state, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()
