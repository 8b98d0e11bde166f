"""The 34 label ids of Cityscapes and the 19 that are evaluated (Cordts et al. 2016, labels.py)."""

from __future__ import annotations

from segsweep.data.interface import DatasetInfo
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.palettes import listed_colours, listed_names
from segsweep.labels import IGNORE_INDEX

_NAMES = """
road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person,
rider, car, truck, bus, train, motorcycle, bicycle
"""
_COLOURS = """
128 64 128, 244 35 232, 70 70 70, 102 102 156, 190 153 153, 153 153 153, 250 170 30, 220 220 0, 107 142 35,
152 251 152, 70 130 180, 220 20 60, 255 0 0, 0 0 142, 0 0 70, 0 60 100, 0 80 100, 0 0 230, 119 11 32
"""
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_LARGEST_LABEL_ID = 33

CITYSCAPES_19 = DatasetInfo(
    name="cityscapes",
    class_names=listed_names(_NAMES),
    palette=listed_colours(_COLOURS),
    ignore_index=IGNORE_INDEX,
)
CITYSCAPES_IDS = IdTable(
    train_ids={label_id: train_id for train_id, label_id in enumerate(_LABEL_IDS)},
    void=tuple(label_id for label_id in range(_LARGEST_LABEL_ID + 1) if label_id not in _LABEL_IDS),
    ignore_index=IGNORE_INDEX,
    others_are_void=True,  # licence plates have label id -1, which some tools store as 255
    declared_in="Cityscapes' labelIds",
)
