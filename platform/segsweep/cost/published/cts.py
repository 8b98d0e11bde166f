"""CTS: its Segmenter hosts, and the routing of the supplement's Table 1.

No costs of CTS itself are published, only images a second on a GPU that is not named. Costs of the hosts are
those that the same group prints beside ALGM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segsweep.cost.measure import count_config
from segsweep.cost.published.row import PaperRow
from segsweep.cost.token_counting import count_fvcore_macs
from segsweep.models.backbones.vit import VITS
from segsweep.models.dynamic_sharing import mean_reduction
from segsweep.models.methods.cts import PRESETS

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class _Published:
    item: str
    preset: str
    side: int
    classes: int
    macs: float | None = None
    params: float | None = None
    note: str = ""
    params_unexplained: bool = False


_FIGURES = (
    _Published(item="Seg-Ti-Mask", preset="segmenter-ti", side=512, classes=150, macs=12.8e9, params=7e6),
    _Published(
        item="Seg-S-Mask", preset="segmenter-s", side=512, classes=150, macs=38.6e9, params=27e6,
        note="26.42M, printed as 27M",
    ),
    _Published(
        item="Seg-B-Mask", preset="segmenter-b", side=512, classes=150, macs=130e9, params=106e6,
        params_unexplained=True, note="the official code has 103.3M as well, 104.0M for DeiT with two heads",
    ),
    _Published(item="Seg-L-Mask/640", preset="segmenter-l", side=640, classes=150, macs=672e9, params=334e6),
    _Published(item="DeiT-B-Linear", preset="segmenter-deit-b-linear", side=512, classes=150, params=87e6),
    _Published(item="Seg-S-Mask, Context", preset="segmenter-s-480", side=480, classes=60, macs=32.1e9),
    _Published(item="Seg-S-Mask, Cityscapes", preset="segmenter-s-768", side=768, classes=19, macs=116e9),
)  # fmt: skip


def rows() -> Iterator[PaperRow]:
    """Every published parameter count and cost of the hosts, and the mean reductions of dynamic sharing."""
    for figure in _FIGURES:
        yield from _rows(figure)
    for column in routing_rows():
        yield PaperRow(
            method="cts",
            source="CTS, supplement, Table 1",
            item=f"dynamic sharing, threshold {column.threshold:.2f}",
            quantity="reduction",
            published=column.published,
            computed=column.computed,
            ratio=column.computed / column.published,
            convention="mean share of tokens saved, from printed numbers of images and the models' labels",
        )


def _rows(figure: _Published) -> Iterator[PaperRow]:
    config, size = PRESETS[figure.preset], (figure.side, figure.side)
    params, operations = count_config(config, num_classes=figure.classes, size=size)
    if figure.params is not None:
        params += _IMAGENET_CLASSES * (VITS[config.backbone.name].dim + 1)
        yield PaperRow(
            method="cts",
            source="Segmenter, repository",
            item=figure.item,
            quantity="params",
            published=figure.params,
            computed=params,
            ratio=params / figure.params,
            convention="trainable parameters with the encoder's unused 1000-class head, 150 classes",
            note=figure.note,
            unexplained=figure.params_unexplained,
        )
    if figure.macs is not None:
        macs = count_fvcore_macs(config, num_classes=figure.classes, size=size)
        yield PaperRow(
            method="cts",
            source="ALGM, repository",
            item=figure.item,
            quantity="macs",
            published=figure.macs,
            computed=macs,
            ratio=macs / figure.macs,
            convention=f"{figure.side}x{figure.side}, {figure.classes} classes: fvcore's, printed as GFLOPs",
            complete_macs=operations.macs,
        )


@dataclass(frozen=True, kw_only=True)
class RoutingRow:
    """One column of the supplement's Table 1.

    Attributes:
        threshold: Probability above which a superpatch may share.
        images: Validation images of ADE20K routed to each model, by the share of tokens that it saves.
        published: Printed mean share of tokens saved.
        computed: The same from the numbers of images and the labels of the models.
        miou: Printed mIoU of all images.
    """

    threshold: float
    images: dict[float, int]
    published: float
    computed: float
    miou: float


_REDUCTIONS = (0.0, 0.12, 0.23, 0.30, 0.38, 0.46)
# threshold, images by reduction, mean reduction, mIoU
_TABLE_1 = (
    (0.35, (1, 77, 150, 366, 446, 960), 0.382, 0.454),
    (0.40, (2, 87, 191, 398, 427, 895), 0.374, 0.458),
    (0.45, (3, 105, 219, 436, 410, 827), 0.365, 0.455),
    (0.50, (8, 134, 244, 455, 397, 762), 0.355, 0.453),
    (0.55, (12, 163, 270, 460, 394, 701), 0.346, 0.453),
    (0.60, (22, 196, 289, 465, 392, 636), 0.336, 0.452),
    (0.65, (32, 232, 316, 463, 386, 571), 0.324, 0.454),
)


def routing_rows() -> Iterator[RoutingRow]:
    """CTS, supplement, Table 1: dynamic sharing with six ViT-S on ADE20K."""
    for threshold, counts, published, miou in _TABLE_1:
        images = dict(zip(_REDUCTIONS, counts, strict=True))
        yield RoutingRow(
            threshold=threshold,
            images=images,
            published=published,
            computed=mean_reduction(images),
            miou=miou,
        )
