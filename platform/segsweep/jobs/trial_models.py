"""The networks that a sweep kept: those of its front."""

from __future__ import annotations

from pathlib import Path

import torch

from segsweep.errors import DataError
from segsweep.training.model_file import MODELS, SUFFIX, TrialModel, load_model, model_path

__all__ = ["TrialModel", "kept_models", "load_trial_model"]


def load_trial_model(folder: Path, trial_id: str, *, device: torch.device | None = None) -> TrialModel:
    """The network of a trial with the weights that gave its mIoU, in evaluation mode.

    Args:
        folder: The sweep's folder (``FinishedSweep.folder``).
        trial_id: A complete trial on the sweep's front.
        device: Where to put it; by default the CPU.

    Raises:
        DataError: If it was not kept, or its file is damaged; says which were kept.
    """
    path = model_path(folder, trial_id)
    if not path.is_file():
        kept = ", ".join(kept_models(folder)) or "none"
        raise DataError(
            f"{path}: the weights of this trial were not kept (kept: {kept}). A sweep keeps those of its "
            "front, unless sweep.keep_models is none; train the point with `segsweep train` for others"
        )
    return load_model(path, device=device)


def kept_models(folder: Path) -> tuple[str, ...]:
    """Ids of the trials whose networks a sweep has kept, in order."""
    return tuple(sorted(path.stem for path in (folder / MODELS).glob(f"*{SUFFIX}") if path.name[0] != "."))
