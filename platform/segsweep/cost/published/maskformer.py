"""MaskFormer: ADE20K (Table 1), COCO panoptic (Table 3), and the author's own print of Swin-S."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from segsweep.cost.counting import count_macs, count_parameters
from segsweep.cost.fvcore_counting import count_fvcore_macs, count_with_norms
from segsweep.cost.measure import count_config
from segsweep.cost.published.row import PaperRow
from segsweep.models.backbones import build_backbone
from segsweep.models.methods.maskformer import LEVELS, PRESETS

_METHOD = "maskformer"
_PARAMS = "trainable parameters, {classes} classes, batch norms included"
_MACS = "{size}, 150 classes: MACs up to the class map of a 4:3 image, norms and bilinear resizing (fvcore)"
_ADE, _COCO = 150, 133
_MEAN_SIZE = (800, 1088)  # pixels; about that of COCO's images with a shorter side of 800
_NOT_READ = "the printed figure is quoted from memory"
_PANOPTIC_NOTE = (
    "the paper's figure is a mean over 100 images of many sizes; counted are MACs to the masks for one of "
    f"800x1088; {_NOT_READ}"
)
_PRINT = "MaskFormer, issue #50 of its repository"


@dataclass(frozen=True, kw_only=True)
class _Published:
    """One line of a table."""

    item: str
    preset: str
    params: float
    macs: float
    side: int = 512
    note: str = ""


_SEMANTIC = (
    _Published(item="MaskFormer R50", preset="maskformer-r50", params=41e6, macs=53e9),
    _Published(item="MaskFormer R101", preset="maskformer-r101", params=60e6, macs=73e9),
    _Published(item="MaskFormer R101c", preset="maskformer-r101c", params=60e6, macs=80e9, note=_NOT_READ),
    _Published(item="MaskFormer Swin-T", preset="maskformer-swin-t", params=42e6, macs=55e9),
    _Published(item="MaskFormer Swin-S", preset="maskformer-swin-s", params=63e6, macs=79e9),
    _Published(item="MaskFormer Swin-B", preset="maskformer-swin-b", params=102e6, macs=195e9, side=640),
    _Published(item="MaskFormer Swin-L", preset="maskformer-swin-l", params=212e6, macs=375e9, side=640),
)
_PANOPTIC = (
    _Published(item="MaskFormer R50 + 6 Enc", preset="maskformer-r50-6enc", params=45e6, macs=181e9),
    _Published(item="MaskFormer R101 + 6 Enc", preset="maskformer-r101-6enc", params=64e6, macs=248e9),
)


def rows() -> Iterator[PaperRow]:
    """Every published parameter count and cost of MaskFormer that this code can build."""
    for figure in _SEMANTIC:
        size = (figure.side, figure.side)
        params, operations = count_config(PRESETS[figure.preset], num_classes=_ADE, size=size)
        source = "MaskFormer, Table 1"
        yield _params_row(source, figure.item, figure.params, params, note=figure.note)
        macs = count_fvcore_macs(PRESETS[figure.preset], num_classes=_ADE, size=size)
        yield _macs_row(
            source, figure.item, figure.macs, macs, size=size, complete=operations.macs, note=figure.note
        )
    for figure in _PANOPTIC:
        yield from _panoptic_rows(figure)
    yield from _printed_rows()


def _panoptic_rows(figure: _Published) -> Iterator[PaperRow]:
    params, operations = count_config(PRESETS[figure.preset], num_classes=_COCO, size=_MEAN_SIZE)
    source = "MaskFormer, Table 3"
    yield _params_row(source, figure.item, figure.params, params, classes=_COCO, note=_NOT_READ)
    yield PaperRow(
        method=_METHOD,
        source=source,
        item=figure.item,
        quantity="macs",
        published=figure.macs,
        computed=operations.macs,
        ratio=operations.macs / figure.macs,
        convention="800x1088, 133 classes: MACs to the masks",
        complete_macs=operations.macs,
        note=_PANOPTIC_NOTE,
    )


def _printed_rows() -> Iterator[PaperRow]:
    """The author's print of Swin-S: all six layers' masks, and the backbone alone."""
    config, size = PRESETS["maskformer-swin-s"], (512, 512)
    params, operations = count_config(config, num_classes=_ADE, size=size)
    yield _params_row(_PRINT, "Swin-S, printed", 63.075e6, params)
    macs = count_fvcore_macs(config, num_classes=_ADE, size=size)
    masks = (config.decoder.layers - 1) * config.decoder.queries * config.neck.channels * 128**2
    yield _macs_row(
        _PRINT,
        "Swin-S, printed, masks of all layers",
        81.079e9,
        macs + masks,
        size=size,
        complete=operations.macs + masks,
        note="Table 1 has 79 G: without the masks of the five layers before the last",
    )
    backbone_params, backbone_macs, complete = _backbone_counts()
    yield _params_row(_PRINT, "Swin-S backbone, printed", 48.839e6, backbone_params)
    yield _macs_row(_PRINT, "Swin-S backbone, printed", 49.38e9, backbone_macs, size=size, complete=complete)


@functools.cache
def _backbone_counts() -> tuple[int, int, int]:
    """Parameters, MACs with norms and MACs alone of Swin-S at 512x512."""
    with torch.device("meta"):
        backbone = build_backbone("swin_small", levels=LEVELS)
    size = (512, 512)
    return count_parameters(backbone), count_with_norms(backbone, size), count_macs(backbone, size)


def _params_row(
    source: str, item: str, published: float, params: int, *, classes: int = _ADE, note: str = ""
) -> PaperRow:
    return PaperRow(
        method=_METHOD,
        source=source,
        item=item,
        quantity="params",
        published=published,
        computed=params,
        ratio=params / published,
        convention=_PARAMS.format(classes=classes),
        note=note,
    )


def _macs_row(
    source: str,
    item: str,
    published: float,
    macs: int,
    *,
    size: tuple[int, int],
    complete: int,
    note: str = "",
) -> PaperRow:
    return PaperRow(
        method=_METHOD,
        source=source,
        item=item,
        quantity="macs",
        published=published,
        computed=macs,
        ratio=macs / published,
        convention=_MACS.format(size=f"{size[0]}x{size[1]}"),
        complete_macs=complete,
        note=note,
    )
