"""Made-up street scenes with exact labels, rendered in perspective from a random town.

What a model needs to see is chosen on purpose: road and pavement are the same asphalt, terrain and
vegetation the same green, and dull facades have the colour of a dull sky: only their place tells them
apart (a large field of view pays). Poles and far people are one or two pixels wide (resolution pays).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segsweep.data.sources.street_canvas import Camera, Canvas, Floats, grain, smooth_noise, surface_noise
from segsweep.data.sources.street_objects import VEGETATION, Draw, draw_car, draw_person, draw_pole, draw_tree
from segsweep.labels import IGNORE_INDEX

RENDERER_VERSION: Final = (
    1  # raise it whenever a seed gives another picture: cached shards are then made anew
)

CLASSES: Final = {  # colours of Cityscapes' classes of these names
    "sky": (70, 130, 180),
    "building": (70, 70, 70),
    "road": (128, 64, 128),
    "pavement": (244, 35, 232),
    "terrain": (152, 251, 152),
    "vegetation": (107, 142, 35),
    "pole": (220, 220, 0),
    "car": (0, 0, 142),
    "person": (220, 20, 60),
}
SKY: Final = 0
BUILDING: Final = 1
ROAD: Final = 2
PAVEMENT: Final = 3
TERRAIN: Final = 4

_FAR = 90.0  # metres: nothing stands beyond
_STOREY = 3.1


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One side of the street: distances from the camera's axis in metres.

    Attributes:
        road, pavement, facade: Where the road, the pavement and the terrain end.
        ends: Where each block of houses ends, along the street; ``heights``: 0 for a gap.
        paints: ``(blocks, 3)`` colours; ``pitches``: metres from window to window.
        windows: Whether a block has any: without, a dull facade is a dull sky but for its place.
    """

    road: float
    pavement: float
    facade: float
    ends: Floats
    heights: Floats
    paints: Floats
    pitches: Floats
    windows: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Light:
    """Weather and sun of a scene; colours in 0..255."""

    sky: Floats
    haze: float  # per metre
    gain: float
    tint: Floats
    shadow_side: int  # -1 left, 1 right
    shadow_reach: float  # metres from the facade; 0 under clouds
    clouds: float


def render_street(
    generator: np.random.Generator, *, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one scene.

    Args:
        generator: The only source of chance.
        height: Pixels; ``width`` likewise.

    Returns:
        RGB image uint8 ``(height, width, 3)`` and labels uint8 ``(height, width)``: ids in the order of
        ``CLASSES``, and the ignore index on the bonnet and the black borders of a few scenes.
    """
    camera = Camera(
        focal=width * generator.uniform(0.5, 0.75),
        horizon=height * generator.uniform(0.36, 0.52),
        centre=width * generator.uniform(0.33, 0.67),
        eye=generator.uniform(1.3, 1.9),
    )
    canvas = Canvas(height, width, camera)
    sides = {-1: _random_side(generator), 1: _random_side(generator)}
    light = _random_light(generator)
    _paint_sky(canvas, generator, light)
    _paint_ground(canvas, generator, sides, light)
    for sign, side in sides.items():
        _paint_facades(canvas, side, sign, shaded=sign == light.shadow_side and light.shadow_reach > 0)
    _draw_objects(canvas, generator, sides)
    image = _exposed(canvas, generator, light)
    _mark_void(image, canvas.labels, generator)
    return image, canvas.labels


def _random_side(generator: np.random.Generator) -> _Side:
    road = generator.uniform(2.8, 7.5)
    pavement = road + generator.uniform(1.6, 4.5)
    facade = pavement + generator.choice([0.0, generator.uniform(2, 9)], p=(0.45, 0.55))
    lengths = generator.uniform(6, 26, size=14).astype(np.float32)
    heights = generator.uniform(4.5, 24, size=14).astype(np.float32)
    heights[generator.random(14) < generator.choice([0.1, 0.45])] = 0
    tone = generator.uniform(75, 205, size=(14, 1))
    paints = (tone * generator.uniform((0.95, 0.84, 0.72), (1.08, 1.02, 1.02), size=(14, 3))).astype(
        np.float32
    )
    return _Side(
        road=road,
        pavement=pavement,
        facade=max(facade, pavement + 0.1),
        ends=np.cumsum(lengths, dtype=np.float32),
        heights=heights,
        paints=paints,
        pitches=generator.uniform(1.8, 3.4, size=14).astype(np.float32),
        windows=generator.random(14) < 0.8,
    )


def _random_light(generator: np.random.Generator) -> _Light:
    sunny = generator.random() < 0.55
    blue, dull = np.array([118, 162, 214]), np.array([186, 190, 194])
    warmth = generator.uniform(-0.06, 0.06)
    return _Light(
        sky=((blue if sunny else dull) * generator.uniform(0.85, 1.12)).astype(np.float32),
        haze=generator.choice([0.002, 0.006, 0.02], p=(0.4, 0.45, 0.15)),
        gain=generator.uniform(0.55, 1.15),
        tint=np.array([1 + warmth, 1.0, 1 - warmth], np.float32),
        shadow_side=int(generator.choice([-1, 1])),
        shadow_reach=generator.uniform(2, 9) if sunny else 0.0,
        clouds=generator.uniform(0, 26),
    )


def _paint_sky(canvas: Canvas, generator: np.random.Generator, light: _Light) -> None:
    """Sky, and far trees and houses in front of the horizon."""
    height, width = canvas.labels.shape
    horizon = canvas.camera.horizon
    rise = np.clip(1 - canvas.rows / horizon, 0, 1)[..., None]
    clouds = light.clouds * smooth_noise(generator, (height, width), zoom=128 / height)[..., None]
    canvas.colours[:] = light.sky + (232 - light.sky) * 0.55 * (1 - rise) + clouds
    profile = smooth_noise(generator, (1, width), zoom=300 / width)
    tall = 0.02 * height * np.maximum(0, 1.5 + 1.2 * profile)
    above = (canvas.rows > horizon - tall) & (canvas.rows <= horizon)
    wood = np.broadcast_to(smooth_noise(generator, (1, width), zoom=150 / width) > -0.2, above.shape)
    for mask, colour, label in (
        (above & wood, (66.0, 86.0, 56.0), VEGETATION),
        (above & ~wood, (120.0, 112.0, 108.0), BUILDING),
    ):
        canvas.colours[mask] = colour
        canvas.labels[mask] = label
        canvas.depth[mask] = _FAR


def _paint_ground(
    canvas: Canvas, generator: np.random.Generator, sides: dict[int, _Side], light: _Light
) -> None:
    camera = canvas.camera
    first = min(int(np.ceil(camera.horizon)), len(canvas.rows) - 1)
    z = camera.focal * camera.eye / np.maximum(canvas.rows[first:] - camera.horizon, 0.05)
    x = (canvas.columns - camera.centre) * z / camera.focal
    left, right = sides[-1], sides[1]
    borders = np.array([-left.pavement, -left.road, right.road, right.pavement], np.float32)
    kinds = np.array([TERRAIN, PAVEMENT, ROAD, PAVEMENT, TERRAIN], np.uint8)
    labels = kinds[np.searchsorted(borders, x)]
    if generator.random() < 0.4:  # a side street
        crossing = generator.uniform(12, 45)
        labels[((z > crossing) & (z < crossing + generator.uniform(6, 11)))[:, 0]] = ROAD
    tones = _ground_colours(generator)
    colours = tones[labels]
    texture = surface_noise(x, np.broadcast_to(z, x.shape), per_metre=12)
    colours += (9 * texture)[..., None]
    _paint_markings(colours, labels, generator, x=x, z=z, sides=sides)
    if light.shadow_reach:
        edge = sides[light.shadow_side].facade - light.shadow_reach
        ragged = edge + 0.8 * np.sign(np.sin(z / generator.uniform(3, 7)))
        colours[x * light.shadow_side > ragged] *= 0.5
    canvas.colours[first:] = colours
    canvas.labels[first:] = labels
    canvas.depth[first:] = z


def _ground_colours(generator: np.random.Generator) -> Floats:
    """Colours by class id: road and pavement are greys of the same range, either may be the lighter."""
    tones = np.zeros((len(CLASSES), 3), np.float32)
    for kind in (ROAD, PAVEMENT):
        tones[kind] = generator.uniform(88, 142) * np.array([1.0, 0.99, 0.97])
    tones[TERRAIN] = np.array([70.0, 96.0, 48.0]) * generator.uniform(0.85, 1.3)
    return tones


def _paint_markings(
    colours: Floats,
    labels: NDArray[np.uint8],
    generator: np.random.Generator,
    *,
    x: Floats,
    z: Floats,
    sides: dict[int, _Side],
) -> None:
    """Lane lines, now and then a zebra crossing and kerb stones."""
    road = labels == ROAD
    middle = (sides[1].road - sides[-1].road) / 2
    dashes = (z % 7.0 < 3.5) | (generator.random() < 0.2)
    if generator.random() < 0.8:
        colours[road & (np.abs(x - middle) < 0.09) & dashes] = 205
    if generator.random() < 0.3:
        start = generator.uniform(7, 25)
        colours[road & (x % 1.0 < 0.5) & (z > start) & (z < start + 3)] = 212
    if generator.random() < 0.5:
        kerb = np.minimum(np.abs(x - sides[1].road), np.abs(x + sides[-1].road)) < 0.12
        colours[kerb & (labels == PAVEMENT)] *= 1.25


def _paint_facades(canvas: Canvas, side: _Side, sign: int, *, shaded: bool) -> None:
    """Houses along the street: the plane x = facade, cut into blocks of their own height and colour."""
    camera = canvas.camera
    offset = (canvas.columns[0] - camera.centre) * sign
    columns = np.flatnonzero(offset > camera.focal * side.facade / _FAR)  # the plane's part nearer than _FAR
    if columns.size == 0:
        return
    view = np.s_[:, columns[0] : columns[-1] + 1]
    z = camera.focal * side.facade / offset[columns]  # (w,): where each column's ray meets the plane
    block = np.minimum(np.searchsorted(side.ends, z), len(side.ends) - 1)
    tall, pitch = side.heights[block], side.pitches[block]
    level = camera.eye - (canvas.rows - camera.horizon) * (z / camera.focal)  # (H, w): metres above ground
    frame = (z % pitch > 0.35 * pitch) & (z % pitch < 0.8 * pitch) & (z < 55) & side.windows[block]
    floor = level % _STOREY
    window = frame & (floor > 1.0) & (floor < 2.4) & (level < tall - 0.9)
    light = np.where(window, 0.4, np.where(level < 0.6, 0.8, 1.0)) * (0.62 if shaded else 1.0)
    mask = (level >= 0) & (level < tall)
    canvas.colours[view][mask] = (light[..., None] * side.paints[block])[mask]
    canvas.labels[view][mask] = BUILDING
    canvas.depth[view][mask] = np.broadcast_to(z, mask.shape)[mask]


def _draw_objects(canvas: Canvas, generator: np.random.Generator, sides: dict[int, _Side]) -> None:
    """Everything that stands on the ground, from far to near."""
    things: list[tuple[float, float, Draw]] = []
    for sign, side in sides.items():
        spacing = generator.uniform(9, 22)
        rows = np.arange(generator.uniform(4, spacing), 70, spacing)
        things += [(float(z), sign * (side.road + 0.45), draw_pole) for z in rows]
        verge = max(side.facade - side.pavement, 0.0)
        for z in _depths(generator, mean=3.0 if verge > 1 else 0.8, nearest=6):
            things.append((z, sign * (side.pavement + generator.uniform(0, verge)), draw_tree))
        for z in _depths(generator, mean=2.0, nearest=6):
            things.append((z, sign * (side.road - 1.1), draw_car))  # parked
        for z in _depths(generator, mean=3.5, nearest=4.5):
            things.append((z, sign * generator.uniform(side.road + 0.3, side.pavement), draw_person))
    middle = (sides[1].road - sides[-1].road) / 2
    for z in _depths(generator, mean=2.0, nearest=7):
        things.append((z, middle + generator.choice([-1.7, 1.7]), draw_car))
    for z in _depths(generator, mean=0.5, nearest=8):
        things.append((z, generator.uniform(-sides[-1].road, sides[1].road), draw_person))
    for z, x, draw in sorted(things, key=lambda thing: -thing[0]):
        draw(canvas, generator, x, z)


def _depths(generator: np.random.Generator, *, mean: float, nearest: float) -> list[float]:
    """Distances of a random number of things, denser near the camera than a uniform draw."""
    share = generator.random(generator.poisson(mean))
    return [float(z) for z in nearest * (70 / nearest) ** share]


def _exposed(canvas: Canvas, generator: np.random.Generator, light: _Light) -> NDArray[np.uint8]:
    """Haze, exposure and noise: from scene colours to camera pixels."""
    shape = canvas.labels.shape
    clear = np.where(canvas.labels == SKY, 1, np.exp(-light.haze * canvas.depth))[..., None]
    hazy = light.sky * 0.7 + 70
    colours = hazy + (canvas.colours - hazy) * clear
    uneven = 1 + 0.05 * smooth_noise(generator, shape, zoom=200 / shape[1])
    strength = generator.uniform(2, 7)
    colours *= (light.gain * uneven)[..., None] * light.tint
    colours += strength * grain(generator, shape)
    image: NDArray[np.uint8] = np.clip(colours, 0, 255).astype(np.uint8)
    return image


def _mark_void(image: NDArray[np.uint8], labels: NDArray[np.uint8], generator: np.random.Generator) -> None:
    """The camera car's bonnet in a quarter of the scenes, black borders of rectification in a tenth."""
    height, width = labels.shape
    if generator.random() < 0.25:
        rows, columns = np.ogrid[:height, :width]
        middle, reach = width * generator.uniform(0.4, 0.6), width * generator.uniform(0.4, 0.6)
        tall = height * generator.uniform(0.06, 0.16)
        bonnet = ((columns - middle) / reach) ** 2 + ((rows - height) / tall) ** 2 < 1
        image[bonnet] = image[bonnet] // 6 + int(generator.integers(10, 60))
        labels[bonnet] = IGNORE_INDEX
    if generator.random() < 0.1:
        border = max(1, round(height * 0.02))
        for edge in np.s_[:border], np.s_[-border:], np.s_[:, :border], np.s_[:, -border:]:
            image[edge] = 0
            labels[edge] = IGNORE_INDEX
