"""HFGD on two processes: the same gradients as on one, and the same parts left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segsweep.losses.per_pixel import CrossEntropy, LossTerm
from segsweep.models.methods.hfgd import HFGDConfig
from segsweep.training.batch_norm import synchronise_batch_norm

WORKERS = 2
CONFIG = HFGDConfig.model_validate(
    {
        "backbone": {"name": "efficientnet_tiny"},
        "context": {"wide_channels": 32, "width": 16},
        "upsampler": {"channels": 16},
        "guidance": {"attention_channels": 16, "attention_heads": 2},
    }
)
STUDENT = ("upsampler.", "guidance.attention.")


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 64, 96, generator=generator)
    labels = torch.randint(0, 3, (4, 64, 96), generator=generator)
    labels[0, :40] = 255  # ranks have unequal numbers of labelled pixels
    return images, labels


def _model() -> nn.Module:
    torch.manual_seed(1)
    return CONFIG.build(3)


def _loss(terms: dict[str, LossTerm], world_size: int) -> Tensor:
    """As the training loop: totals over the counts of all ranks, times the ranks DDP will average over."""
    shares = []
    for term in terms.values():
        count = term.loss.count.float()
        if world_size > 1:
            dist.all_reduce(count)
        shares.append(term.weight * world_size * term.loss.total / count)
    return torch.stack(shares).sum()


def _gradients(
    model: nn.Module, batch: tuple[Tensor, Tensor], *, world_size: int, student_only: bool = False
) -> dict[str, Tensor]:
    replica = model if world_size == 1 else DistributedDataParallel(model, broadcast_buffers=False)
    images, labels = batch
    terms = CONFIG.criterion(CrossEntropy())(replica(images), labels)
    if student_only:  # nought times the others, since DDP waits for a gradient of every parameter
        terms = {name: term._replace(weight=float(name == "segmentation")) for name, term in terms.items()}
    _loss(terms, world_size).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]


def _worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORKERS)
    torch.set_num_threads(1)
    share = tuple(part.chunk(WORKERS)[rank] for part in _batch())
    gradients = {
        name: _gradients(
            synchronise_batch_norm(_model()), share, world_size=WORKERS, student_only=name == "student"
        )
        for name in ("all", "student")
    }
    torch.save(gradients, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, args=(str(folder),), nprocs=WORKERS)
    return [torch.load(Path(folder) / f"rank{rank}.pt", weights_only=True) for rank in range(WORKERS)]


def test_gradients_are_those_of_one_process(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    expected = _gradients(_model(), _batch(), world_size=1)
    for rank in ranks:
        for name, gradient in expected.items():
            torch.testing.assert_close(rank["all"][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_student_loss_leaves_the_teachers_parts_alone_on_every_rank(
    ranks: list[dict[str, dict[str, Tensor]]],
) -> None:
    for rank in ranks:
        for name, gradient in rank["student"].items():
            assert name.startswith(STUDENT) or not gradient.any(), name
