"""The layout of the town: roads, blocks and water, and the objects on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panscape.datasets.town.camera_weather import aerial_camera, draw_weather, street_camera
from panscape.datasets.town.objects import add_foreground_object, put_building, put_bush, put_tree
from panscape.datasets.town.scene import PAVEMENT, ROAD, VEGETATION, WATER, Color, Material, Rng, Scene, material
from panscape.datasets.town.traffic import Areas, Rect, add_actors, add_backdrop, add_ego_hood, add_traffic


@dataclass(frozen=True, slots=True)
class _Surfaces:
    """The ground materials of one scene."""

    road: Material
    pavement: Material
    grass: Material
    water: Material
    marking: Color

    @classmethod
    def draw(cls, rng: Rng) -> _Surfaces:
        grey = rng.between(0.22, 0.42)
        tint = rng.between(-0.03, 0.03)
        stone = rng.between(0.45, 0.68)
        slab = rng.between(0.5, 1.6)
        joint = (stone * 0.8, stone * 0.78, stone * 0.75)
        warm = rng.between(0.0, 0.1)
        green = rng.between(0.3, 0.48)
        pavement = material(
            joint,
            (stone + warm, stone + 0.3 * warm, stone - 0.3 * warm),
            (slab, slab, 0.93, 0.93),
            (0.16, 20.0),
            stagger=rng.pick((0.0, 0.5)),
            vary=rng.between(0.05, 0.3),
        )
        grass = material(
            (green * rng.between(0.6, 1.0), green, green * rng.between(0.25, 0.5)),
            noise=(rng.between(0.3, 0.6), 22.0),
        )
        blue = rng.between(0.25, 0.5)
        water = material(
            (blue * rng.between(0.35, 0.7), blue * rng.between(0.75, 0.95), blue),
            noise=(rng.between(0.2, 0.5), rng.between(12.0, 26.0)),
        )
        road = material((grey + tint, grey, grey - tint), noise=(rng.between(0.15, 0.35), 30.0))
        return cls(road, pavement, grass, water, rng.pick(((0.9, 0.9, 0.88), (0.9, 0.75, 0.3))))


def build_town(rng: Rng, size: tuple[int, int], view: str) -> tuple[Scene, NDArray[np.float64], NDArray[np.float64]]:
    """Return a scene, its light and its atmosphere (see :mod:`panscape.datasets.town.renderer`).

    Args:
        rng: random numbers of the sample.
        size: height and width in pixels.
        view: "street" or "above".
    """
    is_street = view == "street"
    is_night = rng.chance(0.1)
    half = rng.between(3.2, 6.5)
    if is_street:
        scene, reach = street_camera(rng, size, half)
    else:
        scene, reach = aerial_camera(rng, size)
    scene.is_night = is_night
    if is_street:
        columns = _street_columns(rng, half)
        rows = [(a - 22.0, b - 22.0, use) for a, b, use in _strips(rng, reach, 0.0, 0.0)]
    else:
        columns = _centered(rng, _strips(rng, 1.3 * reach + 40.0, 0.25), reach)
        rows = _strips(rng, reach, 0.0)
    _lay_out(scene, columns, rows, is_street)
    light, air = draw_weather(rng, scene, is_street)
    return scene, light, air


Strip = tuple[float, float, str]  # start, end, kind: road, block or water


def _strips(rng: Rng, reach: float, water: float, start: float | None = None) -> list[Strip]:
    """Divide an axis into blocks and roads, and sometimes a river."""
    at = (-reach - rng.between(0.0, 40.0)) if start is None else start
    strips: list[Strip] = []
    while at < reach:
        block = rng.between(22.0, 60.0)
        strips.append((at, at + block, "water" if rng.chance(water) else "block"))
        at += block
        road = rng.between(6.5, 12.0)
        strips.append((at, at + road, "road"))
        at += road
    return strips


def _centered(rng: Rng, strips: list[Strip], reach: float) -> list[Strip]:
    """Shift strips so that a road passes near the middle of the image."""
    roads = [(a + b) / 2 for a, b, use in strips if use == "road"]
    shift = rng.between(-0.3, 0.3) * reach - min(roads, key=abs)
    return [(a + shift, b + shift, use) for a, b, use in strips]


def _street_columns(rng: Rng, half: float) -> list[Strip]:
    canal = rng.chance(0.16)
    far = rng.between(34.0, 60.0)
    left = right = "block"
    if not canal and rng.chance(0.3):
        left, right = ("water", "block") if rng.chance(0.5) else ("block", "water")
    return [(-far, -half, left), (-half, half, "canal" if canal else "road"), (half, far, right)]


def _lay_out(scene: Scene, columns: list[Strip], rows: list[Strip], is_street: bool) -> None:
    rng, areas = scene.rng, Areas()
    surfaces = _Surfaces.draw(rng)
    x0, x1, z0, z1 = columns[0][0], columns[-1][1], rows[0][0], rows[-1][1]
    if is_street:
        scene.lay(VEGETATION, -2500, -60, 2500, 2500, surfaces.grass)
    scene.lay(ROAD, x0, z0, x1, z1, surfaces.road)
    rim = rng.between(1.6, 4.0)
    style = rng.between(4.0, 18.0)
    for a, b, use in columns:
        if use in ("water", "canal"):
            edge = rng.between(1.5, 3.5) if use == "water" else 0.0
            scene.lay(PAVEMENT, a, z0, b, z1, surfaces.pavement)
            scene.lay(WATER, a + edge, z0, b - edge, z1, surfaces.water)
            if is_street:
                areas.waters.append((a + edge, z0, b - edge, z1))
            else:  # no boats under the bridges
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
        if rng.chance(0.07):
            add_ego_hood(scene)
        add_backdrop(scene, z1, surfaces.grass)
        add_foreground_object(scene, columns[1][1], columns[1][2] == "canal")
    verticals = [(a, b) for a, b, use in columns if use == "road"]
    for a, b in verticals:
        add_traffic(scene, a, b, z0, z1, along_z=True)
    # Traffic on side roads waits before the junctions.
    junctions = [(a - 4.0, b + 4.0) for a, b, use in columns if use in ("road", "canal")]
    for c, d, cross in rows:
        if cross == "road":
            add_traffic(scene, c, d, x0, x1, along_z=False, keep_clear=junctions)
    add_actors(scene, areas, is_street)


def _fill_block(
    scene: Scene, areas: Areas, surfaces: _Surfaces, rect: Rect, rim: float, style: float, is_street: bool
) -> None:
    rng = scene.rng
    a, c, b, d = rect
    scene.lay(PAVEMENT, a, c, b, d, surfaces.pavement)
    areas.pavements += [(a, c, a + rim, d), (b - rim, c, b, d)]
    if not is_street:
        areas.pavements += [(a, c, b, c + rim), (a, d - rim, b, d)]
    a, c, b, d = a + rim, c + rim, b - rim, d - rim
    if b - a < 6 or d - c < 6:
        return
    fate = rng.draw()
    if fate < 0.62:
        if rng.chance(0.75):
            scene.lay(VEGETATION, a, c, b, d, surfaces.grass)
        _build_rows(scene, (a, c, b, d), style, is_street)
        for _ in range(int(rng.between(0, 4)) if not is_street and b - a > 28 else 0):
            put_tree(scene, rng.between(a + 13, b - 13), rng.between(c + 2, d - 2))
    elif fate < 0.82:
        scene.lay(VEGETATION, a, c, b, d, surfaces.grass)
        areas.parks.append((a, c, b, d))
        if rng.chance(0.4) and min(b - a, d - c) > 18:
            pond = (a + 0.3 * (b - a), c + 0.3 * (d - c), a + 0.7 * (b - a), c + 0.7 * (d - c))
            scene.lay(WATER, *pond, surfaces.water)
            areas.waters.append(pond)
        for _ in range(int(rng.between(0, 9))):
            put_bush(scene, rng.between(a + 1, b - 1), rng.between(c + 1, d - 1))
        if rng.chance(0.35):
            side = a if a > 0 else b
            put_building(scene, (side - 0.4, c, side + 0.4, d), rng.between(0.8, 1.6), hedge=True)
    elif fate < 0.93:
        areas.plazas.append((a, c, b, d))
    else:
        scene.lay(ROAD, a, c, b, d, surfaces.road)
        areas.parkings.append((a, c, b, d))


def _build_rows(scene: Scene, rect: Rect, style: float, is_street: bool) -> None:
    """Place houses along the two long sides of a block; in a street view only along the visible side."""
    rng = scene.rng
    a, c, b, d = rect
    depth = min(rng.between(8.0, 13.0), (b - a) / 2)
    sides = [(a, a + depth), (b - depth, b)]
    if is_street:
        sides = [sides[0] if a > 0 else sides[1]]
    for x0, x1 in sides:
        z = c
        while z < d - 4:
            length = min(rng.between(7.0, 18.0), d - z)
            if d - z - length < 4:
                length = d - z
            if not rng.chance(0.1):
                put_building(scene, (x0, z, x1, z + length), max(style * rng.between(0.6, 1.5), 3.4))
            z += length + (0.0 if rng.chance(0.7) else rng.between(1.0, 5.0))
    if not is_street and (b - a) - 2 * depth > 14 and rng.chance(0.5):
        middle = (a + b) / 2
        put_building(scene, (middle - 4, c + 4, middle + 4, min(c + 20, d)), max(style * 0.5, 3.2))


def _mark_roads(scene: Scene, columns: list[Strip], rows: list[Strip], surfaces: _Surfaces) -> None:
    """Add center lines and crosswalks."""
    rng = scene.rng
    white = surfaces.marking
    grey: Color = (surfaces.road[0], surfaces.road[1], surfaces.road[2])
    dashed_z = material(grey, white, (60.0, rng.between(4.0, 9.0), 1.1, 0.5), (0.2, 20.0))
    dashed_x = material(grey, white, (rng.between(4.0, 9.0), 60.0, 0.5, 1.1), (0.2, 20.0))
    zebra_z = material(grey, (0.9, 0.9, 0.88), (1.0, 60.0, 0.5, 1.1), (0.2, 20.0))
    zebra_x = material(grey, (0.9, 0.9, 0.88), (60.0, 1.0, 1.1, 0.5), (0.2, 20.0))
    verticals = [(a, b) for a, b, use in columns if use == "road"]
    blocks = [(c, d) for c, d, use in rows if use == "block"]
    for a, b in verticals:
        middle = (a + b) / 2
        for c, d in blocks:
            scene.lay(ROAD, middle - 0.09, c + 5, middle + 0.09, d - 5, dashed_z)
            for z in (c + 1.0, d - 4.0):
                if rng.chance(0.5):
                    scene.lay(ROAD, a + 0.4, z, b - 0.4, z + 3.0, zebra_z)
    for c, d, use in rows:
        if use == "road":
            for a, b, kind in columns:
                if kind not in ("road", "canal"):
                    scene.lay(ROAD, a + 5, (c + d) / 2 - 0.09, b - 5, (c + d) / 2 + 0.09, dashed_x)
                    if rng.chance(0.3) and kind == "block":
                        scene.lay(ROAD, a + 1.0, c + 0.4, a + 4.0, d - 0.4, zebra_x)
