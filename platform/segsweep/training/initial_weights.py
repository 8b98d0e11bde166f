"""Initial weights of a training: the file for a design, and what of it reaches the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from segsweep.errors import DataError
from segsweep.models.interface import MethodConfig
from segsweep.models.weights import (
    Part,
    WeightsReport,
    check_finite,
    load_weights,
    match_weights,
    read_weights,
)
from segsweep.training.checkpoint import load_checkpoint, save_checkpoint

BACKBONE = "{backbone.name}"  # in a path: the name of the design's backbone


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Where weights come from, for one design or for all of a space.

    Attributes:
        path: File; ``{backbone.name}`` in it stands for the name of the design's backbone.
        part: What of the model they may fill.
    """

    path: str
    part: Part = "all"

    def file(self, config: MethodConfig) -> Path:
        """The file for a design; raises ``DataError`` if it has no backbone by name."""
        if BACKBONE not in self.path:
            return Path(self.path)
        name = getattr(getattr(config, "backbone", None), "name", None)
        if not isinstance(name, str):
            raise DataError(
                f"weights {self.path}: a design of method {config.method!r} has no backbone.name to put "
                "there; write the name of the file out"
            )
        return Path(self.path.replace(BACKBONE, name))

    def load(self, model: nn.Module, config: MethodConfig) -> WeightsReport:
        """Fill a model of the design; raises ``DataError`` as ``load_weights``."""
        return load_weights(model, self.file(config), part=self.part)

    def fitting(self, config: MethodConfig, num_classes: int) -> tuple[WeightsReport, dict[str, Tensor]]:
        """What of the file fits the design, without allocating a model; raises as ``load_weights``."""
        weights = read_weights(self.file(config))
        with torch.device("meta"):
            model = config.build(num_classes)
        report, tensors = match_weights(model, weights, part=self.part)
        check_finite(weights.path, tensors)
        return report, tensors


def write_fitting(path: Path, tensors: dict[str, Tensor]) -> None:
    """Put fitting tensors where every worker of a training finds them."""
    save_checkpoint(path, {"weights": tensors})


def fill_from(path: Path, model: nn.Module) -> None:
    """Fill a model with what ``write_fitting`` wrote; the rest keeps its values."""
    tensors = load_checkpoint(path)["weights"]
    model.load_state_dict({**model.state_dict(), **tensors})
