"""A scene under construction: random numbers, camera, and the tables of objects and materials for the renderer."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from panscape.datasets.town.meshes import town_meshes

Color = tuple[float, float, float]
Material = tuple[float, ...]
T = TypeVar("T")

SKY, BUILDING, ROAD, PAVEMENT, VEGETATION, WATER = range(1, 7)
PERSON, ANIMAL, CAR, BUS, BICYCLE, BOAT, TREE, PARASOL = range(6, 14)
GROUND, CASTING, SHADOWLESS = 0, 1, 2
SMALLEST_EXTENT, LARGEST_EXTENT = 24.0, 540.0


class Rng:
    """Random numbers, the same on every machine: uniform draws of one seeded generator, in order."""

    def __init__(self, seed: int, index: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
        self._draws: list[float] = []

    def draw(self) -> float:
        """Return a uniform random number in [0, 1)."""
        if not self._draws:
            self._draws = self._generator.random(2048).tolist()
        return self._draws.pop()

    def between(self, low: float, high: float) -> float:
        """Return a uniform random number in [``low``, ``high``)."""
        return low + (high - low) * self.draw()

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.draw() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """Return a random element of ``choices``."""
        return choices[int(self.draw() * len(choices))]

    def color(self, palette: Sequence[Color], spread: float = 0.08) -> Color:
        """Return a random color near one of ``palette``."""
        r, g, b = self.pick(palette)
        light = 1.0 + spread * (2 * self.draw() - 1)
        return (r * light + spread * (self.draw() - 0.5), g * light, b * light + spread * (self.draw() - 0.5))


def turn(angle: float) -> tuple[float, float]:
    """Return cosine and sine, rounded so that math libraries that differ in the last bit give the same values."""
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


@dataclass(frozen=True, slots=True)
class Camera:
    """The camera: position, orientation, focal length and image size."""

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    focal: float
    center: tuple[float, float]
    size: tuple[int, int]

    def table(self) -> NDArray[np.float64]:
        """Return the camera row for the renderer."""
        (c, s), (cp, sp) = turn(self.yaw), turn(self.pitch)
        rotation = (c, 0.0, -s, -s * sp, -cp, -c * sp, s * cp, -sp, c * cp)
        return np.array([*self.position, *rotation, self.focal, *self.center, 0.3])


def material(
    color: Color,
    ink: Color = (0, 0, 0),
    grid: tuple[float, float, float, float] = (0, 0, 0, 0),
    noise: tuple[float, float] = (0.06, 24.0),
    glow: float = 0.0,
    lit: float = 0.0,
    stagger: float = 0.0,
    vary: float = 0.0,
) -> Material:
    """Return the row of a material; see :mod:`panscape.datasets.town.renderer`."""
    return (*color, *ink, *grid, *noise, glow, lit, stagger, vary)


@dataclass(slots=True)
class Scene:
    """The objects and materials of a scene under construction, seen by one camera."""

    rng: Rng
    camera: Camera
    is_night: bool = False
    materials: list[Material] = field(default_factory=list)
    ground: list[tuple[float, ...]] = field(default_factory=list)
    things: list[tuple[float, ...]] = field(default_factory=list)
    categories: list[int] = field(default_factory=lambda: list(range(6)))
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    axes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self.axes = tuple(self.camera.table().tolist())

    @property
    def is_street(self) -> bool:
        """Whether the camera is in the street rather than above the town."""
        return self.camera.pitch < 0.7

    def locate(self, x: float, z: float, y: float = 0.8) -> tuple[float, float, float]:
        """Return column, row and depth (metres along the viewing axis) of a world point."""
        a = self.axes
        x, y, z = x - a[0], y - a[1], z - a[2]
        depth = a[9] * x + a[10] * y + a[11] * z
        near = max(depth, 0.3)
        column = a[13] + a[12] * (a[3] * x + a[4] * y + a[5] * z) / near
        row = a[14] + a[12] * (a[6] * x + a[7] * y + a[8] * z) / near
        return column, row, depth

    def sees(self, x: float, z: float, extent: float) -> bool:
        """Return whether an object of ``extent`` metres at (x, z) is in the image, neither too small nor too large."""
        column, row, depth = self.locate(x, z)
        if depth < 0.8:
            return False
        pixels = self.camera.focal * extent / depth
        height, width = self.camera.size
        largest = min(LARGEST_EXTENT, 0.97 * max(height, 0.6 * width)) if self.is_street else LARGEST_EXTENT
        if not SMALLEST_EXTENT <= pixels <= largest:
            return False
        margin = 0.4 * pixels
        return -margin < column < width + margin and -margin < row < height + margin

    def is_free(self, x: float, z: float, radius: float) -> bool:
        """Return whether a circle on the ground overlaps none of ``taken`` (x, z, radius)."""
        return not any((x - a) ** 2 + (z - b) ** 2 < (radius + r) ** 2 for a, b, r in self.taken)

    def new_segment(self, category: int) -> int:
        """Add a segment of a category and return its id."""
        self.categories.append(category)
        return len(self.categories)

    def lay(self, segment: int, x0: float, z0: float, x1: float, z1: float, surface: Material) -> None:
        """Add a rectangle of ground on top of earlier ones."""
        model = town_meshes().table["ground"]
        self.ground.append((model.first, 1, segment, len(self.materials), x0, 0, z0, 1, 0, x1 - x0, 1, z1 - z0, GROUND))
        self.materials.append(surface)

    def put(
        self,
        name: str,
        segment: int,
        place: tuple[float, float],
        yaw: float,
        scale: tuple[float, float, float],
        surfaces: Sequence[Material],
        layer: int = CASTING,
        y: float = 0.0,
    ) -> None:
        """Place a model; ``surfaces`` are the materials of its slots."""
        model = town_meshes().table[name]
        c, s = turn(yaw)
        x, z = place
        self.things.append((model.first, model.count, segment, len(self.materials), x, y, z, c, s, *scale, layer))
        self.materials.extend(surfaces)

    def tables(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return objects and materials for the renderer, near objects first, since they occlude others."""
        px, _, pz = self.camera.position
        near_first = sorted(self.things, key=lambda t: (t[4] - px) ** 2 + (t[6] - pz) ** 2)
        return np.array(near_first + self.ground[::-1]), np.array(self.materials)


@functools.cache
def noise_tile(cells: int = 512) -> NDArray[np.float32]:
    """Return a periodic texture, float32 [cells, cells], about -1..1 around 0: value noise of seven octaves."""
    generator = np.random.Generator(np.random.PCG64(20))
    total = np.zeros((cells, cells))
    strength = 1.0
    for octave in range(2, 9):
        coarse = generator.random((2**octave, 2**octave)) * 2 - 1
        steps = cells // 2**octave
        t = (np.arange(steps) + 0.5) / steps
        t = t * t * (3 - 2 * t)
        for axis in (0, 1):
            shape = [1, 1, 1]
            shape[axis + 1] = steps
            weight = t.reshape(shape) if axis == 0 else t.reshape(1, 1, steps)
            following = np.roll(coarse, -1, axis)
            stacked = np.stack([coarse + (following - coarse) * value for value in weight.reshape(-1)], axis + 1)
            coarse = stacked.reshape((-1, coarse.shape[1]) if axis == 0 else (coarse.shape[0], -1))
        total += strength * coarse
        strength *= 0.68
    return np.asarray(total / np.abs(total).max(), dtype=np.float32)


@functools.cache
def sensor_noise(length: int = 65536) -> NDArray[np.float32]:
    """Return sensor noise, float32 [length], mean 0 and variance 1: sums of uniform draws, the same on all machines."""
    draws = np.random.Generator(np.random.PCG64(21)).random((4, length))
    return np.asarray((draws.sum(axis=0) - 2.0) * 3.0**0.5, dtype=np.float32)
