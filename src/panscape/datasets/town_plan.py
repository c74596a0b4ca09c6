"""The plan of the town: where roads, blocks and water lie, what stands on them, and the weather."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panscape.datasets.town_objects import (
    put_animal,
    put_bicycle,
    put_boat,
    put_building,
    put_bush,
    put_hero,
    put_lamp,
    put_parasol,
    put_person,
    put_tree,
    put_vehicle,
)
from panscape.datasets.town_scene import (
    PAVEMENT,
    ROAD,
    VEGETATION,
    WATER,
    Camera,
    Color,
    Dice,
    Material,
    Scene,
    material,
    turn,
)

Rect = tuple[float, float, float, float]  # x0, z0, x1, z1


@dataclass(slots=True)
class _Areas:
    """Where things may stand."""

    pavements: list[Rect] = field(default_factory=list)
    parks: list[Rect] = field(default_factory=list)
    plazas: list[Rect] = field(default_factory=list)
    waters: list[Rect] = field(default_factory=list)
    parkings: list[Rect] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Surfaces:
    """What the ground of one scene is made of."""

    road: Material
    pavement: Material
    grass: Material
    water: Material
    marking: Color

    @classmethod
    def draw(cls, dice: Dice) -> _Surfaces:
        grey = dice.between(0.22, 0.42)
        tint = dice.between(-0.03, 0.03)
        stone = dice.between(0.45, 0.68)
        slab = dice.between(0.5, 1.6)
        joint = (stone * 0.8, stone * 0.78, stone * 0.75)
        warm = dice.between(0.0, 0.1)
        green = dice.between(0.3, 0.48)
        pavement = material(
            joint,
            (stone + warm, stone + 0.3 * warm, stone - 0.3 * warm),
            (slab, slab, 0.93, 0.93),
            (0.16, 20.0),
            stagger=dice.pick((0.0, 0.5)),
            vary=dice.between(0.05, 0.3),
        )
        grass = material(
            (green * dice.between(0.6, 1.0), green, green * dice.between(0.25, 0.5)),
            noise=(dice.between(0.3, 0.6), 22.0),
        )
        blue = dice.between(0.25, 0.5)
        water = material(
            (blue * dice.between(0.35, 0.7), blue * dice.between(0.75, 0.95), blue),
            noise=(dice.between(0.2, 0.5), dice.between(12.0, 26.0)),
        )
        road = material((grey + tint, grey, grey - tint), noise=(dice.between(0.15, 0.35), 30.0))
        return cls(road, pavement, grass, water, dice.pick(((0.9, 0.9, 0.88), (0.9, 0.75, 0.3))))


def build_town(dice: Dice, size: tuple[int, int], view: str) -> tuple[Scene, NDArray[np.float64], NDArray[np.float64]]:
    """Return a scene, its light and its air (see :mod:`panscape.kernels.painting`).

    Args:
        dice: the sample's chance.
        size: height and width in pixels.
        view: "street" or "above".
    """
    is_street = view == "street"
    is_night = dice.chance(0.1)
    half = dice.between(3.2, 6.5)
    if is_street:
        scene, reach = _from_the_street(dice, size, half)
    else:
        scene, reach = _from_above(dice, size)
    scene.is_night = is_night
    columns = _street_columns(dice, half) if is_street else _strips(dice, reach, 0.25)
    rows = (
        [(a - 22.0, b - 22.0, u) for a, b, u in _strips(dice, reach, 0.0, 0.0)]
        if is_street
        else _strips(dice, reach, 0.0)
    )
    _lay_out(scene, columns, rows, is_street)
    light, air = _weather(dice, scene, is_street)
    return scene, light, air


def _from_the_street(dice: Dice, size: tuple[int, int], half: float) -> tuple[Scene, float]:
    height, width = size
    focal = height * dice.between(0.85, 1.25)
    above = dice.between(1.3, 2.4) if dice.chance(0.65) else dice.between(2.4, 6.5)
    pitch = dice.between(-0.06, 0.08) + 0.03 * (above - 1.3)
    center = (width * dice.between(0.4, 0.6), height * dice.between(0.42, 0.58))
    camera = Camera((half * dice.between(-0.9, 0.9), above, 0.0), dice.between(-0.28, 0.28), pitch, focal, center, size)
    # Farther than this even a bus is below the smallest extent.
    return Scene(dice, camera), min(focal * 3.2 / 8.0, 420.0)


def _from_above(dice: Dice, size: tuple[int, int]) -> tuple[Scene, float]:
    height, width = size
    largest = 64.0 * min(max(max(height, width) / 256.0, 1.0), 1.6)
    car = 11.0 * (largest / 11.0) ** round(dice.draw(), 6)
    focal = 1.8 * max(height, width)
    altitude = focal / (round(car, 6) / 4.4)
    tilt = dice.between(0.0, 0.5) if dice.chance(0.6) else 0.0
    yaw = dice.between(0.0, 2 * math.pi)
    c, s = turn(yaw)
    cp, sp = turn(math.pi / 2 - tilt)
    position = (-s * cp * altitude, sp * altitude, -c * cp * altitude)
    camera = Camera(position, yaw, math.pi / 2 - tilt, focal, (width / 2, height / 2), size)
    reach = 0.6 * math.hypot(height, width) * 4.4 / round(car, 6) * (1 + 0.8 * tilt)
    return Scene(dice, camera), reach


Strip = tuple[float, float, str]  # from, to, what: road, block or water


def _strips(dice: Dice, reach: float, water: float, start: float | None = None) -> list[Strip]:
    """Cut the axis into blocks and roads, and at times a river."""
    at = (-reach - dice.between(0.0, 40.0)) if start is None else start
    strips: list[Strip] = []
    while at < reach:
        block = dice.between(22.0, 60.0)
        strips.append((at, at + block, "water" if dice.chance(water) else "block"))
        at += block
        road = dice.between(6.5, 12.0)
        strips.append((at, at + road, "road"))
        at += road
    return strips


def _street_columns(dice: Dice, half: float) -> list[Strip]:
    canal = dice.chance(0.16)
    far = dice.between(34.0, 60.0)
    left = right = "block"
    if not canal and dice.chance(0.3):
        left, right = ("water", "block") if dice.chance(0.5) else ("block", "water")
    return [(-far, -half, left), (-half, half, "canal" if canal else "road"), (half, far, right)]


def _lay_out(scene: Scene, columns: list[Strip], rows: list[Strip], is_street: bool) -> None:
    dice, areas = scene.dice, _Areas()
    surfaces = _Surfaces.draw(dice)
    x0, x1, z0, z1 = columns[0][0], columns[-1][1], rows[0][0], rows[-1][1]
    scene.lay(VEGETATION, -2500, -60, 2500, 2500, surfaces.grass) if is_street else None
    scene.lay(ROAD, x0, z0, x1, z1, surfaces.road)
    rim = dice.between(1.6, 4.0)
    style = dice.between(4.0, 18.0)
    for a, b, use in columns:
        if use in ("water", "canal"):
            edge = dice.between(1.5, 3.5) if use == "water" else 0.0
            scene.lay(PAVEMENT, a, z0, b, z1, surfaces.pavement)
            scene.lay(WATER, a + edge, z0, b - edge, z1, surfaces.water)
            if is_street:
                areas.waters.append((a + edge, z0, b - edge, z1))
            else:  # boats keep clear of the bridges
                areas.waters += [(a + edge, c + 3, b - edge, d - 3) for c, d, cross in rows if cross != "road"]
            areas.pavements += [(a, z0, a + edge, z1), (b - edge, z0, b, z1)] if edge else []
            for c, d, cross in rows:
                if cross == "road" and not is_street:
                    scene.lay(ROAD, a, c, b, d, surfaces.road)
    for a, b, use in columns:
        for c, d, cross in rows:
            if use == "block" and cross != "road":
                _fill_block(scene, areas, surfaces, (a, c, b, d), rim, style, is_street)
    _mark_roads(scene, columns, rows, surfaces)
    if is_street:
        if dice.chance(0.1):
            _sit_in_a_car(scene)
        _close_the_view(scene, z1, surfaces)
        put_hero(scene, columns[1][1], columns[1][2] == "canal")
    verticals = [(a, b) for a, b, use in columns if use == "road"]
    for a, b in verticals:
        _drive(scene, a, b, z0, z1, along_z=True)
    # Who comes from the side waits.
    junctions = [(a - 4.0, b + 4.0) for a, b, use in columns if use in ("road", "canal")]
    for c, d, cross in rows:
        if cross == "road":
            _drive(scene, c, d, x0, x1, along_z=False, keep_clear=junctions)
    _populate(scene, areas, is_street)


def _fill_block(
    scene: Scene, areas: _Areas, surfaces: _Surfaces, rect: Rect, rim: float, style: float, is_street: bool
) -> None:
    dice = scene.dice
    a, c, b, d = rect
    scene.lay(PAVEMENT, a, c, b, d, surfaces.pavement)
    areas.pavements += [(a, c, a + rim, d), (b - rim, c, b, d)]
    if not is_street:
        areas.pavements += [(a, c, b, c + rim), (a, d - rim, b, d)]
    a, c, b, d = a + rim, c + rim, b - rim, d - rim
    if b - a < 6 or d - c < 6:
        return
    fate = dice.draw()
    if fate < 0.62:
        if dice.chance(0.75):
            scene.lay(VEGETATION, a, c, b, d, surfaces.grass)
        _build_rows(scene, (a, c, b, d), style, is_street)
    elif fate < 0.82:
        scene.lay(VEGETATION, a, c, b, d, surfaces.grass)
        areas.parks.append((a, c, b, d))
        if dice.chance(0.4) and min(b - a, d - c) > 18:
            pond = (a + 0.3 * (b - a), c + 0.3 * (d - c), a + 0.7 * (b - a), c + 0.7 * (d - c))
            scene.lay(WATER, *pond, surfaces.water)
            areas.waters.append(pond)
        for _ in range(int(dice.between(0, 9))):
            put_bush(scene, dice.between(a + 1, b - 1), dice.between(c + 1, d - 1))
        if dice.chance(0.35):
            side = a if a > 0 else b
            put_building(scene, (side - 0.4, c, side + 0.4, d), dice.between(0.8, 1.6), hedge=True)
    elif fate < 0.93:
        areas.plazas.append((a, c, b, d))
    else:
        scene.lay(ROAD, a, c, b, d, surfaces.road)
        areas.parkings.append((a, c, b, d))


def _build_rows(scene: Scene, rect: Rect, style: float, is_street: bool) -> None:
    """Line a block with houses along its two long sides; in the street only the side that is seen."""
    dice = scene.dice
    a, c, b, d = rect
    depth = min(dice.between(8.0, 13.0), (b - a) / 2)
    sides = [(a, a + depth), (b - depth, b)]
    if is_street:
        sides = [sides[0] if a > 0 else sides[1]]
    for x0, x1 in sides:
        z = c
        while z < d - 4:
            length = min(dice.between(7.0, 18.0), d - z)
            if d - z - length < 4:
                length = d - z
            if not dice.chance(0.1):
                put_building(scene, (x0, z, x1, z + length), max(style * dice.between(0.6, 1.5), 3.4))
            z += length + (0.0 if dice.chance(0.7) else dice.between(1.0, 5.0))
    if not is_street and (b - a) - 2 * depth > 14 and dice.chance(0.5):
        middle = (a + b) / 2
        put_building(scene, (middle - 4, c + 4, middle + 4, min(c + 20, d)), max(style * 0.5, 3.2))


def _mark_roads(scene: Scene, columns: list[Strip], rows: list[Strip], surfaces: _Surfaces) -> None:
    """Paint centre lines and crossings."""
    dice = scene.dice
    white = surfaces.marking
    grey: Color = (surfaces.road[0], surfaces.road[1], surfaces.road[2])
    dashed_z = material(grey, white, (60.0, dice.between(4.0, 9.0), 1.1, 0.5), (0.2, 20.0))
    dashed_x = material(grey, white, (dice.between(4.0, 9.0), 60.0, 0.5, 1.1), (0.2, 20.0))
    zebra_z = material(grey, (0.9, 0.9, 0.88), (1.0, 60.0, 0.5, 1.1), (0.2, 20.0))
    zebra_x = material(grey, (0.9, 0.9, 0.88), (60.0, 1.0, 1.1, 0.5), (0.2, 20.0))
    verticals = [(a, b) for a, b, use in columns if use == "road"]
    blocks = [(c, d) for c, d, use in rows if use == "block"]
    for a, b in verticals:
        middle = (a + b) / 2
        for c, d in blocks:
            scene.lay(ROAD, middle - 0.09, c + 5, middle + 0.09, d - 5, dashed_z)
            for z in (c + 1.0, d - 4.0):
                if dice.chance(0.5):
                    scene.lay(ROAD, a + 0.4, z, b - 0.4, z + 3.0, zebra_z)
    for c, d, use in rows:
        if use == "road":
            for a, b, kind in columns:
                if kind not in ("road", "canal"):
                    scene.lay(ROAD, a + 5, (c + d) / 2 - 0.09, b - 5, (c + d) / 2 + 0.09, dashed_x)
                    if dice.chance(0.3) and kind == "block":
                        scene.lay(ROAD, a + 1.0, c + 0.4, a + 4.0, d - 0.4, zebra_x)


def _close_the_view(scene: Scene, z: float, surfaces: _Surfaces) -> None:
    """Put hills or a far skyline at the end of the street."""
    dice = scene.dice
    is_city = dice.chance(0.5)
    x = -z * 1.2
    while x < z * 1.2:
        step = dice.between(0.05, 0.16) * z
        if is_city:
            if dice.chance(0.8):
                put_building(scene, (x, z + 20, x + step, z + 40), dice.between(0.03, 0.16) * z, far=True)
        else:
            leaves = (surfaces.grass[0] * 0.8, surfaces.grass[1] * 0.8, surfaces.grass[2] * 0.8)
            size = (step, dice.between(0.4, 1.0) * step, step)
            scene.put("bush", VEGETATION, (x, z + 30), 0.0, size, [material(leaves, noise=(0.4, 6.0))], 2)
        x += step


def _sit_in_a_car(scene: Scene) -> None:
    """Show the bonnet of the car that the camera is in; it is void, as in Cityscapes."""
    dice, (x, y, z) = scene.dice, scene.camera.position
    c, s = turn(scene.camera.yaw)
    paint = material((dice.draw() * 0.6, dice.draw() * 0.6, dice.draw() * 0.6), noise=(0.1, 4.0))
    ahead, drop = 1.5, dice.between(0.55, 0.8)
    size = (1.7, max(y - drop, 0.3), 1.2)
    scene.put("block", 0, (x + s * ahead, z + c * ahead), scene.camera.yaw, size, [paint, paint])


def _drive(
    scene: Scene,
    a: float,
    b: float,
    start: float,
    end: float,
    *,
    along_z: bool,
    keep_clear: Sequence[tuple[float, float]] = (),
) -> None:
    """Fill both lanes of a road with traffic, and its edges with parked cars."""
    dice = scene.dice
    width = b - a
    jam = dice.pick((0.15, 0.35, 0.8))
    lanes = [(a + width * 0.28, -1, jam), (a + width * 0.72, 1, jam * dice.between(0.3, 1.0))]
    if width > 9.5:
        lanes = [(a + width * 0.36, -1, jam), (a + width * 0.64, 1, jam), (a + 1.2, -1, 0.5), (b - 1.2, 1, 0.5)]
    px, _, pz = scene.camera.position
    for lane, heading, density in lanes:
        at = start + dice.between(0.0, 8.0)
        while at < end:
            x, z = (lane, at) if along_z else (at, lane)
            yaw = (0.0 if heading > 0 else math.pi) if along_z else (math.pi / 2 if heading < 0 else -math.pi / 2)
            length = 5.5
            is_clear = not any(low < at < high for low, high in keep_clear)
            if is_clear and dice.chance(density) and abs(x - px) + abs(z - pz) > 5.0:
                length = put_vehicle(scene, x, z, yaw)
            at += length + dice.between(0.6, 3.0)


def _spot(dice: Dice, rect: Rect, margin: float = 0.6) -> tuple[float, float]:
    a, c, b, d = rect
    mx, mz = min(margin, (b - a) / 2), min(margin, (d - c) / 2)
    return dice.between(a + mx, b - mx), dice.between(c + mz, d - mz)


def _populate(scene: Scene, areas: _Areas, is_street: bool) -> None:
    dice = scene.dice
    crowd = dice.pick((0.4, 1.0, 2.2))
    avenue = dice.chance(0.5)
    for rect in areas.pavements:
        a, c, b, d = rect
        length = max(b - a, d - c)
        for _ in range(int(crowd * length / 11 + dice.draw())):
            _put_group(scene, *_spot(dice, rect, 0.4))
        if avenue:
            step = dice.between(7.0, 14.0)
            for i in range(int(length / step)):
                t = (i + 0.5) * step
                put_tree(scene, *((a + 0.7, c + t) if d - c > b - a else (a + t, c + 0.7)))
        if is_street:
            for i in range(int(length / 22)):
                put_lamp(scene, a + 0.4 if a > 0 else b - 0.4, c + 5 + 22 * i)
        if dice.chance(0.3):
            x, z = _spot(dice, rect)
            for i in range(int(dice.between(1, 5))):
                put_bicycle(scene, x, z + 0.75 * i, dice.between(1.3, 1.8), rider=False)
    for rect in areas.parks:
        for _ in range(int(dice.between(2, 4 + _area(rect) / 120))):
            put_tree(scene, *_spot(dice, rect, 2.0))
        for _ in range(int(dice.between(0, 5))):
            put_animal(scene, *_spot(dice, rect))
        for _ in range(int(crowd * dice.between(0, 3))):
            _put_group(scene, *_spot(dice, rect))
    for rect in areas.plazas:
        _furnish_plaza(scene, rect, crowd)
    for rect in areas.parkings:
        _park_cars(scene, rect)
    for rect in areas.waters:
        _moor_boats(scene, rect)


def _area(rect: Rect) -> float:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def _put_group(scene: Scene, x: float, z: float) -> None:
    dice = scene.dice
    fate = dice.draw()
    if not scene.sees(x, z, 1.75 if scene.is_street else 0.6):
        return
    if fate < 0.12:
        put_bicycle(scene, x, z, dice.pick((0.0, math.pi)) + dice.between(-0.3, 0.3), rider=True)
        return
    yaw = dice.between(0.0, 2 * math.pi)
    for i in range(dice.pick((1, 1, 1, 2, 2, 3, 5))):
        put_person(
            scene, x + 0.55 * i + dice.between(-0.2, 0.2), z + dice.between(-0.5, 0.5), yaw + dice.between(-0.4, 0.4)
        )
    if fate > 0.86:
        put_animal(scene, x - 0.7, z + dice.between(-0.4, 0.4), pet=True)
    elif fate > 0.8:
        put_parasol(scene, x + 1.6, z + 1.2)


def _furnish_plaza(scene: Scene, rect: Rect, crowd: float) -> None:
    dice = scene.dice
    step = dice.between(3.4, 5.0)
    a, c, b, d = rect
    share = dice.between(0.2, 0.8)
    for i in range(int((b - a) / step)):
        for j in range(int((d - c) / step)):
            if dice.chance(share):
                put_parasol(scene, a + (i + 0.5) * step, c + (j + 0.5) * step)
    for _ in range(int(crowd * (2 + _area(rect) / 90))):
        _put_group(scene, *_spot(dice, rect))
    for _ in range(int(dice.between(0, 5))):
        put_tree(scene, *_spot(dice, rect, 2.0))


def _park_cars(scene: Scene, rect: Rect) -> None:
    dice = scene.dice
    a, c, b, d = rect
    z = c + 3.0
    while z < d - 2.5:
        for i in range(int((b - a) / 2.7)):
            if dice.chance(0.7):
                put_vehicle(scene, a + (i + 0.5) * 2.7, z, dice.pick((0.0, math.pi)), bus=0.0)
        z += 5.4 if dice.chance(0.5) else 10.0


def _moor_boats(scene: Scene, rect: Rect) -> None:
    dice = scene.dice
    a, c, b, d = rect
    is_small = min(b - a, d - c) < 14
    count = 1.5 + dice.between(0.3, 1.0) * _area(rect) / 160
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(count)):
        x, z = _spot(dice, rect, 2.2 if is_small else 4.0)
        size = put_boat(scene, x, z, dice.between(-0.25, 0.25) + dice.pick((0.0, math.pi)), is_small, taken)
        if size:
            taken.append((x, z, size))


def _weather(dice: Dice, scene: Scene, is_street: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the light and the air of :mod:`panscape.kernels.painting`."""
    elevation, direction = dice.between(0.45, 1.15), dice.between(0.0, 2 * math.pi)
    (ce, se), (cd, sd) = turn(elevation), turn(direction)
    overcast = 0.0 if dice.chance(0.6) else dice.between(0.3, 0.95)
    strength = dice.between(0.55, 0.85) * (1 - 0.85 * overcast)
    warm = dice.between(0.0, 0.25) * (1 - overcast)
    sun = (strength, strength * (1 - 0.5 * warm), strength * (1 - warm))
    base = dice.between(0.38, 0.5) + 0.25 * overcast
    sky = (base * (1 - 0.3 * warm), base, base * (1.08 + 0.3 * warm))
    pale = dice.between(0.72, 0.92)
    horizon: Color = (pale * (1 - 0.1 * (1 - overcast)) + 0.3 * warm, pale, pale * (1.04 - 0.8 * warm))
    deep = dice.between(0.0, 0.35)
    zenith: Color = (
        0.5 - deep + 0.25 * overcast,
        0.66 - 0.6 * deep + 0.05 * overcast,
        0.88 - 0.25 * deep - 0.08 * overcast,
    )
    clouds: Color = (0.95 - 0.3 * overcast, 0.95 - 0.29 * overcast, 0.97 - 0.27 * overcast)
    shadow = 0.45 + 0.5 * overcast
    if scene.is_night:
        dim = dice.between(0.26, 0.42)
        sun, sky, shadow = (0.08, 0.09, 0.12), (dim, dim * 1.05, dim * 1.3), 0.8
        horizon, zenith, clouds = (0.16, 0.17, 0.25), (0.03, 0.04, 0.1), (0.12, 0.12, 0.17)
    haze = round(dice.draw() ** 3 * 0.02 + 0.0008, 9) if is_street else 0.0
    gain = dice.between(0.88, 1.12) if is_street else dice.between(1.05, 1.4)
    air = [*horizon, *zenith, *clouds]
    air += [dice.between(-0.25, 0.35), dice.between(1.5, 4.0), dice.between(0, 500), dice.between(0, 500), haze]
    air += [gain * dice.between(0.93, 1.07), gain, gain * dice.between(0.93, 1.07)]
    air += [dice.between(0.8, 1.15), dice.between(-0.05, 0.05), dice.between(0.06, 0.15)]
    air += [dice.between(0.004, 0.03), float(int(dice.between(0, 65536))), 1.0, 0.0]
    light = [ce * sd, se, ce * cd, *sun, *sky, shadow]
    return np.array(light), np.array(air)
