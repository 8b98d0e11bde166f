"""What the ranks of one training tell each other besides gradients: decisions and random states."""

from __future__ import annotations

import hashlib

import torch
import torch.distributed as dist
from torch import Tensor

RandomState = dict[str, Tensor]  # "cpu" and, on a GPU, "cuda": bytes as uint8 (n,)


def agreed(value: int, *, world_size: int, device: torch.device) -> int:
    """The value of rank 0, on every rank."""
    if world_size == 1:
        return value
    told = torch.tensor([value], dtype=torch.int64, device=device)
    dist.broadcast(told, src=0)
    return int(told.item())


def random_states(*, world_size: int, device: torch.device) -> list[RandomState]:
    """State of torch's generators on every rank: what dropout and stochastic depth draw from.

    Augmentation needs none: each sample has a generator of its own (``segsweep.data.loader``).
    """
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    if world_size == 1:
        return [own]
    every: list[RandomState] = [{} for _ in range(world_size)]
    for name, state in own.items():
        parts = [torch.empty_like(state, device=device) for _ in range(world_size)]
        dist.all_gather(parts, state.to(device))
        for rank, part in enumerate(parts):
            every[rank][name] = part.cpu()
    return every


def restore_random_state(state: RandomState, *, device: torch.device) -> None:
    """Go on drawing where ``random_states`` was called; a state of another kind of device is left out."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def seed_rank(seed: int, rank: int, *, step: int = 0) -> None:
    """Seed torch's generators so that ranks, and restarts on another number of ranks, draw differently."""
    digest = hashlib.sha256(f"{seed} {rank} {step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "little"))
