"""How the predictions of several learners become one (Bousselham et al. 2021, SenFormer, Sec. 3.4).

Every rule takes the learners' logits at the sizes of their levels, enlarges them one at a time to the grid of
the finest level and works on probabilities over the classes, ``(B, K, h, w)``, float32 or wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from segsweep.models.layers.conv_module import conv_bn_relu
from segsweep.models.layers.resize import resize_bilinear

PlainRule = Literal["average", "product", "vote"]
GatedRule = Literal["hierarchical", "explicit"]

GATE_CHANNELS = 256  # the attention heads of Tao et al. 2020 (hierarchical multi-scale attention)


class LevelLogits(NamedTuple):
    """What one learner says.

    Attributes:
        level: Level that it reads.
        logits: ``(B, K, h_l, w_l)``.
    """

    level: int
    logits: Tensor


def on_grid(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits enlarged to the grid of the finest level, in float32 or wider and in channels-last layout."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return resize_bilinear(wide.contiguous(memory_format=torch.channels_last), size)


def probabilities(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Class probabilities on the grid of the finest level."""
    return _softmax(on_grid(logits, size))


def _softmax(logits: Tensor) -> Tensor:
    # On a channels-last tensor this view is contiguous: a sixth of the time of softmax(1), and no copies.
    return logits.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.permute(0, 2, 3, 1).log_softmax(-1).permute(0, 3, 1, 2)


class PlainMerge(nn.Module):
    """Merging without parameters.

    ``average`` is the mean of the probabilities. ``product`` is their product, normalised. ``vote`` gives a
    class the probabilities of those learners whose first choice it is, over the number of all learners; these
    do not add up to 1.

    Args:
        rule: The rule.
    """

    def __init__(self, rule: PlainRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, predictions: Sequence[LevelLogits], size: tuple[int, int]) -> Tensor:
        """``M x (B, K, h_l, w_l) -> (B, K, *size)``."""
        merge = {"average": _average, "product": _product, "vote": _vote}[self.rule]
        return merge([prediction.logits for prediction in predictions], size)


def _average(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    share = 1 / len(logits)
    total = (
        probabilities(logits[0], size) * share
    )  # a new tensor: softmax keeps its own for the backward pass
    for others in logits[1:]:
        total.add_(probabilities(others, size), alpha=share)
    return total


def _product(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    total = _log_softmax(on_grid(logits[0], size))
    for others in logits[1:]:
        total = total + _log_softmax(on_grid(others, size))
    return _softmax(total)


def _vote(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    batch_size, num_classes = logits[0].shape[:2]
    dtype = torch.promote_types(logits[0].dtype, torch.float32)
    total = torch.zeros(batch_size, *size, num_classes, dtype=dtype, device=logits[0].device)
    for one in logits:
        chance, winner = _first_choice(one, size)
        total.scatter_add_(-1, winner, chance / len(logits))
    return total.permute(0, 3, 1, 2)


def _first_choice(logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Probability and number of the likeliest class, ``(B, h, w, 1)`` each."""
    chance, winner = probabilities(logits, size).permute(0, 2, 3, 1).max(-1, keepdim=True)
    return chance, winner


class GatedMerge(nn.Module):
    """Merging by learnt weights for each pixel, from gates that see a learner's logits at its own size.

    ``hierarchical``: from fine to coarse, the gate of the coarser level decides for each pixel how much of it
    replaces what has been merged so far (Tao et al. 2020). ``explicit``: a mean weighted by one gate a level.

    Args:
        rule: The rule.
        levels: Levels of the learners, one learner each.
        num_classes: Number of classes.
        channels: Width inside a gate.
    """

    def __init__(
        self, rule: GatedRule, levels: Sequence[int], *, num_classes: int, channels: int = GATE_CHANNELS
    ) -> None:
        super().__init__()
        self.rule = rule
        gated = sorted(levels)[1:] if rule == "hierarchical" else sorted(levels)
        self.gates = nn.ModuleDict({str(level): _gate(num_classes, channels) for level in gated})

    def forward(self, predictions: Sequence[LevelLogits], size: tuple[int, int]) -> Tensor:
        """``M x (B, K, h_l, w_l) -> (B, K, *size)``; predictions from fine to coarse."""
        finest = probabilities(predictions[0].logits, size)
        if len(predictions) == 1:
            return finest  # no gate can choose
        if self.rule == "hierarchical":
            return self._hierarchical(finest, predictions[1:], size)
        return self._explicit(finest, predictions, size)

    def _hierarchical(self, merged: Tensor, coarser: Sequence[LevelLogits], size: tuple[int, int]) -> Tensor:
        for prediction in coarser:
            gate = self._gate(prediction, size)
            merged = torch.lerp(merged, probabilities(prediction.logits, size), gate)
        return merged

    def _explicit(self, finest: Tensor, predictions: Sequence[LevelLogits], size: tuple[int, int]) -> Tensor:
        weights = self._gate(predictions[0], size)
        total = finest * weights
        for prediction in predictions[1:]:
            gate = self._gate(prediction, size)
            weights = weights + gate
            total = torch.addcmul(total, probabilities(prediction.logits, size), gate)
        return total / weights.clamp_min(torch.finfo(weights.dtype).tiny)

    def _gate(self, prediction: LevelLogits, size: tuple[int, int]) -> Tensor:
        return on_grid(self.gates[str(prediction.level)](prediction.logits), size)


def _gate(num_classes: int, channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU, a 1x1 convolution without bias, sigmoid."""
    return nn.Sequential(
        *conv_bn_relu(num_classes, channels, 3),
        *conv_bn_relu(channels, channels, 3),
        nn.Conv2d(channels, 1, 1, bias=False),
        nn.Sigmoid(),
    )
