"""CTS on two processes: replicas that stay equal around a frozen policy."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segsweep.losses.per_pixel import CrossEntropy
from segsweep.models.methods.cts import CTSConfig

WORKERS, STEPS, CLASSES = 2, 3, 3
CONFIG = CTSConfig.model_validate(
    {
        "backbone": {"name": "vit_nano"},
        "crop": (64, 96),
        "sharing": {"shared_superpatches": 2, "policy": "nano"},
    }
)


def _train(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORKERS)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: nn.Module = CONFIG.build(CLASSES).train()
    replica = DistributedDataParallel(model, broadcast_buffers=False)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    torch.manual_seed(rank)
    for _ in range(STEPS):
        optimizer.zero_grad()
        images, labels = torch.randn(2, 3, 64, 96), torch.randint(0, CLASSES, (2, 64, 96))
        terms = CONFIG.criterion(CrossEntropy())(replica(images), labels)
        sum(term.loss.total / term.loss.count for term in terms.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    torch.save(model.state_dict(), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_replicas_stay_equal_and_the_policy_as_it_was(tmp_path: Path) -> None:
    mp.spawn(_train, args=(str(tmp_path),), nprocs=WORKERS)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(WORKERS))
    torch.manual_seed(0)
    initial = CONFIG.build(CLASSES).state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert torch.equal(value, initial[name]) == name.startswith("encoder.policy."), name
