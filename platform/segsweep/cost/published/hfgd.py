"""HFGD: Table 9, costs of four designs on ResNet-50."""

from __future__ import annotations

from collections.abc import Iterator

from segsweep.cost.measure import count_config
from segsweep.cost.published.row import PaperRow
from segsweep.models.methods.hfgd import PRESETS, HFGDConfig

_SIZE = (513, 513)
_CLASSES = 59  # Pascal Context
_CONVENTION = "513x513, 59 classes: MACs of convolutions and matrix products"

# (design as the paper names it, preset, published MACs)
_TABLE_9 = (
    ("SA (CAR), dilated to stride 8", "hfgd-r50-d8-sa-car", 158.96e9),
    ("SemanticFPN", "hfgd-r50-sfpn-identity", 45.65e9),
    ("HFGD, stride 4", "hfgd-r50-os4", 71.63e9),
    ("HFGD, stride 2", "hfgd-r50-os2", 153.62e9),
)

# Backbones that can stand in for the paper's, which is described nowhere.
_STEMS = {
    "resnet50_slim": (
        "stem 64/64/64, stride in the last block of a stage; the author's code elsewhere has 64/64/128, "
        "which is 1.6 to 6.5 % too much"
    ),
    "resnet50d": "another backbone than the paper's: stem 32/32/64, stride in the first block; has weights",
    "resnet50": "another backbone than the paper's: 7x7 stem, stride in the first block; has weights",
}


def rows() -> Iterator[PaperRow]:
    """Every row of Table 9, with the backbone that explains it and with the two that have weights.

    SA (CAR) is counted with the 256 channels of all other designs and with its linear map, which inference
    could merge away; with 512 channels, as in CAR's own code, it has 159.91 G.
    """
    for name, note in _STEMS.items():
        for item, preset, published in _TABLE_9:
            label = item if name == "resnet50_slim" else f"{item}, {name}"
            yield _row(label, _with_backbone(PRESETS[preset], name), published, note)


def _with_backbone(config: HFGDConfig, name: str) -> HFGDConfig:
    return config.model_copy(update={"backbone": config.backbone.model_copy(update={"name": name})})


def _row(item: str, config: HFGDConfig, published: float, note: str) -> PaperRow:
    macs = count_config(config, num_classes=_CLASSES, size=_SIZE)[1].macs
    return PaperRow(
        method="hfgd",
        source="HFGD, Table 9",
        item=item,
        quantity="macs",
        published=published,
        computed=macs,
        ratio=macs / published,
        convention=_CONVENTION,
        complete_macs=macs,
        note=note,
    )
