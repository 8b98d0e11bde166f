"""Weights of other code bases for the token backbones and for whole CTS models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from segsweep.models.backbones.beit import Beit, resize_bias_table
from segsweep.models.backbones.token_backbone import TokenBackbone
from segsweep.models.backbones.vit import ViT, resize_positions
from segsweep.models.layers.superpatches import Grid
from segsweep.models.token_segmenter import TokenSegmenter

_POSITIONS = "pos_embed"
_TABLE = "relative_position_bias_table"
_SHARED_TABLE = f"rel_pos_bias.{_TABLE}"  # one for all blocks
_FOLLOWING = "relative_position_index"  # follows from the size

_OFFICIAL = (  # prefix in tue-mps/cts-segmenter, prefix here
    ("policy_net.backbone.", "encoder.policy.backbone.features."),
    ("policy_net.head.", "encoder.policy.head."),
    ("encoder.", "encoder.backbone."),
    ("decoder.", "head."),
)


def load_timm_weights(
    backbone: TokenBackbone, state_dict: Mapping[str, Tensor], *, grid: Grid | None = None
) -> list[str]:
    """Load the ImageNet weights of the same network in timm.

    Positions of another grid are resized bilinearly. The classifier is left out, also the norm that BEiT has
    behind its pooling; a final norm that the weights lack keeps its values.

    Args:
        backbone: Loaded in place.
        state_dict: Names and values of timm's ``VisionTransformer``, its distilled form, or ``Beit``.
        grid: Patches down and across of the weights; ``None`` for a square.

    Returns:
        Names in ``state_dict`` that the backbone has no use for, sorted.

    Raises:
        ValueError: If a weight of the backbone is missing or has another shape.
    """
    wanted = backbone.state_dict()
    loaded: dict[str, Tensor] = {}
    unused: list[str] = []
    for name, value in state_dict.items():
        if name in wanted:
            loaded[name] = _fitted(backbone, name, value, grid)
        elif not name.endswith(_FOLLOWING):
            unused.append(name)
    norm = {name for name in wanted if name.startswith("norm.")}
    _check(loaded, wanted, spared=norm if isinstance(backbone, Beit) else set())
    backbone.load_state_dict({**wanted, **loaded})
    return sorted(unused)


def load_official_weights(model: TokenSegmenter, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Load a checkpoint of the official CTS code into a Segmenter of the same crop.

    Args:
        model: Loaded in place, with its policy network if the checkpoint has one.
        state_dict: Names and values as ``tue-mps/cts-segmenter`` saves them.

    Returns:
        Names in ``state_dict`` that the model has no use for (the ImageNet classifier), sorted.

    Raises:
        ValueError: If a weight of the model is missing or has another shape.
    """
    wanted = model.state_dict()
    loaded: dict[str, Tensor] = {}
    unused: list[str] = []
    for name, value in state_dict.items():
        target = official_name(name)
        if target in wanted:
            loaded[target] = value
        else:
            unused.append(name)
    _check(loaded, wanted, spared=set())
    model.load_state_dict({**wanted, **loaded})
    return sorted(unused)


def translated_tokens(
    backbone: TokenBackbone, state_dict: Mapping[str, Tensor]
) -> dict[str, tuple[str, Tensor]]:
    """timm's (and so DeiT's and BEiT's official) weights as ours, whether or not they fit.

    Positions of another square grid are resized bilinearly. A bias table that all blocks share (BEiT before
    its fine-tuning) is given to each. Indices are left out.

    Returns:
        Our name -> (their name, value).
    """
    found: dict[str, tuple[str, Tensor]] = {}
    for name, value in state_dict.items():
        if name.endswith(_FOLLOWING):
            continue
        targets = [name]
        if name == _SHARED_TABLE:
            targets = [f"blocks.{index}.attn.{_TABLE}" for index in range(len(backbone.blocks))]
        for target in targets:
            found[target] = (name, _fitted_if_square(backbone, target, value))
    return found


def _fitted_if_square(backbone: TokenBackbone, name: str, value: Tensor) -> Tensor:
    wanted = backbone.state_dict().get(name)
    if wanted is None or value.ndim != wanted.ndim or value.shape == wanted.shape:
        return value
    try:
        return _fitted(backbone, name, value, None)
    except (ValueError, RuntimeError):  # positions of no square, or of another network
        return value


def official_name(name: str) -> str:
    """Our name of a tensor in a checkpoint of the official CTS code."""
    for theirs, ours in _OFFICIAL:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _fitted(backbone: TokenBackbone, name: str, value: Tensor, grid: Grid | None) -> Tensor:
    if isinstance(backbone, ViT) and name == _POSITIONS:
        extra = backbone.num_extra
        grid = grid or _square(value.shape[1] - extra)
        patches = resize_positions(value[:, extra:], grid, backbone.grid)
        return torch.cat([value[:, :extra], patches], dim=1)
    if isinstance(backbone, Beit) and name.endswith(_TABLE):
        if grid is None:
            side = (round((value.shape[0] - 3) ** 0.5) + 1) // 2
            grid = (side, side)
        return resize_bias_table(value, grid, backbone.grid)
    return value


def _square(patches: int) -> Grid:
    side = round(patches**0.5)
    if side * side != patches:
        raise ValueError(f"{patches} positions make no square; say how many are down and across (grid)")
    return side, side


def _check(loaded: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, spared: set[str]) -> None:
    missing = [name for name in wanted if name not in loaded and name not in spared]
    if missing:
        raise ValueError(
            f"the weights lack {len(missing)} of {len(wanted)} tensors, {missing[0]} the first; check that "
            "they belong to this network"
        )
    for name, value in loaded.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} in the weights and {tuple(wanted[name].shape)} in "
                "the model: they belong to another network, crop or number of classes"
            )
