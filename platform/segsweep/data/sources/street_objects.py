"""Things that stand in the made-up street scenes: trees, poles, cars and people; lengths in metres."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from segsweep.data.sources.street_canvas import Canvas, Colour, Patch, smooth_noise

VEGETATION: Final = 5
POLE: Final = 6
CAR: Final = 7
PERSON: Final = 8

Draw = Callable[[Canvas, np.random.Generator, float, float], None]

_CAR_PAINTS = (
    (205, 205, 208),
    (120, 122, 126),
    (38, 39, 44),
    (150, 28, 30),
    (32, 52, 110),
    (90, 98, 92),
    (228, 226, 220),
)
_SIGNS = ((178, 24, 28), (24, 62, 150), (212, 176, 30), (225, 225, 225))
_SKINS = ((226, 180, 150), (172, 120, 88), (98, 66, 48))


def draw_tree(canvas: Canvas, generator: np.random.Generator, x: float, z: float) -> None:
    """A trunk and a ragged crown, lighter at the top."""
    height, radius = generator.uniform(4, 9), generator.uniform(1.2, 2.6)
    tint = generator.uniform(0.8, 1.2)
    patch = Patch(canvas, x, z, half_width=1.4 * radius, top=height + 0.6 * radius)
    if patch.empty:
        return
    patch.fill(patch.within(0.14) & (patch.v < 0.6 * height), (72.0, 58.0, 46.0), label=VEGETATION)
    ragged = smooth_noise(generator, (len(patch.v), patch.u.shape[1]), zoom=max(4.0, 60 * patch.pixel))
    rise = (patch.v - 0.72 * height) / (0.38 * height)
    crown = (patch.u / radius) ** 2 + rise**2 + 0.35 * ragged < 1
    leaves = np.array([70.0, 96.0, 48.0], np.float32)
    light = (tint * (0.85 + 0.25 * rise + 0.12 * ragged)).astype(np.float32)
    patch.fill(crown, light[..., None] * leaves, label=VEGETATION)


def draw_pole(canvas: Canvas, generator: np.random.Generator, x: float, z: float) -> None:
    """A lamp post, a traffic sign or a traffic light: thin, a pixel wide at least."""
    kind = generator.choice(3, p=(0.45, 0.35, 0.2))
    height = (generator.uniform(5.5, 8), generator.uniform(2.2, 3), 3.4)[kind]
    grey = generator.uniform(60, 150)
    colour = (grey, grey, grey + 4)
    patch = Patch(canvas, x, z, half_width=1.6, top=height + 0.4)
    if patch.empty:
        return
    patch.fill(patch.within(0.07) & (patch.v < height), colour, label=POLE)
    if kind == 0:  # the arm reaches over the road
        arm = (patch.u * -np.sign(x) > 0) & (np.abs(patch.u) < 1.4)
        patch.fill(arm & (np.abs(patch.v - height) <= max(0.06, 0.5 * patch.pixel)), colour, label=POLE)
    elif kind == 1:
        disc = patch.u**2 + (patch.v - height) ** 2 < 0.34**2
        patch.fill(disc, _SIGNS[generator.integers(len(_SIGNS))], label=POLE)
        rim = disc & (patch.u**2 + (patch.v - height) ** 2 > 0.26**2)
        patch.fill(rim, (228.0, 228.0, 228.0), label=POLE)
    else:
        box = (np.abs(patch.u) < 0.17) & (np.abs(patch.v - height + 0.45) < 0.48)
        patch.fill(box, (32.0, 34.0, 34.0), label=POLE)
        lit: tuple[float, Colour] = ((0.15, (230.0, 40.0, 30.0)), (0.75, (40.0, 210.0, 110.0)))[
            generator.integers(2)
        ]
        patch.fill(patch.u**2 + (patch.v - height + lit[0]) ** 2 < 0.12**2, lit[1], label=POLE)


def draw_car(canvas: Canvas, generator: np.random.Generator, x: float, z: float) -> None:
    """A car from behind or from the front: body, cabin, windows, wheels, lights, shadow."""
    van = generator.random() < 0.2
    half, roof, belt = (1.0, 2.1, 1.15) if van else (0.88, generator.uniform(1.35, 1.6), 0.92)
    paint = np.array(_CAR_PAINTS[generator.integers(len(_CAR_PAINTS))], np.float32)
    paint *= generator.uniform(0.8, 1.1)
    patch = Patch(canvas, x, z, half_width=1.4 * half, top=roof, bottom=-0.3)
    if patch.empty:
        return
    side, up = np.abs(patch.u), patch.v
    patch.shade(0.45, (side / (1.3 * half)) ** 2 + ((up + 0.02) / 0.22) ** 2 < 1)
    lean = 0.04 if van else 0.32
    cabin = (side < half - 0.08 - lean * (up - belt)) & (up >= belt) & (up < roof)
    body = (side < half) & (up < belt) & (up > 0.28)
    patch.fill(cabin | body, tuple(paint.tolist()), label=CAR)
    patch.fill((side < half) & (up > 0.28) & (up < 0.5), tuple((0.6 * paint).tolist()), label=CAR)
    patch.fill(
        (side > 0.55 * half) & (side < 0.9 * half) & (up > 0) & (up <= 0.34), (22.0, 22.0, 24.0), label=CAR
    )
    glass = cabin & (side < half - 0.2 - lean * (up - belt)) & (up > belt + 0.05) & (up < roof - 0.12)
    patch.fill(glass, (48.0, 58.0, 66.0), label=CAR)
    lamp = (236.0, 232.0, 210.0) if x < 0 else (190.0, 26.0, 22.0)  # those on the left come towards us
    patch.fill((side > 0.7 * half) & (side < 0.97 * half) & (up > 0.66) & (up < 0.84), lamp, label=CAR)


def draw_person(canvas: Canvas, generator: np.random.Generator, x: float, z: float) -> None:
    """A person who stands or walks: legs, torso, head."""
    size = generator.uniform(0.62, 1.08)  # of a person of 1.75 m
    coat = generator.uniform(20, 215, 3).astype(np.float32)
    trousers = generator.uniform(20, 110, 3).astype(np.float32)
    stride = generator.uniform(0.0, 0.16)
    patch = Patch(canvas, x, z, half_width=0.5, top=1.75 * size, bottom=-0.1)
    if patch.empty:
        return
    u, v = patch.u / size, patch.v / size
    patch.shade(0.6, (u / 0.4) ** 2 + ((v + 0.02) / 0.08) ** 2 < 1)
    spread = stride * (1 - v / 0.9)
    legs = ((np.abs(u - spread) < 0.1) | (np.abs(u + spread) < 0.1)) & (v >= 0) & (v < 0.9)
    patch.fill(legs | (patch.within(0.0) & (v >= 0) & (v < 0.9)), tuple(trousers.tolist()), label=PERSON)
    torso = (np.abs(u) < 0.25 - 0.05 * np.abs(v - 1.3)) | patch.within(0.0)
    patch.fill(torso & (v >= 0.82) & (v < 1.5), tuple(coat.tolist()), label=PERSON)
    head = (u / 0.12) ** 2 + ((v - 1.62) / 0.14) ** 2 < 1
    skin = _SKINS[generator.integers(len(_SKINS))]
    patch.fill(head, skin, label=PERSON)
    patch.fill(head & (v > 1.66), (44.0, 34.0, 28.0), label=PERSON)
