"""Weights of other code bases for ``Swin``: renamed, and the inputs of the patch merging put in our order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from segsweep.models.backbones.swin import Swin

Origin = Literal["timm", "microsoft", "mmseg"]
ORIGINS: tuple[Origin, ...] = ("timm", "microsoft", "mmseg")

_BUFFERS = ("relative_position_index", "attn_mask", "relative_coords_table")
_MERGING = re.compile(r"stages\.\d+\.downsample\.(norm|reduction)\.(weight|bias)")
_OUTPUT_NORM = "norms."  # classifiers have none
_TABLE = "relative_position_bias_table"

# (pattern, replacement), all applied in turn
_RENAMES: dict[Origin, tuple[tuple[str, str], ...]] = {
    "microsoft": (
        (r"^backbone\.", ""),
        (r"^layers\.", "stages."),
        (r"^norm(?=[0-3]\.)", "norms."),
    ),
    "timm": ((r"^layers[._]", "stages."), (r"^norm(?=[0-3]\.)", "norms.")),
    "mmseg": (
        (r"^backbone\.", ""),
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"\.attn\.w_msa\.", ".attn."),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
        (r"^norm(?=[0-3]\.)", "norms."),
    ),
}


def load_swin_weights(
    model: Swin, state_dict: Mapping[str, Tensor], *, origin: Origin, resize_bias: bool = False
) -> list[str]:
    """Load weights of the same member of the family from another code base.

    Args:
        model: Loaded in place; levels that its weights lack a norm for keep the norm they have.
        state_dict: Names and values as the other code base saves them.
        origin: ``timm`` (1.x, merging at the start of a stage), ``microsoft`` (the official checkpoints;
            merging at the end of a stage; both hold merged tokens as (column, row, channel)) or ``mmseg``
            (mmsegmentation, and ImageNet weights converted for it).
        resize_bias: Resize the bias tables of another window size, bicubically, instead of refusing them.

    Returns:
        Names in ``state_dict`` that the model has no use for (the classifier and its norm), sorted; masks and
        indices that follow from the sizes are not listed.

    Raises:
        ValueError: If a weight of the model is missing or has another shape.
    """
    if origin not in _RENAMES:
        raise ValueError(f"origin={origin!r} is none of {tuple(_RENAMES)}; choose one of them")
    wanted = model.state_dict()
    loaded: dict[str, Tensor] = {}
    unused: list[str] = []
    for name, value in state_dict.items():
        if name.rsplit(".", 1)[-1] in _BUFFERS:
            continue
        target = _our_name(name, origin)
        if target in wanted:
            loaded[target] = _our_layout(target, value, wanted[target], origin, resize_bias=resize_bias)
        else:
            unused.append(name)
    _check_complete(loaded, wanted)
    model.load_state_dict({**wanted, **loaded})
    return sorted(unused)


def translated_swin(
    model: Swin, state_dict: Mapping[str, Tensor], *, origin: Origin
) -> dict[str, tuple[str, Tensor]]:
    """Weights under our names and in our layout, whether or not they fit.

    Bias tables of another window size are resized, bicubically. Masks and indices are left out.

    Returns:
        Our name -> (their name, value).
    """
    wanted = model.state_dict()
    found: dict[str, tuple[str, Tensor]] = {}
    for name, theirs in state_dict.items():
        if name.rsplit(".", 1)[-1] in _BUFFERS:
            continue
        target, value = _our_name(name, origin), theirs
        if origin != "mmseg" and _MERGING.fullmatch(target) and value.shape[-1] % 4 == 0:
            value = _channel_first(value)
        if target.endswith(_TABLE) and target in wanted and _is_square_table(value, like=wanted[target]):
            value = _resize_table(value, wanted[target].shape[0])
        found[target] = (name, value)
    return found


def _is_square_table(table: Tensor, *, like: Tensor) -> bool:
    """Whether a bias table of as many heads is for another window."""
    same_heads = table.ndim == like.ndim and table.shape[1:] == like.shape[1:]
    return same_heads and table.shape != like.shape and round(table.shape[0] ** 0.5) ** 2 == table.shape[0]


def _our_name(name: str, origin: Origin) -> str:
    for pattern, replacement in _RENAMES[origin]:
        name = re.sub(pattern, replacement, name)
    if origin == "timm":  # its stage begins with the merging, ours ends with it
        name = re.sub(r"^stages\.(\d+)\.downsample\.", _stage_before, name)
    return re.sub(r"^norms\.([0-3])\.", lambda stage: f"norms.{int(stage[1]) + 2}.", name)


def _stage_before(match: re.Match[str]) -> str:
    return f"stages.{int(match[1]) - 1}.downsample."


def _our_layout(name: str, value: Tensor, wanted: Tensor, origin: Origin, *, resize_bias: bool) -> Tensor:
    if origin != "mmseg" and _MERGING.fullmatch(name):
        value = _channel_first(value)
    if resize_bias and name.endswith(_TABLE) and value.shape != wanted.shape:
        value = _resize_table(value, wanted.shape[0])
    if value.shape != wanted.shape:
        remedy = "; pass resize_bias=True to resize the table" if name.endswith(_TABLE) else ""
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} in the weights and {tuple(wanted.shape)} in the model: "
            f"they belong to another member of the family or window size{remedy}"
        )
    return value


def _channel_first(value: Tensor) -> Tensor:
    """Last axis from (column, row, channel), the order of Microsoft and timm, to (channel, row, column)."""
    parts = value.reshape(*value.shape[:-1], 2, 2, value.shape[-1] // 4)
    return parts.transpose(-1, -3).reshape(value.shape)  # rows stay in the middle


def _resize_table(table: Tensor, rows: int) -> Tensor:
    side, wanted = round(table.shape[0] ** 0.5), round(rows**0.5)
    grid = table.T.reshape(1, -1, side, side).float()
    resized = F.interpolate(grid, size=(wanted, wanted), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.to(table.dtype)


def _check_complete(loaded: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    has_norms = any(name.startswith(_OUTPUT_NORM) for name in loaded)
    missing = [
        name for name in wanted if name not in loaded and (has_norms or not name.startswith(_OUTPUT_NORM))
    ]
    if missing:
        raise ValueError(
            f"the weights lack {len(missing)} of {len(wanted)} tensors, {missing[0]} the first; "
            "check the origin and that they belong to this member of the family"
        )
