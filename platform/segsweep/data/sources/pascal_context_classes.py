"""The 59 frequent classes of Pascal Context and their ids among the 459 (Mottaghi et al. 2014).

Ids and names ascend together because both are in alphabetical order.
"""

from __future__ import annotations

from segsweep.data.interface import DatasetInfo
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.palettes import listed_names, spread_hues
from segsweep.labels import IGNORE_INDEX

_NAMES = """
aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, cabinet, car, cat,
ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor, flower, food, grass, ground,
horse, keyboard, light, motorbike, mountain, mouse, person, plate, platform, pottedplant, road, rock, sheep,
shelves, sidewalk, sign, sky, snow, sofa, table, track, train, tree, truck, tvmonitor, wall, water, window,
wood
"""
RAW_IDS = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144),
    *(158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354),
    *(355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
"""Id of each of the 59 classes among the 459."""
LARGEST_RAW_ID = 459
BACKGROUND = "background"


def pascal_context_info(classes: int) -> DatasetInfo:
    """Names and colours of 59 classes, or of 60 with the background first; no palette is published."""
    names = listed_names(_NAMES)
    names = (BACKGROUND, *names) if classes > len(RAW_IDS) else names
    return DatasetInfo(
        name=f"pascal_context_{classes}",
        class_names=names,
        palette=spread_hues(len(names)),
        ignore_index=IGNORE_INDEX,
    )


def raw_id_table(classes: int) -> IdTable:
    """From the 459 ids: those that are not among the 59 are background."""
    first = classes - len(RAW_IDS)  # train id of the first class: 1 with the background, else 0
    background = tuple(raw for raw in range(LARGEST_RAW_ID + 1) if raw not in RAW_IDS)
    train_ids = {raw: first + index for index, raw in enumerate(RAW_IDS)}
    return IdTable(
        train_ids={**train_ids, **dict.fromkeys(background, 0)} if first else train_ids,
        void=() if first else background,
        ignore_index=IGNORE_INDEX,
        others_are_void=True,
        declared_in="Pascal Context's 459 ids",
    )


def index_table(classes: int) -> IdTable:
    """From 8-bit PNGs that number the background 0 and the classes 1..59."""
    first = classes - len(RAW_IDS)
    train_ids = {index: index - 1 + first for index in range(1 - first, len(RAW_IDS) + 1)}
    return IdTable(
        train_ids=train_ids,
        void=() if first else (0,),
        ignore_index=IGNORE_INDEX,
        declared_in="SegmentationClassContext's 8-bit PNGs",
    )
