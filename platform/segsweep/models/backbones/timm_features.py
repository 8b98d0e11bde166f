"""Any timm network as a backbone, without its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segsweep.errors import ImageSizeError
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
        self._channels_last = str(getattr(self.features, "output_fmt", "NCHW")).endswith("NHWC")
        self.channels: dict[int, int] = dict(zip(levels, self.features.feature_info.channels(), strict=True))

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Features of a batch of images.

        Returns:
            ``{l: (B, C_l, ceil(H / 2**l), ceil(W / 2**l))}``.

        Raises:
            ImageSizeError: If the network rounds another way, as those do that cut images into patches.
        """
        outputs = self.features(images)
        if self._channels_last:
            outputs = [features.permute(0, 3, 1, 2) for features in outputs]
        pyramid = dict(zip(self.channels, outputs, strict=True))
        _check_sizes(pyramid, (images.shape[-2], images.shape[-1]))
        return pyramid


def _check_sizes(pyramid: dict[int, Tensor], size: tuple[int, int]) -> None:
    for level, features in pyramid.items():
        if tuple(features.shape[-2:]) != tuple(-(-pixels // 2**level) for pixels in size):
            unit = 2 ** max(pyramid)
            height, width = (-(-pixels // unit) * unit for pixels in size)
            raise ImageSizeError(
                f"this backbone does not take images of {size[0]}x{size[1]} pixels: level {level} would lose "
                f"its border; use sizes divisible by {unit}, for example padded to {height}x{width}"
            )


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
