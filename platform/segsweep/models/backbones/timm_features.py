"""Any timm network as a backbone, without its weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.errors import ImageSizeError
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402  (imports torchvision)

FULL_STRIDE = 32
_PADDED_FAMILIES = ("convnext",)  # cut images into patches, but take any multiple of their stride


class TimmFeatures(nn.Module):
    """The feature pyramid that timm offers for one of its networks, with random weights.

    Args:
        name: A timm model that supports ``features_only``.
        levels: Levels to give; a level is a stage of the network, whatever its stride.
        output_stride: Stride that the network ends at, with dilation instead of further strides.

    Attributes:
        name: The network's name.
        channels: Width of each level of the output.
        strides: True stride of each level.

    Raises:
        ValueError: If timm does not know the network, it lacks one of the levels or cannot be dilated.
    """

    def __init__(self, name: str, *, levels: tuple[int, ...], output_stride: int = FULL_STRIDE) -> None:
        super().__init__()
        self.name = name
        reductions = _reductions(name)
        missing = [level for level in levels if 2**level not in reductions]
        if missing:
            raise ValueError(
                f"backbone {name!r} has no level {missing}; it has strides {reductions}: choose other levels "
                "(neck.bottom_level, neck.top_level) or another backbone"
            )
        indices = tuple(reductions.index(2**level) for level in levels)
        options = {} if output_stride == FULL_STRIDE else {"output_stride": output_stride}
        if options:
            _check_dilation(name, output_stride)
        self.features = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=indices, **options
        )
        self._channels_last = str(getattr(self.features, "output_fmt", "NCHW")).endswith("NHWC")
        self._pads = name.startswith(_PADDED_FAMILIES)
        self.channels: dict[int, int] = dict(zip(levels, self.features.feature_info.channels(), strict=True))
        self.strides: dict[int, int] = dict(zip(levels, self.features.feature_info.reduction(), strict=True))
        self._unit = max(self.strides.values())  # a patch cutter loses nothing of its multiples

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Features of a batch of images.

        Returns:
            ``{l: (B, C_l, ceil(H / s_l), ceil(W / s_l))}`` with the strides s. ConvNeXts see the image padded
            with zeros at its bottom and right, and what lies beyond the image is cut off each level.

        Raises:
            ImageSizeError: If the network rounds another way, as others do that cut images into patches.
        """
        size = (images.shape[-2], images.shape[-1])
        bottom, right = (-pixels % self._unit if self._pads else 0 for pixels in size)
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        outputs = self.features(images)
        if self._channels_last:
            outputs = [features.permute(0, 3, 1, 2) for features in outputs]
        pyramid = dict(zip(self.channels, outputs, strict=True))
        if bottom or right:
            pyramid = {level: self._crop(level, features, size) for level, features in pyramid.items()}
        self._check_sizes(pyramid, size)
        return pyramid

    def _size(self, level: int, size: tuple[int, int]) -> tuple[int, int]:
        stride = self.strides[level]
        return -(-size[0] // stride), -(-size[1] // stride)

    def _crop(self, level: int, features: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = self._size(level, size)
        return features[..., :height, :width]

    def _check_sizes(self, pyramid: dict[int, Tensor], size: tuple[int, int]) -> None:
        for level, features in pyramid.items():
            if tuple(features.shape[-2:]) != self._size(level, size):
                height, width = (-(-pixels // self._unit) * self._unit for pixels in size)
                raise ImageSizeError(
                    f"this backbone does not take images of {size[0]}x{size[1]} pixels: level {level} would "
                    f"lose its border; use sizes divisible by {self._unit}, for example padded to "
                    f"{height}x{width}"
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


def _check_dilation(name: str, output_stride: int) -> None:
    problem = ""
    with torch.device("meta"):
        try:
            probe = timm.create_model(name, pretrained=False, features_only=True, output_stride=output_stride)
        except (TypeError, AssertionError, RuntimeError) as error:
            problem = f": {error}" if str(error) else ""
        else:
            if max(probe.feature_info.reduction()) == output_stride:
                return
    raise ValueError(
        f"backbone.name={name!r} cannot end at output_stride={output_stride}{problem}; use output_stride=32, "
        "or a ResNet, ConvNeXt or EfficientNet with 8 or 16"
    )


def translated_features(
    backbone: TimmFeatures, state_dict: Mapping[str, Tensor]
) -> Iterator[tuple[str, dict[str, tuple[str, Tensor]]]]:
    """Weights of the whole network under the names of its feature pyramid, whether or not they fit.

    Yields:
        Whose names were understood, and our name -> (their name, value): ``timm``, then ``official`` where
        timm knows how to read the network's first release.
    """
    ours = {
        _plain(name.removeprefix("features.").removeprefix("model.")): name for name in backbone.state_dict()
    }
    yield "timm", {ours.get(_plain(name), name): (name, value) for name, value in state_dict.items()}
    renamed = _filtered(backbone.name, state_dict)
    yield "official", {ours.get(_plain(name), name): (name, value) for name, value in renamed.items()}


def _plain(name: str) -> str:
    """timm writes ``stages_0`` in a pyramid where the network has ``stages.0``."""
    return name.replace("_", ".")


def _filtered(name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What timm makes of a release in other names or sizes; nothing if it cannot read it."""
    module = sys.modules[timm.model_entrypoint(name).__module__]
    read: Callable[..., Any] | None = getattr(module, "checkpoint_filter_fn", None)
    if read is None:
        return {}
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    try:
        found = read(dict(state_dict), network)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError):
        return {}  # a foreign file, which no reader of this network understands
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}
