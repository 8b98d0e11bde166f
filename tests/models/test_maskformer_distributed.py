"""MaskFormer on two processes: the same gradients and loss values as on one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_maskformer import tiny
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segsweep.losses.per_pixel import CrossEntropy
from segsweep.training.batch_norm import synchronise_batch_norm
from segsweep.training.objective import weigh

WORKERS = 2
CLASSES = 5
CONFIG = tiny(
    decoder={"channels": 16, "num_heads": 2, "hidden": 32, "layers": 2, "queries": 12, "dropout": 0}
)
CASES = ("objects", "one", "none")


def _batch(case: str) -> tuple[Tensor, Tensor]:
    """``objects``: ranks have unequal numbers of them. ``one``: a single object. ``none``: not any."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 64, 96, generator=generator)
    labels = torch.randint(0, CLASSES, (4, 64, 96), generator=generator)
    labels[0] = 1
    labels[1, :40] = 255
    if case != "objects":
        labels.fill_(255)
    if case == "one":
        labels[3, :30] = 2
    return images, labels


def _model() -> nn.Module:
    torch.manual_seed(1)
    return CONFIG.build(CLASSES)


def _step(model: nn.Module, batch: tuple[Tensor, Tensor], *, world_size: int) -> dict[str, Tensor]:
    replica = model if world_size == 1 else DistributedDataParallel(model, broadcast_buffers=False)
    images, labels = batch
    share, values = weigh(CONFIG.criterion(CrossEntropy())(replica(images), labels), world_size=world_size)
    share.backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]
    return gradients | {f"loss {name}": torch.tensor(value) for name, value in values.terms.items()}


def _worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORKERS)
    torch.set_num_threads(1)
    results = {}
    for case in CASES:
        share = tuple(part.chunk(WORKERS)[rank] for part in _batch(case))
        results[case] = _step(synchronise_batch_norm(_model()), share, world_size=WORKERS)  # type: ignore[arg-type]
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, args=(str(folder),), nprocs=WORKERS)
    return [torch.load(Path(folder) / f"rank{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("case", CASES)
def test_gradients_and_losses_are_those_of_one_process(
    ranks: list[dict[str, dict[str, Tensor]]], case: str
) -> None:
    expected = _step(_model(), _batch(case), world_size=1)
    for rank in ranks:
        for name, value in expected.items():
            torch.testing.assert_close(rank[case][name], value, rtol=2e-3, atol=2e-5, msg=name)
