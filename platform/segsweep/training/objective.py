"""From the named terms of a step to the one number that is minimised, over all ranks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from segsweep.losses.per_pixel import LossTerm


@dataclass(frozen=True, kw_only=True)
class LossValues:
    """What a loss came to over all ranks.

    Attributes:
        value: The training loss.
        terms: Each of its terms without the weight.
    """

    value: float
    terms: dict[str, float]


def weigh(terms: Mapping[str, LossTerm], *, world_size: int) -> tuple[Tensor, LossValues]:
    """Weighted sum of the terms, each a mean over the pixels that count for it on all ranks.

    Args:
        terms: Those of this rank; every rank has the same in the same order.
        world_size: Number of ranks; their gradients will be averaged.

    Returns:
        What this rank differentiates, and the values over all ranks.
    """
    sums = torch.stack(
        [torch.stack([term.loss.total.detach().float(), term.loss.count.float()]) for term in terms.values()]
    )
    if world_size > 1:
        dist.all_reduce(sums)
    totals, counts = sums.T.tolist()
    means = {name: total / max(count, 1.0) for name, total, count in zip(terms, totals, counts, strict=True)}
    shares = [
        term.loss.total * (term.weight * world_size / max(count, 1.0))
        for term, count in zip(terms.values(), counts, strict=True)
    ]
    value = math.fsum(term.weight * means[name] for name, term in terms.items())
    return torch.stack(shares).sum(), LossValues(value=value, terms=means)


def mean_values(losses: Sequence[LossValues]) -> LossValues:
    """Mean of some losses; of a term, over those that have it."""
    by_name: defaultdict[str, list[float]] = defaultdict(list)
    for loss in losses:
        for name, value in loss.terms.items():
            by_name[name].append(value)
    return LossValues(
        value=math.fsum(loss.value for loss in losses) / len(losses),
        terms={name: math.fsum(values) / len(values) for name, values in by_name.items()},
    )
