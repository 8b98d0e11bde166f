"""Any timm network as a backbone, without its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402  (imports torchvision)


class TimmFeatures(nn.Module):
    """The feature pyramid that timm offers for one of its networks, with random weights.

    Args:
        name: A timm model that supports ``features_only``.
        levels: Levels to give.

    Attributes:
        channels: Width of each level of the output.

    Raises:
        ValueError: If timm does not know the network or it lacks one of the levels.
    """

    def __init__(self, name: str, *, levels: tuple[int, ...]) -> None:
        super().__init__()
        reductions = _reductions(name)
        missing = [level for level in levels if 2**level not in reductions]
        if missing:
            raise ValueError(
                f"backbone {name!r} has no level {missing}; it has strides {reductions}: choose other levels "
                "(neck.bottom_level, neck.top_level) or another backbone"
            )
        indices = tuple(reductions.index(2**level) for level in levels)
        self.features = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
        self.channels = dict(zip(levels, self.features.feature_info.channels(), strict=True))

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """``(B, 3, H, W) -> {l: (B, C_l, ceil(H / 2**l), ceil(W / 2**l))}``."""
        return dict(zip(self.channels, self.features(images), strict=True))


def _reductions(name: str) -> list[int]:
    if not timm.is_model(name):
        raise ValueError(
            f"backbone.name={name!r} is neither one of segsweep's own backbones nor a timm network; "
            "timm.list_models() lists those"
        )
    with torch.device("meta"):
        try:
            probe = timm.create_model(name, pretrained=False, features_only=True)
        except RuntimeError as error:
            raise ValueError(f"backbone.name={name!r}: timm offers no feature pyramid: {error}") from error
    return list(probe.feature_info.reduction())
