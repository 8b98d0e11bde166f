"""What MLflow calls to load a registered network: ``mlflow.pyfunc.load_model("models:/name@alias")``.

The model's ``MLmodel`` file names this module, so that nothing is unpickled: the network is built from its
config by segsweep and given weights that are read as tensors only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep.data.transforms import normalise
from segsweep.errors import InvalidInput, Problem
from segsweep.training.model_file import TrialModel, load_model


class RegisteredNetwork:
    """A network as a Python function of RGB pixels.

    Attributes:
        trained: Network, config, classes and size; ``trained.model`` is the torch module.
    """

    def __init__(self, trained: TrialModel) -> None:
        self.trained = trained

    def predict(self, images: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Class scores of a batch of pictures.

        Args:
            images: RGB pixels in 0..255, uint8 ``(B, H, W, 3)`` at the size of the signature.
            params: Not used.

        Returns:
            Logits at image size, float32 ``(B, K, H, W)``; the class map is their ``argmax(1)``.

        Raises:
            InvalidInput: If the images are of another type, shape or size.
        """
        return logits_of(self.trained, np.asarray(images))


def logits_of(trained: TrialModel, images: NDArray[Any]) -> NDArray[np.float32]:
    """As ``RegisteredNetwork.predict``, of any loaded network."""
    _check(images, trained.size)
    device = next(trained.model.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        batch = normalise(pixels).to(device, memory_format=torch.channels_last)
        logits = trained.model(batch).semantic_logits(trained.size)
    return np.ascontiguousarray(logits.float().cpu().numpy())


def _check(images: NDArray[Any], size: tuple[int, int]) -> None:
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == (*size, 3):
        return
    message = (
        f"found {images.dtype} {images.shape}, allowed is uint8 (batch, {size[0]}, {size[1]}, 3), RGB in "
        f"0..255; resize the pictures to {size[0]}x{size[1]}"
    )
    raise InvalidInput([Problem(where="images", message=message)])


def _load_pyfunc(path: str) -> RegisteredNetwork:
    """MLflow's name for the function that opens a model's data: the file of the network."""
    return RegisteredNetwork(load_model(Path(path)))
