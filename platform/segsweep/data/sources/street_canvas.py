"""Camera, canvas and noise of the made-up street scenes; lengths in metres, x to the right, z ahead."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Colour = tuple[float, float, float] | Floats

_TILE = 512  # pixels of a noise tile's side; tiles wrap around


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera that looks straight ahead.

    Attributes:
        focal: Focal length in pixels.
        horizon: Row of the horizon; ``centre``: column of the vanishing point.
        eye: Height of the camera above the ground in metres.
    """

    focal: float
    horizon: float
    centre: float
    eye: float


class Canvas:
    """Colours, labels and depth of a picture; whatever is painted later lies in front."""

    def __init__(self, height: int, width: int, camera: Camera) -> None:
        self.camera = camera
        self.colours = np.zeros((height, width, 3), np.float32)  # 0..255, may go beyond until the end
        self.labels = np.zeros((height, width), np.uint8)
        self.depth = np.full((height, width), np.inf, np.float32)  # metres
        self.rows = np.arange(height, dtype=np.float32)[:, None] + 0.5
        self.columns = np.arange(width, dtype=np.float32)[None] + 0.5


class Patch:
    """The part of a canvas that an upright object may cover, in the object's own metres.

    Attributes:
        u: ``(1, w)`` metres to the right of the object's axis.
        v: ``(h, 1)`` metres above the ground.
        pixel: Width of a pixel at the object's distance, in metres.
    """

    def __init__(
        self,
        canvas: Canvas,
        x: float,
        z: float,
        *,
        half_width: float,
        top: float,
        bottom: float = 0.0,
    ) -> None:
        camera = canvas.camera
        self.pixel = z / camera.focal
        self._depth = z
        axis = camera.centre + x / self.pixel
        height, width = canvas.labels.shape
        reach = half_width / self.pixel + 1
        left, right = (min(max(int(axis + side), 0), width) for side in (-reach, reach + 1))
        first, last = (
            min(max(int(camera.horizon + (camera.eye - end) / self.pixel), 0), height)
            for end in (top, bottom - self.pixel)
        )
        window = slice(first, last), slice(left, right)
        self.colours, self._labels = canvas.colours[window], canvas.labels[window]
        self._depths = canvas.depth[window]
        self.u = (canvas.columns[:, left:right] - axis) * self.pixel
        self.v = camera.eye - (canvas.rows[first:last] - camera.horizon) * self.pixel

    @property
    def empty(self) -> bool:
        """Whether the object lies outside the picture."""
        return self._labels.size == 0

    def fill(self, mask: Mask, colour: Colour, *, label: int) -> None:
        """Paint the pixels of a mask of the patch; an array gives one colour per pixel."""
        self.colours[mask] = colour[mask] if isinstance(colour, np.ndarray) else colour
        self._labels[mask] = label
        self._depths[mask] = self._depth

    def within(self, half_width: float) -> Mask:
        """Columns closer to the axis than ``half_width``, but never fewer than one."""
        columns: Mask = np.abs(self.u) <= max(half_width, 0.5 * self.pixel)
        return columns

    def shade(self, factor: float, mask: Mask) -> None:
        """Darken without changing labels: a shadow on what lies behind."""
        self.colours[mask] *= factor


@lru_cache(maxsize=1)
def _tiles() -> tuple[Floats, Floats]:
    """A smooth tile and one of film grain (three channels) that wrap around; mean 0, deviation 1."""
    generator = np.random.default_rng(20240229)
    smooth = np.zeros((_TILE, _TILE), np.float32)
    for cells, weight in ((8, 1.0), (16, 0.7), (32, 0.5), (64, 0.35)):
        smooth += weight * _upsampled(generator.standard_normal((cells, cells)))
    grey, colour = generator.standard_normal((_TILE, _TILE, 1)), generator.standard_normal((_TILE, _TILE, 3))
    return (smooth - smooth.mean()) / smooth.std(), (0.9 * grey + 0.44 * colour).astype(np.float32)


def _upsampled(cells: NDArray[np.float64]) -> Floats:
    """Cosine interpolation of a wrapping grid to a whole tile."""
    count = len(cells)
    position = np.arange(_TILE) * count / _TILE
    first = position.astype(int)
    weight = (1 - np.cos(np.pi * (position - first))) / 2
    second = (first + 1) % count
    rows = cells[first] * (1 - weight)[:, None] + cells[second] * weight[:, None]
    tile: Floats = (rows[:, first] * (1 - weight) + rows[:, second] * weight).astype(np.float32)
    return tile


def smooth_noise(generator: np.random.Generator, shape: tuple[int, int], *, zoom: float = 1.0) -> Floats:
    """Cloudy noise, mean 0 and deviation 1; features shrink with ``zoom``."""
    return _window(_tiles()[0], generator, shape, zoom)


def grain(generator: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Noise of a sensor, ``(*shape, 3)``: independent between pixels, alike in the channels."""
    return _window(_tiles()[1], generator, shape, 1.0)


def surface_noise(across: Floats, along: Floats, *, per_metre: float) -> Floats:
    """Noise fixed to a surface: the same metres always look the same, wherever the camera is."""
    rows = (along * per_metre).astype(np.int32) % _TILE
    columns = (across * per_metre).astype(np.int32) % _TILE
    smooth, grainy = _tiles()
    noise: Floats = 0.6 * smooth[rows, columns] + 0.8 * grainy[rows, columns, 0]
    return noise


def _window(tile: Floats, generator: np.random.Generator, shape: tuple[int, int], zoom: float) -> Floats:
    top, left = generator.integers(_TILE, size=2).tolist()
    rows = (top + np.arange(shape[0]) * zoom).astype(np.int64) % _TILE
    columns = (left + np.arange(shape[1]) * zoom).astype(np.int64) % _TILE
    window: Floats = tile.take(rows, axis=0).take(columns, axis=1)
    return window
