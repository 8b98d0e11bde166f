"""Synchronised batch normalisation on the CPU against ``nn.BatchNorm2d`` on the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from segsweep.torchvision_compat import ensure_torchvision
from segsweep.training.batch_norm import SynchronizedBatchNorm2d, synchronise_batch_norm

ensure_torchvision()  # a spawned worker imports this file without conftest.py
from timm.layers import BatchNormAct2d  # noqa: E402

WORKERS = 2


def _images() -> torch.Tensor:
    return torch.randn(6, 5, 7, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1


def _network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(5, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3, momentum=0.3)
    )


def _run(network: nn.Module, images: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    images = images.clone().requires_grad_(True)
    (network(images) * weights).sum().backward()
    state = {f"state {name}": value for name, value in network.state_dict().items()}
    gradients = {f"gradient {name}": parameter.grad for name, parameter in network.named_parameters()}
    return {**state, **gradients, "gradient images": images.grad}


def _worker(rank: int, folder: str, images: torch.Tensor, weights: torch.Tensor) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORKERS)
    network = synchronise_batch_norm(_network())
    assert sum(isinstance(module, SynchronizedBatchNorm2d) for module in network.modules()) == 2
    shares = images.split([4, 2])[rank], weights.split([4, 2])[rank]  # uneven on purpose
    torch.save(_run(network, *shares), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    images = _images()
    weights = torch.randn(6, 3, 5, 1, generator=torch.Generator().manual_seed(2))
    mp.spawn(_worker, args=(str(folder), images, weights), nprocs=WORKERS)
    ranks = [torch.load(Path(folder) / f"rank{rank}.pt", weights_only=True) for rank in range(WORKERS)]
    return _run(_network(), images, weights), ranks


def test_running_moments_are_those_of_the_whole_batch(results) -> None:  # type: ignore[no-untyped-def]
    whole, ranks = results
    for name in (name for name in whole if name.startswith("state")):
        for rank in ranks:
            torch.testing.assert_close(rank[name], whole[name], rtol=1e-5, atol=1e-6)


def test_gradients_of_the_input_are_those_of_the_whole_batch(results) -> None:  # type: ignore[no-untyped-def]
    whole, ranks = results
    joined = torch.cat([rank["gradient images"] for rank in ranks])
    torch.testing.assert_close(joined, whole["gradient images"], rtol=1e-4, atol=1e-6)


def test_gradients_of_the_parameters_add_up_to_those_of_the_whole_batch(results) -> None:  # type: ignore[no-untyped-def]
    whole, ranks = results
    for name in (name for name in whole if name.startswith("gradient") and name != "gradient images"):
        torch.testing.assert_close(sum(rank[name] for rank in ranks), whole[name], rtol=1e-4, atol=1e-5)


def test_eval_mode_is_ordinary_batch_normalisation() -> None:
    network, images = _network().eval(), _images()
    expected = network(images)
    torch.testing.assert_close(synchronise_batch_norm(network)(images), expected, rtol=0, atol=0)
