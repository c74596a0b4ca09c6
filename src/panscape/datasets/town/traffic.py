"""Dynamic objects of the town: traffic, people, animals and boats; and the backdrop of a street."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from panscape.datasets.town.objects import (
    put_animal,
    put_bicycle,
    put_boat,
    put_building,
    put_lamp,
    put_parasol,
    put_person,
    put_tree,
    put_vehicle,
)
from panscape.datasets.town.scene import VEGETATION, Material, Rng, Scene, material, turn

Rect = tuple[float, float, float, float]  # x0, z0, x1, z1


@dataclass(slots=True)
class Areas:
    """The areas where objects may be placed."""

    pavements: list[Rect] = field(default_factory=list)
    parks: list[Rect] = field(default_factory=list)
    plazas: list[Rect] = field(default_factory=list)
    waters: list[Rect] = field(default_factory=list)
    parkings: list[Rect] = field(default_factory=list)


def add_ego_hood(scene: Scene) -> None:
    """Add the hood of the ego vehicle, which is void, as in Cityscapes."""
    rng, (x, y, z) = scene.rng, scene.camera.position
    c, s = turn(scene.camera.yaw)
    paint = material((rng.draw() * 0.6, rng.draw() * 0.6, rng.draw() * 0.6), noise=(0.1, 4.0))
    ahead, drop = 1.5, rng.between(0.55, 0.8)
    size = (1.7, max(y - drop, 0.3), 1.2)
    scene.put("block", 0, (x + s * ahead, z + c * ahead), scene.camera.yaw, size, [paint, paint])


def add_backdrop(scene: Scene, z: float, grass: Material) -> None:
    """Add hills or a distant skyline at the end of the street."""
    rng = scene.rng
    is_city = rng.chance(0.5)
    x = -z * 1.2
    while x < z * 1.2:
        step = rng.between(0.05, 0.16) * z
        if is_city:
            if rng.chance(0.8):
                put_building(scene, (x, z + 20, x + step, z + 40), rng.between(0.03, 0.16) * z, far=True)
        else:
            leaves = (grass[0] * 0.8, grass[1] * 0.8, grass[2] * 0.8)
            size = (step, rng.between(0.4, 1.0) * step, step)
            scene.put("bush", VEGETATION, (x, z + 30), 0.0, size, [material(leaves, noise=(0.4, 6.0))], 2)
        x += step


def add_traffic(
    scene: Scene,
    a: float,
    b: float,
    start: float,
    end: float,
    *,
    along_z: bool,
    keep_clear: Sequence[tuple[float, float]] = (),
) -> None:
    """Add traffic on both lanes of a road, and parked cars at its edges."""
    rng = scene.rng
    width = b - a
    jam = rng.pick((0.1, 0.25, 0.5))
    lanes = [(a + width * 0.28, -1, jam), (a + width * 0.72, 1, jam * rng.between(0.3, 1.0))]
    if width > 9.5:
        lanes = [(a + width * 0.36, -1, jam), (a + width * 0.64, 1, jam), (a + 1.2, -1, 0.5), (b - 1.2, 1, 0.5)]
    px, _, pz = scene.camera.position
    for lane, heading, density in lanes:
        at = start + rng.between(0.0, 8.0)
        while at < end:
            x, z = (lane, at) if along_z else (at, lane)
            yaw = (0.0 if heading > 0 else math.pi) if along_z else (math.pi / 2 if heading < 0 else -math.pi / 2)
            length = 5.5
            is_clear = not any(low < at < high for low, high in keep_clear) and scene.is_free(x, z, 3.0)
            if is_clear and rng.chance(density) and abs(x - px) + abs(z - pz) > 5.0:
                length = put_vehicle(scene, x, z, yaw)
            at += length + rng.between(0.6, 3.0)


def _spot(rng: Rng, rect: Rect, margin: float = 0.6) -> tuple[float, float]:
    a, c, b, d = rect
    mx, mz = min(margin, (b - a) / 2), min(margin, (d - c) / 2)
    return rng.between(a + mx, b - mx), rng.between(c + mz, d - mz)


def add_actors(scene: Scene, areas: Areas, is_street: bool) -> None:
    """Place people, animals and other objects in every area."""
    rng = scene.rng
    crowd = rng.pick((0.5, 1.0, 1.8))
    avenue = rng.chance(0.35)
    for rect in areas.pavements:
        a, c, b, d = rect
        length = max(b - a, d - c)
        for _ in range(int(crowd * length / 11 + rng.draw())):
            _put_group(scene, *_spot(rng, rect, 0.4))
        if avenue:
            step = rng.between(7.0, 14.0)
            for i in range(int(length / step)):
                t = (i + 0.5) * step
                put_tree(scene, *((a + 0.7, c + t) if d - c > b - a else (a + t, c + 0.7)))
        if is_street:
            for i in range(int(length / 22)):
                put_lamp(scene, a + 0.4 if a > 0 else b - 0.4, c + 5 + 22 * i)
        if rng.chance(0.45):
            x, z = _spot(rng, rect)
            for i in range(int(rng.between(1, 5))):
                put_bicycle(scene, x, z + 0.75 * i, rng.between(1.3, 1.8), rider=False)
    for rect in areas.parks:
        for _ in range(int(rng.between(2, 4 + _area(rect) / 120))):
            put_tree(scene, *_spot(rng, rect, 2.0))
        for _ in range(int(rng.between(0, 5))):
            put_animal(scene, *_spot(rng, rect))
        for _ in range(int(crowd * rng.between(0, 3))):
            _put_group(scene, *_spot(rng, rect))
    for rect in areas.plazas:
        _furnish_plaza(scene, rect, crowd)
    for rect in areas.parkings:
        _park_cars(scene, rect)
    for rect in areas.waters:
        _moor_boats(scene, rect)


def _area(rect: Rect) -> float:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def _put_group(scene: Scene, x: float, z: float) -> None:
    rng = scene.rng
    fate = rng.draw()
    if not scene.sees(x, z, 1.75 if scene.is_street else 0.6):
        return
    if fate < 0.25:
        put_bicycle(scene, x, z, rng.pick((0.0, math.pi)) + rng.between(-0.3, 0.3), rider=True)
        return
    yaw = rng.between(0.0, 2 * math.pi)
    for i in range(rng.pick((1, 1, 1, 2, 2, 3, 4))):
        put_person(
            scene, x + 0.55 * i + rng.between(-0.2, 0.2), z + rng.between(-0.5, 0.5), yaw + rng.between(-0.4, 0.4)
        )
    if fate > 0.75:
        put_animal(scene, x - 0.7, z + rng.between(-0.4, 0.4), pet=True)
    elif fate > 0.65:
        put_parasol(scene, x + 1.6, z + 1.2)


def _furnish_plaza(scene: Scene, rect: Rect, crowd: float) -> None:
    rng = scene.rng
    step = rng.between(3.4, 5.0)
    a, c, b, d = rect
    share = rng.between(0.2, 0.8)
    for i in range(int((b - a) / step)):
        for j in range(int((d - c) / step)):
            if rng.chance(share):
                put_parasol(scene, a + (i + 0.5) * step, c + (j + 0.5) * step)
    for _ in range(int(crowd * (2 + _area(rect) / 90))):
        _put_group(scene, *_spot(rng, rect))
    for _ in range(int(rng.between(0, 5))):
        put_tree(scene, *_spot(rng, rect, 2.0))


def _park_cars(scene: Scene, rect: Rect) -> None:
    rng = scene.rng
    a, c, b, d = rect
    z = c + 3.0
    while z < d - 2.5:
        for i in range(int((b - a) / 2.7)):
            if rng.chance(0.7):
                put_vehicle(scene, a + (i + 0.5) * 2.7, z, rng.pick((0.0, math.pi)), bus=0.0)
        z += 5.4 if rng.chance(0.5) else 10.0


def _moor_boats(scene: Scene, rect: Rect) -> None:
    rng = scene.rng
    a, c, b, d = rect
    is_small = min(b - a, d - c) < 14
    count = 1.5 + rng.between(0.3, 1.0) * _area(rect) / 160
    taken = list(scene.taken)
    for _ in range(int(count)):
        x, z = _spot(rng, rect, 2.2 if is_small else 4.0)
        size = put_boat(scene, x, z, rng.between(-0.25, 0.25) + rng.pick((0.0, math.pi)), is_small, taken)
        if size:
            taken.append((x, z, size))
