"""Policy networks of CTS (Lu et al. 2023, Sec. 3.2): which superpatches show one class only."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from segsweep.losses.superpatch_targets import ONE_CLASS, SEVERAL_CLASSES
from segsweep.models.layers.conv_module import Classifier, conv_bn_relu
from segsweep.models.layers.input_range import HalfRange

PolicyName = Literal["nano", "small", "lite0", "large"]

_LEVEL = 5  # stride 32
_CONV_STRIDES = (2, 2, 2, 2, 2, 1, 1)  # only their product is published
_CONV_CHANNELS: dict[PolicyName, int] = {
    "small": 128,
    "nano": 16,  # not from the paper: for CPUs
}
_PRETRAINED: dict[PolicyName, str] = {"lite0": "efficientnet_lite0", "large": "efficientnet_b1"}


class PolicyNetwork(nn.Module):
    """A small network that predicts for each superpatch whether its four patches may share a token.

    ``lite0`` (the paper's) and ``large`` are EfficientNets up to their 320 channels of stride 32, before the
    last 1x1 convolution; ``small`` is seven 3x3 convolutions and has fewer parameters but more MACs than
    ``lite0``.

    Args:
        name: Size.

    Raises:
        ValueError: If there is no such size.
    """

    def __init__(self, name: PolicyName) -> None:
        super().__init__()
        self.half_range = HalfRange()
        if name in _CONV_CHANNELS:
            channels = _CONV_CHANNELS[name]
            self.backbone: nn.Module = _ConvStack(channels)
        elif name in _PRETRAINED:
            from segsweep.models.backbones.timm_features import TimmFeatures  # 1.8 s: only who needs it pays

            self.backbone = TimmFeatures(_PRETRAINED[name], levels=(_LEVEL,))
            channels = self.backbone.channels[_LEVEL]
        else:
            raise ValueError(f"policy={name!r} is none of {get_args(PolicyName)}; choose one of them")
        self.head = Classifier(channels, 2)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W) -> (B, 2, H / 32, W / 32)``, logits of several classes and of one.

        Args:
            images: Normalised by ImageNet's statistics; H and W divisible by 32.
        """
        images = self.half_range(images)  # as the official policies were trained
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)  # twice as fast there
        return self.head(self.backbone(images)[_LEVEL])  # type: ignore[no-any-return]

    @torch.no_grad()
    def margins(self, images: Tensor) -> Tensor:
        """How far "one class" is above "several", ``(B, G)`` float32.

        In this order superpatches are shared: the order of the probabilities, but it does not saturate. In
        float32 whatever the autocast, since half of the digits tie neighbours.
        """
        device = "cpu" if images.is_meta else images.device.type  # the meta device knows no autocast
        with torch.autocast(device, enabled=False):
            logits = self(images.float())
            return cast(Tensor, (logits[:, ONE_CLASS] - logits[:, SEVERAL_CLASSES]).flatten(1))


class _ConvStack(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (3, *(channels for _ in _CONV_STRIDES))
        self.convs = nn.Sequential(
            *(
                conv_bn_relu(before, channels, 3, stride=stride)
                for before, stride in zip(widths, _CONV_STRIDES, strict=False)
            )
        )

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return {_LEVEL: self.convs(images)}


def read_policy_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a policy network out of the checkpoint of a training job with method ``policy``.

    Args:
        path: The checkpoint; of a moving average, where it has one.

    Returns:
        A state dict for ``PolicyNetwork``.

    Raises:
        ValueError: If the file cannot be read or holds no policy network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets in a foreign file
        raise ValueError(
            f"sharing.weights={str(path)!r} cannot be read ({type(error).__name__}: {error}); give the "
            "checkpoint of a training job with method: policy"
        ) from error
    weights = state.get("average") or state.get("model", state)
    prefix = "network."
    found = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if "head.weight" not in found:
        raise ValueError(
            f"sharing.weights={str(path)!r} holds no policy network but {sorted(weights)[:3]}...; give the "
            "checkpoint of a training job with method: policy"
        )
    return found
