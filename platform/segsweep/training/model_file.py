"""A trained network in one file: weights and everything that is needed to build and use it again.

The file is a checkpoint (``training.checkpoint``): digested, and read without unpickling code. The network is
rebuilt from its config, so nothing but segsweep itself is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from segsweep.data.interface import DatasetInfo
from segsweep.errors import DataError
from segsweep.models.interface import MethodConfig
from segsweep.models.methods import METHODS
from segsweep.training.checkpoint import load_checkpoint, save_checkpoint

MODELS = "models"  # folder of a sweep with the networks of its front
SUFFIX = ".pt"


@dataclass(frozen=True, kw_only=True)
class TrialModel:
    """A trained network.

    Attributes:
        model: ``(B, 3, H, W) -> SegmentationOutput`` for normalised RGB; in evaluation mode after loading.
        config: What it was built from.
        info: Classes, palette and ignored label of the data that it was trained on.
        size: Height and width in pixels at which it was trained and validated.
        facts: More about it as JSON values: ``trial_id``, ``miou``, ``point``.
    """

    model: nn.Module
    config: MethodConfig
    info: DatasetInfo
    size: tuple[int, int]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """Key of ``METHODS``."""
        return self.config.method

    @property
    def num_classes(self) -> int:
        """Classes that it predicts: those of the data, but two for a policy network."""
        return int(self.model.num_classes)  # type: ignore[arg-type]


def model_path(folder: Path, trial_id: str) -> Path:
    """File of a trial's network in the folder of its sweep."""
    return folder / MODELS / f"{trial_id}{SUFFIX}"


def save_model(path: Path, trained: TrialModel) -> None:
    """Write a network's weights with what ``load_model`` needs; a reader sees the whole file or none.

    Raises:
        EnvironmentProblem: If it cannot be written, for example on a full disk.
    """
    info, weights = trained.info, trained.model.state_dict()
    save_checkpoint(
        path,
        {
            "method": trained.method,
            "config": trained.config.model_dump(mode="json"),
            "num_classes": info.num_classes,
            "size": list(trained.size),
            "data": info.name,
            "classes": list(info.class_names),
            "palette": [list(colour) for colour in info.palette],
            "ignore_index": info.ignore_index,
            "facts": dict(trained.facts),
            "weights": {name: value.detach().cpu().contiguous() for name, value in weights.items()},
        },
    )


def load_model(path: Path, *, device: torch.device | None = None) -> TrialModel:
    """Build the network of a file again and give it its weights.

    Args:
        path: A file of ``save_model``.
        device: Where to put it; by default the CPU.

    Raises:
        DataError: If the file is missing or damaged, or its config or weights fit no method of this version.
    """
    if not path.is_file():
        raise DataError(f"{path}: file is missing: no such network was kept")
    state = load_checkpoint(path)
    try:
        config = METHODS[state["method"]].model_validate(state["config"])
        info = DatasetInfo(
            name=state["data"],
            class_names=tuple(state["classes"]),
            palette=tuple((int(red), int(green), int(blue)) for red, green, blue in state["palette"]),
            ignore_index=state["ignore_index"],
        )
        model = config.build(state["num_classes"])
        model.load_state_dict(state["weights"])
        height, width = state["size"]
    except (KeyError, TypeError, ValueError, ValidationError, RuntimeError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise DataError(
            f"{path}: not a network that this version can build ({type(error).__name__}: {first}); load it "
            "with the version that trained it"
        ) from error
    model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return TrialModel(model=model, config=config, info=info, size=(height, width), facts=state["facts"])
