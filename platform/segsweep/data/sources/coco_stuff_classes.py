"""The 171 classes of COCO-Stuff: 80 things and 91 kinds of stuff (Caesar et al. 2018, labels.txt).

COCO's ids are 1..182 with 11 gaps among the things; train ids number the rest in their order.
"""

from __future__ import annotations

from segsweep.data.interface import DatasetInfo
from segsweep.data.sources.palettes import listed_names, spread_hues
from segsweep.labels import IGNORE_INDEX

_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed,
dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush,
banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other,
ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence,
floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit,
furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss,
mountain, mud, napkin, net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing,
railroad, river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other,
stairs, stone, straw, structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick,
wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops,
window-blind, window-other, wood
"""
LARGEST_COCO_ID = 182
UNUSED_COCO_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})

COCO_TRAIN_IDS: dict[int, int] = {
    coco_id: train_id
    for train_id, coco_id in enumerate(
        coco_id for coco_id in range(1, LARGEST_COCO_ID + 1) if coco_id not in UNUSED_COCO_IDS
    )
}
"""COCO id 1..182 -> train id 0..170."""


def coco_stuff_info(name: str) -> DatasetInfo:
    """Names and colours of the 171 classes; COCO-Stuff publishes no palette, so hues are spread."""
    names = listed_names(_NAMES)
    return DatasetInfo(
        name=name, class_names=names, palette=spread_hues(len(names)), ignore_index=IGNORE_INDEX
    )
