"""Models of the town's objects: cars, buses, persons and so on, as faces, limbs and balls, in metres.

A model is centered at the origin on the ground (y = 0) and faces +z. Its parts refer to material slots; the scene
assigns a material to each slot of an object, so that one model serves all colors.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]
Ring = Sequence[tuple[float, float]]
FACE, LIMB, BALL = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Mesh:
    """The rows of a model in the parts table, and its extent in metres."""

    first: int
    count: int
    slots: int
    width: float
    height: float
    length: float


@dataclass(slots=True)
class _MeshBuilder:
    """Collects the parts of all models."""

    vertices: list[Point] = field(default_factory=list)
    parts: list[tuple[float, ...]] = field(default_factory=list)

    def face(self, points: Sequence[Point], slot: int, *, one_sided: bool = False) -> None:
        self.parts.append((FACE, len(self.vertices), len(points), slot, 0, 0, one_sided, 0))
        self.vertices += points

    def limb(self, p: Point, q: Point, r0: float, slot: int, r1: float | None = None) -> None:
        self.parts.append((LIMB, len(self.vertices), 2, slot, r0, r0 if r1 is None else r1, 0, 0))
        self.vertices += [p, q]

    def ball(self, center: Point, radius: float, slot: int, upright: float | None = None, rough: float = 0.0) -> None:
        self.parts.append((BALL, len(self.vertices), 1, slot, radius, radius if upright is None else upright, 0, rough))
        self.vertices.append(center)

    def prism(
        self, bottom: Ring, y0: float, y1: float, side: int, lid: int, top: Ring | None = None, ends: int | None = None
    ) -> None:
        """Add the sides and the lid of a solid between two rings of (x, z), clockwise seen from above.

        ``ends`` is the slot of the sides that face the front or the back.
        """
        top = bottom if top is None else top
        for i in range(len(bottom)):
            j = (i + 1) % len(bottom)
            (ax, az), (bx, bz), (cx, cz), (dx, dz) = bottom[i], bottom[j], top[j], top[i]
            is_end = ends is not None and abs(bx - ax) > abs(bz - az)
            slot = ends if is_end and ends is not None else side
            self.face([(bx, y0, bz), (ax, y0, az), (dx, y1, dz), (cx, y1, cz)], slot, one_sided=True)
        self.face([(x, y1, z) for x, z in top], lid)

    def disc(self, x: float, y: float, z: float, radius: float, slot: int) -> None:
        """Add a disc that faces sideways."""
        steps = [2 * math.pi * i / 10 for i in range(10)]
        self.face([(x, y + radius * math.sin(a), z + radius * math.cos(a)) for a in steps], slot)


def _rectangle(x0: float, x1: float, z0: float, z1: float) -> Ring:
    return [(x0, z0), (x0, z1), (x1, z1), (x1, z0)]


def _across(mesh: _MeshBuilder, x0: float, x1: float, y0: float, y1: float, z: float, slot: int) -> None:
    mesh.face([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], slot)


def _along(mesh: _MeshBuilder, x: float, y0: float, y1: float, z0: float, z1: float, slot: int) -> None:
    mesh.face([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)], slot)


def _wheels(mesh: _MeshBuilder, half: float, radius: float, positions: Sequence[float], tyre: int, hub: int) -> None:
    for z in positions:
        for side in (-1.0, 1.0):
            mesh.disc(side * (half + 0.02), radius, z, radius, tyre)
            mesh.disc(side * (half + 0.04), radius, z, radius * 0.55, hub)


# Slots of cars and buses: 0 paint, 1 cabin or windows, 2 tyres and shadows, 3 hubs and plates, 4 front lights,
# 5 rear lights, 6 stripe, 7 roof.


def _car(mesh: _MeshBuilder, cabin: tuple[float, float, float, float], top: float, waist: float = 0.85) -> None:
    rear, front, roof_rear, roof_front = cabin
    mesh.prism(_rectangle(-0.84, 0.84, -2.05, 2.05), 0.12, 0.35, 2, 2)
    low, high = _rectangle(-0.9, 0.9, -2.2, 2.2), _rectangle(-0.86, 0.86, -2.12, 2.0)
    mesh.prism(low, 0.3, waist, 0, 0, high)
    mesh.prism(
        _rectangle(-0.85, 0.85, rear, front), waist, top, 1, 7, _rectangle(-0.7, 0.7, roof_rear, roof_front), ends=8
    )
    _wheels(mesh, 0.9, 0.33, (-1.35, 1.35), 2, 3)
    for side in (-1.0, 1.0):
        _across(mesh, side * 0.82, side * 0.5, 0.55, 0.74, 2.215, 4)
        _across(mesh, side * 0.82, side * 0.55, 0.55, 0.76, -2.215, 5)
    _across(mesh, -0.45, 0.45, 0.42, 0.56, 2.215, 2)
    _across(mesh, -0.28, 0.28, 0.42, 0.55, -2.215, 3)


def _bus(mesh: _MeshBuilder, length: float, height: float, decks: int) -> None:
    end = length / 2
    mesh.prism(_rectangle(-1.2, 1.2, -end + 0.1, end - 0.1), 0.2, 0.5, 2, 2)
    mesh.prism(_rectangle(-1.28, 1.28, -end, end), 0.4, height, 0, 7)
    for side in (-1.31, 1.31):
        for deck in range(decks):
            _along(mesh, side, 1.35 + 1.85 * deck, 2.4 + 1.85 * deck, -end + 0.3, end - 0.4, 1)
        _along(mesh, side, 0.75, 1.05, -end + 0.1, end - 0.1, 6)
    for z, lights in ((end + 0.02, 4), (-end - 0.02, 5)):
        for deck in range(decks):
            _across(mesh, -1.12, 1.12, 1.25 + 1.85 * deck, 2.5 + 1.75 * deck, z, 8)
        for side in (-1.0, 1.0):
            _across(mesh, side * 1.15, side * 0.8, 0.65, 0.9, z, lights)
        _across(mesh, -0.8, 0.8, height - 0.4, height - 0.12, z, 2)
    _wheels(mesh, 1.28, 0.48, (-end + 2.4, end - 2.2), 2, 3)
    if decks == 1:
        for z in (-end * 0.5, end * 0.3):
            mesh.prism(_rectangle(-0.7, 0.7, z - 0.9, z + 0.9), height, height + 0.22, 7, 6)


# Slots of persons: 0 skin, 1 top, 2 trousers, 3 hair, 4 shoes.


def _person(mesh: _MeshBuilder, step: float, swing: float) -> None:
    for side in (-1.0, 1.0):
        stride = side * step
        knee, foot = (side * 0.1, 0.48, 0.5 * stride + 0.03), (side * 0.11, 0.08, stride)
        mesh.limb((side * 0.09, 0.9, 0), knee, 0.1, 2, 0.075)
        mesh.limb(knee, foot, 0.075, 2, 0.055)
        mesh.limb((foot[0], 0.05, foot[2] - 0.03), (foot[0], 0.05, foot[2] + 0.16), 0.055, 4)
        elbow = (side * 0.27, 1.12, -side * swing * 0.5)
        mesh.limb((side * 0.2, 1.4, 0), elbow, 0.06, 1, 0.052)
        mesh.limb(elbow, (side * 0.26, 0.9, -side * swing + 0.08), 0.045, 0, 0.04)
    mesh.limb((0, 0.95, 0), (0, 1.3, 0), 0.16, 1, 0.19)
    mesh.limb((-0.12, 1.38, 0), (0.12, 1.38, 0), 0.09, 1)
    mesh.limb((0, 1.45, 0), (0, 1.55, 0), 0.055, 0)
    mesh.ball((0, 1.64, 0.01), 0.105, 0, 0.13)
    mesh.ball((0, 1.69, -0.025), 0.108, 3, 0.1)


# Slots of animals: 0 coat, 1 legs and muzzle, 2 dark.


def _animal(mesh: _MeshBuilder, build: str) -> None:
    dog = build == "dog"
    body, thick, neck = (0.62, 0.14, 0.2) if dog else (1.5, 0.34, 0.75 if build == "horse" else 0.25)
    legs, half = (0.36, body / 2) if dog else (0.85, body / 2)
    spine = legs + thick
    for z in (-half * 0.85, half * 0.85):
        for side in (-1.0, 1.0):
            x, lean = side * thick * 0.62, 0.12 * side * (1 if z > 0 else -1) * legs
            mesh.limb((x, spine - 0.3 * thick, z), (x, legs * 0.45, z + 0.5 * lean), thick * 0.36, 0, thick * 0.24)
            mesh.limb((x, legs * 0.45, z + 0.5 * lean), (x, 0.04, z + lean), thick * 0.24, 1, thick * 0.2)
    mesh.limb((0, spine, -half), (0, spine, half), thick, 0, thick * 1.1)
    head = (0.0, spine + neck, half + neck * 0.75)
    mesh.limb((0, spine + 0.2 * thick, half), head, thick * 0.75, 0, thick * 0.5)
    nose = (0.0, head[1] - thick * 0.45, head[2] + thick * 1.5)
    mesh.limb(head, nose, thick * 0.6, 0, thick * 0.36)
    mesh.ball(nose, thick * 0.3, 1)
    for side in (-1.0, 1.0):
        ear = (side * thick * 0.55, head[1] + thick * (0.1 if dog else 0.85), head[2] - 0.02)
        mesh.limb((side * thick * 0.35, head[1] + thick * 0.4, head[2]), ear, thick * 0.22, 2, thick * 0.12)
    tail = (0.0, spine + thick * 1.6, -half - 0.25) if dog else (0.0, legs * 0.6, -half - thick * 1.1)
    mesh.limb((0, spine + thick * 0.5, -half - thick * 0.6), tail, thick * 0.25, 2 if not dog else 0, thick * 0.15)


# Slots of bicycles: 0 tyres, 1 frame, 2 saddle.


def _bicycle(mesh: _MeshBuilder) -> None:
    radius, steps = 0.34, [2 * math.pi * i / 9 for i in range(10)]
    for z in (-0.53, 0.53):
        rim = [(0.0, radius + 0.02 + radius * math.sin(a), z + radius * math.cos(a)) for a in steps]
        for p, q in itertools.pairwise(rim):
            mesh.limb(p, q, 0.032, 0)
        for a in steps[:3]:
            dy, dz = radius * math.sin(1.5 * a), radius * math.cos(1.5 * a)
            mesh.limb((0, 0.36 - dy, z - dz), (0, 0.36 + dy, z + dz), 0.007, 2)
    hub, crank, seat, head = (0, 0.36, -0.53), (0, 0.32, -0.05), (0, 0.82, -0.2), (0, 0.85, 0.36)
    for p, q in ((hub, crank), (hub, seat), (crank, seat), (crank, head), (seat, head), (head, (0, 0.36, 0.53))):
        mesh.limb(p, q, 0.028, 1)
    mesh.limb(head, (0, 1.02, 0.33), 0.022, 1)
    mesh.limb((-0.28, 1.03, 0.3), (0.28, 1.03, 0.3), 0.026, 2)
    mesh.limb((0, 0.92, -0.32), (0, 0.92, -0.1), 0.06, 2, 0.035)
    mesh.limb(seat, (0, 0.92, -0.2), 0.022, 2)


# Slots of trees: 0 trunk, 1 leaves, 2 lighter leaves.


def _tree(mesh: _MeshBuilder, build: str) -> None:
    if build == "fir":
        mesh.limb((0, 0, 0), (0, 2, 0), 0.2, 0)
        for i, radius in enumerate((1.75, 1.45, 1.1, 0.75, 0.4)):
            mesh.ball((0, 1.8 + 1.15 * i, 0), radius, 1 + i % 2, 0.95, 0.35)
        return
    if build == "poplar":
        mesh.limb((0, 0, 0), (0, 3, 0), 0.18, 0)
        for i, radius in enumerate((0.8, 1.05, 1.0, 0.7)):
            mesh.ball((0.1 * (i % 2), 2.2 + 1.5 * i, 0), radius, 1 + i % 2, 1.4, 0.3)
        return
    mesh.limb((0, 0, 0), (0.05, 3.2, 0), 0.24, 0, 0.15)
    mesh.limb((0.03, 2.2, 0), (0.9, 3.6, 0.2), 0.1, 0, 0.06)
    mesh.limb((0.03, 2.4, 0), (-0.8, 3.5, -0.3), 0.1, 0, 0.06)
    spread = 1.35 if build == "oak" else 1.0
    for i, (x, y, z, r) in enumerate(
        (
            (0, 4.5, 0, 1.7),
            (1.2, 4.0, 0.5, 1.15),
            (-1.25, 4.1, -0.4, 1.2),
            (0.2, 4.0, -1.2, 1.1),
            (-0.2, 3.9, 1.2, 1.1),
            (0.3, 5.5, 0.2, 1.1),
        )
    ):
        mesh.ball((x * spread, y, z * spread), r * (spread**0.5), 1 + i % 2, r * 0.9, 0.3)


# Slots of parasols: 0 pole, 1 and 2 cloth.


def _parasol(mesh: _MeshBuilder, panels: int) -> None:
    mesh.limb((0, 0, 0), (0, 2.75, 0), 0.035, 0)
    mesh.prism(_rectangle(-0.3, 0.3, -0.3, 0.3), 0, 0.12, 0, 0)
    rim = [2 * math.pi * i / panels for i in range(panels + 1)]
    points = [(1.6 * math.cos(a), 2.12, 1.6 * math.sin(a)) for a in rim]
    for i in range(panels):
        p, q = points[i], points[i + 1]
        mesh.face([p, q, (0, 2.78, 0)], 1 + i % 2)
        mesh.face([p, q, (q[0], 1.95, q[2]), (p[0], 1.95, p[2])], 2 - i % 2)
    mesh.ball((0, 2.82, 0), 0.06, 0)


# Slots of boats: 0 hull, 1 deck, 2 cabin, 3 mast, 4 sail, 5 windows, 6 cargo, 7 stripe.


def _hull(length: float, beam: float) -> Ring:
    b, e = beam / 2, length / 2
    return [
        (-b * 0.8, -e),
        (-b, -e * 0.3),
        (-b * 0.85, e * 0.45),
        (0.0, e),
        (b * 0.85, e * 0.45),
        (b, -e * 0.3),
        (b * 0.8, -e),
    ]


def _scaled(ring: Ring, x: float, z: float) -> Ring:
    return [(a * x, b * z) for a, b in ring]


def _boat(mesh: _MeshBuilder, build: str) -> None:
    length, beam, board = {
        "rowing": (4.0, 1.5, 0.5),
        "motor": (7.0, 2.5, 1.0),
        "sailing": (8.0, 2.5, 0.9),
        "barge": (24.0, 5.2, 1.7),
        "ferry": (20.0, 5.4, 1.8),
    }[build]
    ring, e = _hull(length, beam), length / 2
    mesh.prism(_scaled(ring, 0.8, 0.92), 0, board, 0, 1, ring)
    mesh.prism(_scaled(ring, 0.99, 0.985), board * 0.72, board * 0.92, 7, 1, _scaled(ring, 1.015, 1.01))
    if build == "rowing":
        mesh.face([(x, board + 0.01, z) for x, z in _scaled(ring, 0.82, 0.88)], 5)
        for z in (-0.9, 0.2):
            _bench = [
                (-0.62, board + 0.03, z),
                (0.62, board + 0.03, z),
                (0.62, board + 0.03, z + 0.3),
                (-0.62, board + 0.03, z + 0.3),
            ]
            mesh.face(_bench, 1)
    elif build == "motor":
        mesh.prism(_rectangle(-0.95, 0.95, -1.6, 1.4), board, board + 0.55, 2, 2, _rectangle(-0.9, 0.9, -1.6, 1.1))
        mesh.prism(
            _rectangle(-0.9, 0.9, -1.5, 1.1), board + 0.55, board + 1.2, 5, 2, _rectangle(-0.75, 0.75, -1.4, 0.4)
        )
    elif build == "sailing":
        mesh.prism(_rectangle(-0.7, 0.7, -1.0, 1.4), board, board + 0.5, 5, 2, _rectangle(-0.6, 0.6, -1.0, 1.2))
        mesh.limb((0, board, 0.9), (0, 9.2, 0.9), 0.07, 3)
        mesh.limb((0, board + 0.9, 0.9), (0.4, board + 0.9, -2.9), 0.05, 3)
        mesh.face([(0, board + 1.0, 0.8), (0.4, board + 1.0, -2.8), (0.1, 9.0, 0.8)], 4)
        mesh.face([(0, board + 0.6, 3.8), (-0.25, board + 0.7, 1.2), (0, 8.0, 1.0)], 4)
    elif build == "barge":
        for i in range(3):
            z = -e * 0.35 + i * 5.0
            mesh.prism(_rectangle(-1.9, 1.9, z, z + 4.4), board, board + 1.3, 6, 6)
        mesh.prism(_rectangle(-1.8, 1.8, -e * 0.92, -e * 0.5), board, board + 2.6, 5, 2)
    else:
        mesh.prism(_rectangle(-2.2, 2.2, -e * 0.85, e * 0.4), board, board + 2.4, 5, 2)
        mesh.prism(_rectangle(-1.9, 1.9, -e * 0.6, e * 0.3), board + 2.4, board + 4.6, 5, 2)
        mesh.limb((0, board + 4.6, -2), (0, board + 6.4, -2), 0.55, 7)


# Slots of buildings: 0 walls, 1 roof. They are one metre in each direction and scaled.


def _building(mesh: _MeshBuilder, build: str) -> None:
    half = _rectangle(-0.5, 0.5, -0.5, 0.5)
    if build == "block":
        mesh.prism(half, 0, 1, 0, 1)
        return
    mesh.prism(half, 0, 0.7, 0, 1)
    ridge, eaves = 0.0, 0.54
    for side in (-1.0, 1.0):
        mesh.face([(side * eaves, 0.68, -0.52), (side * eaves, 0.68, 0.52), (ridge, 1, 0.52), (ridge, 1, -0.52)], 1)
        mesh.face([(-0.5, 0.7, side * 0.5), (0.5, 0.7, side * 0.5), (0, 0.99, side * 0.5)], 0)


@dataclass(frozen=True, slots=True, eq=False)
class Meshes:
    """All models by name, and the tables of their parts (see :mod:`panscape.datasets.town.renderer`)."""

    table: dict[str, Mesh]
    vertices: NDArray[np.float64]
    parts: NDArray[np.float64]


@functools.cache
def town_meshes() -> Meshes:
    """Return the models, built once per process."""
    mesh, table = _MeshBuilder(), {}

    def add(name: str, draw: object, *arguments: object) -> None:
        first, start = len(mesh.parts), len(mesh.vertices)
        draw(mesh, *arguments)  # type: ignore[operator]
        points = np.array(mesh.vertices[start:])
        slots = 1 + int(max(part[3] for part in mesh.parts[first:]))
        reach = np.ptp(points, axis=0)
        table[name] = Mesh(first, len(mesh.parts) - first, slots, *(float(v) for v in reach))

    add("ground", lambda m: m.face([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], 0))
    add("house", _building, "house")
    add("block", _building, "block")
    add("bush", lambda m: m.ball((0, 0.45, 0), 0.8, 0, 0.6, 0.3))
    add("lamp", lambda m: m.limb((0, 0, 0), (0, 1, 0), 0.06, 0))
    add("sedan", _car, (-1.75, 1.05, -1.2, 0.35), 1.42)
    add("hatch", _car, (-2.1, 1.05, -1.75, 0.35), 1.48)
    add("estate", _car, (-2.12, 1.2, -2.0, 0.4), 1.55)
    add("van", _car, (-2.15, 1.75, -2.1, 1.1), 2.1, 1.0)
    add("bus", _bus, 11.0, 3.05, 1)
    add("coach", _bus, 13.0, 3.5, 1)
    add("double_decker", _bus, 10.5, 4.4, 2)
    add("minibus", _bus, 7.0, 2.8, 1)
    for i, (step, swing) in enumerate(((0.0, 0.0), (0.16, 0.14), (-0.22, 0.2), (0.28, 0.26))):
        add(f"person{i}", _person, step, swing)
    for build in ("dog", "horse", "cow"):
        add(build, _animal, build)
    add("bicycle", _bicycle)
    for build in ("round", "oak", "poplar", "fir"):
        add(build, _tree, build)
    add("parasol4", _parasol, 4)
    add("parasol8", _parasol, 8)
    for build in ("rowing", "motor", "sailing", "barge", "ferry"):
        add(build, _boat, build)
    vertices = np.array(mesh.vertices, dtype=np.float64).round(9)
    return Meshes(table, vertices, np.array(mesh.parts, dtype=np.float64))
