"""One function for each kind of object of the town, which chooses a model, colors and size, and places it in a scene.

No category is recognisable by its color alone, and large things have textures of stuff (a bus the windows of a facade,
a hull the planks of a wall, a tree crown the leaves of a park), so that a network has to use their whole shape.
"""

from __future__ import annotations

import math

from panscape.datasets.town.meshes import town_meshes
from panscape.datasets.town.scene import (
    ANIMAL,
    BICYCLE,
    BOAT,
    BUILDING,
    BUS,
    CAR,
    PARASOL,
    PERSON,
    SHADOWLESS,
    TREE,
    VEGETATION,
    Color,
    Material,
    Rng,
    Scene,
    material,
)

PAINTS: tuple[Color, ...] = (
    (0.85, 0.85, 0.86), (0.7, 0.72, 0.74), (0.12, 0.12, 0.14), (0.35, 0.37, 0.4), (0.7, 0.12, 0.1), (0.12, 0.25, 0.55),
    (0.15, 0.4, 0.25), (0.85, 0.65, 0.15), (0.75, 0.4, 0.15), (0.45, 0.2, 0.3), (0.3, 0.55, 0.65), (0.8, 0.75, 0.6),
)  # fmt: skip
WALLS: tuple[Color, ...] = (
    (0.78, 0.72, 0.6), (0.72, 0.45, 0.35), (0.6, 0.32, 0.25), (0.82, 0.8, 0.76), (0.55, 0.55, 0.56), (0.75, 0.6, 0.42),
    (0.5, 0.56, 0.6), (0.8, 0.65, 0.6), (0.65, 0.68, 0.55), (0.4, 0.38, 0.37), (0.3, 0.4, 0.5), (0.75, 0.3, 0.25),
)  # fmt: skip
ROOFS: tuple[Color, ...] = (
    (0.6, 0.28, 0.2), (0.5, 0.33, 0.26), (0.35, 0.34, 0.35), (0.55, 0.55, 0.54), (0.7, 0.4, 0.28), (0.3, 0.38, 0.35),
)  # fmt: skip
SKINS: tuple[Color, ...] = ((0.87, 0.66, 0.54), (0.75, 0.53, 0.4), (0.5, 0.33, 0.24), (0.33, 0.22, 0.17))
HAIRS: tuple[Color, ...] = (
    (0.12, 0.1, 0.09),
    (0.35, 0.22, 0.12),
    (0.65, 0.5, 0.28),
    (0.55, 0.55, 0.55),
    (0.75, 0.2, 0.2),
)
COATS: tuple[Color, ...] = (
    (0.45, 0.3, 0.18),
    (0.15, 0.13, 0.12),
    (0.75, 0.62, 0.42),
    (0.85, 0.83, 0.8),
    (0.5, 0.48, 0.46),
)
LEAVES: tuple[Color, ...] = (
    (0.22, 0.42, 0.14), (0.3, 0.46, 0.18), (0.15, 0.34, 0.16), (0.42, 0.48, 0.16), (0.6, 0.4, 0.14), (0.5, 0.22, 0.16),
    (0.78, 0.6, 0.66),
)  # fmt: skip
TYRE = material((0.09, 0.09, 0.1), noise=(0.1, 20.0))
HUB = material((0.6, 0.6, 0.62), noise=(0.1, 20.0))
GLASS: Color = (0.16, 0.2, 0.25)
CARS = ("sedan", "hatch", "estate", "van")
BUSES = ("bus", "bus", "coach", "double_decker", "minibus")


def _extent(scene: Scene, name: str) -> float:
    """Return the extent of a model in metres that is largest from the direction of the camera."""
    model = town_meshes().table[name]
    return max(model.height, model.width) if scene.is_street else max(model.length, model.width)


def _facade(rng: Rng, is_night: bool) -> Material:
    wall, dark = rng.color(WALLS), rng.chance(0.75)
    pane: Color = rng.color((GLASS, (0.25, 0.32, 0.4), (0.1, 0.11, 0.13)), 0.15) if dark else (0.72, 0.76, 0.8)
    kind = rng.draw()
    if kind < 0.62:  # single windows
        grid = (rng.between(1.6, 3.2), rng.between(2.7, 3.4), rng.between(0.35, 0.6), rng.between(0.4, 0.62))
    elif kind < 0.82:  # window bands, as on the side of a bus
        grid = (rng.between(1.2, 2.0), rng.between(2.6, 3.2), 0.88, rng.between(0.38, 0.5))
    else:  # planks, as on a hull
        grid = (40.0, rng.between(0.4, 0.9), 1.1, 0.86)
        pane = (wall[0] * 0.86, wall[1] * 0.86, wall[2] * 0.88)
    noise = (rng.between(0.08, 0.3), rng.pick((8.0, 30.0, 50.0)))
    lit = rng.between(0.1, 0.5) if is_night and kind < 0.82 else 0.0
    return material(wall, pane, grid, noise, lit=lit, vary=rng.between(0.1, 0.8))


def put_building(
    scene: Scene, rect: tuple[float, float, float, float], height: float, *, hedge: bool = False, far: bool = False
) -> None:
    """Place a building on a rectangle x0, z0, x1, z1 in metres: a house, a block, or a hedge (vegetation)."""
    rng = scene.rng
    a, c, b, d = rect
    width, length = b - a, d - c
    place = ((a + b) / 2, (c + d) / 2)
    # In a street, skip objects that are completely behind the camera.
    if max(scene.locate(x, z)[2] for x in (a, b) for z in (c, d)) < 0.5:
        return
    if hedge:
        r, g, b_ = rng.color(LEAVES[:4])
        leaves = material((r, g, b_), noise=(0.5, 24.0))
        scene.put("block", VEGETATION, place, 0.0, (width, height, length), [leaves, leaves])
        return
    front = _facade(rng, scene.is_night)
    tiles = rng.color(ROOFS)
    shade: Color = (tiles[0] * 0.8, tiles[1] * 0.8, tiles[2] * 0.8)
    is_house = height < 13 and not far and rng.chance(0.5)
    if is_house:
        roof = material(tiles, shade, (60.0, rng.between(0.3, 0.6), 1.1, 0.3), (0.25, 30.0))
        if width < length:
            scene.put("house", BUILDING, place, 0.0, (width, height, length), [front, roof])
        else:
            scene.put("house", BUILDING, place, math.pi / 2, (length, height, width), [front, roof])
    else:
        grey = rng.between(0.35, 0.7)
        flat = tiles if rng.chance(0.3) else (grey, grey, grey * 0.98)
        scene.put("block", BUILDING, place, 0.0, (width, height, length), [front, material(flat, noise=(0.3, 12.0))])
        if not far:
            _roof_clutter(scene, rect, height)
    if is_house and rng.chance(0.6):
        brick = material(rng.color(WALLS), noise=(0.3, 40.0))
        x, z = place[0] + 0.2 * width, place[1] + rng.between(-0.3, 0.3) * length
        scene.put("block", BUILDING, (x, z), 0.0, (0.7, height * 1.02, 0.7), [brick, brick])
    if not far and rng.chance(0.55):
        _shop_front(scene, place, width, length)


def _roof_clutter(scene: Scene, rect: tuple[float, float, float, float], height: float) -> None:
    rng = scene.rng
    a, c, b, d = rect
    for _ in range(int(rng.between(0, 3.5))):
        grey = rng.between(0.3, 0.8)
        box = material((grey, grey, grey), (grey * 0.7, grey * 0.7, grey * 0.7), (0.5, 40, 0.5, 1.1), (0.1, 30.0))
        x, z = rng.between(a + 0.2 * (b - a), b - 0.2 * (b - a)), rng.between(c + 0.2 * (d - c), d - 0.2 * (d - c))
        size = (rng.between(1.0, 3.0), rng.between(0.6, 1.8), rng.between(1.0, 3.0))
        scene.put("block", BUILDING, (x, z), 0.0, size, [box, box], y=height)


def _shop_front(scene: Scene, place: tuple[float, float], width: float, length: float) -> None:
    rng = scene.rng
    frame = rng.color(PAINTS, 0.15)
    lit = 0.7 if scene.is_night else 0.0
    windows = material(frame, GLASS, (rng.between(1.8, 3.4), 3.0, 0.84, 0.68), (0.1, 20.0), lit=lit, vary=0.6)
    scene.put("block", BUILDING, place, 0.0, (width + 0.12, 3.0, length + 0.12), [windows, windows])
    if rng.chance(0.6):
        cloth = rng.color(PAINTS)
        stripes = material(cloth, (0.9, 0.88, 0.84), (rng.between(0.5, 1.2), 60.0, 0.5, 1.1))
        size = (width + rng.between(0.8, 2.0), 0.35, length - 0.4)
        scene.put("block", BUILDING, place, 0.0, size, [stripes, stripes], y=2.75)


def put_bush(scene: Scene, x: float, z: float) -> None:
    """Place a bush (vegetation, stuff)."""
    size = scene.rng.between(0.6, 2.0)
    if scene.sees(x, z, size):
        scene.put("bush", VEGETATION, (x, z), 0.0, (size, size, size), [_leaves(scene.rng)])


def put_lamp(scene: Scene, x: float, z: float) -> None:
    """Place a lamp post, of category building, since every pixel needs a category."""
    if scene.locate(x, z)[2] > 8.0:
        grey = material((0.25, 0.27, 0.27))
        scene.put("lamp", BUILDING, (x, z), 0.0, (1.0, 4.6, 1.0), [grey])
        globe = material((0.9, 0.88, 0.8), glow=0.95 if scene.is_night else 0.0)
        scene.put("bush", BUILDING, (x, z), 0.0, (0.3, 0.35, 0.3), [globe], SHADOWLESS, y=4.5)


def _leaves(rng: Rng) -> Material:
    r, g, b = rng.color(LEAVES if rng.chance(0.4) else LEAVES[:4], 0.2)
    return material((r, g, b), noise=(rng.between(0.4, 0.75), rng.between(14.0, 34.0)))


def put_tree(scene: Scene, x: float, z: float, scale: float | None = None) -> bool:
    """Place a tree; return whether it is in the image."""
    rng = scene.rng
    name = rng.pick(("round", "round", "oak", "poplar", "fir"))
    size = rng.between(0.55, 1.5) if scale is None else scale
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    leaves = _leaves(rng)
    lighter = (leaves[0] * 1.12, leaves[1] * 1.12, leaves[2] * 1.08, *leaves[3:])
    trunk = material(rng.color(((0.35, 0.26, 0.18), (0.45, 0.42, 0.38))), noise=(0.4, 40.0))
    wide = size * rng.between(0.85, 1.15)
    scene.put(name, scene.new_segment(TREE), (x, z), rng.between(0, 6.28), (wide, size, wide), [trunk, leaves, lighter])
    return True


def put_vehicle(scene: Scene, x: float, z: float, yaw: float, bus: float = 0.12) -> float:
    """Place a car or, with probability ``bus``, a bus; return its length in metres."""
    rng = scene.rng
    if rng.chance(bus):
        return put_bus(scene, x, z, yaw)
    name = rng.pick(CARS)
    length = town_meshes().table[name].length
    if not scene.sees(x, z, _extent(scene, name)):
        return length
    paint, night = rng.color(PAINTS, 0.15), scene.is_night
    body = material(paint, noise=(0.05, 12.0))
    cabin = material(paint, GLASS, (rng.between(0.9, 1.3), 0.62, 0.87, 1.1), (0.05, 12.0))
    screen = material(GLASS, noise=(0.25, 8.0))
    front = material((0.95, 0.95, 0.85), glow=1.0 if night else 0.0)
    rear = material((0.75, 0.1, 0.08), glow=0.8 if night else 0.0)
    size = rng.between(0.92, 1.06)
    surfaces = [body, cabin, TYRE, HUB, front, rear, body, body, screen]
    scene.put(name, scene.new_segment(CAR), (x, z), yaw + rng.between(-0.04, 0.04), (size, size, size), surfaces)
    return length


def put_bus(scene: Scene, x: float, z: float, yaw: float) -> float:
    """Place a bus; return its length in metres."""
    rng = scene.rng
    name = rng.pick(BUSES)
    length = town_meshes().table[name].length
    if not scene.sees(x, z, _extent(scene, name)):
        return length
    paint = rng.color(PAINTS if rng.chance(0.6) else WALLS, 0.12)
    side = material(paint, noise=(0.06, 10.0))
    fate = rng.draw()
    if fate < 0.25:  # covered by an advertisement, like those on facades
        side = _facade(rng, is_night=False)
    elif fate < 0.5:
        side = material(paint, rng.color(PAINTS), (rng.between(2.0, 7.0), 90.0, 0.5, 1.1), (0.06, 10.0))
    lit = 0.8 if scene.is_night else 0.0
    panes = material(paint, GLASS, (rng.between(1.1, 2.0), 3.0, 0.88, 1.1), (0.1, 8.0), lit=lit, vary=0.5)
    screen = material(GLASS, noise=(0.3, 6.0))
    front = material((0.95, 0.95, 0.85), glow=1.0 if scene.is_night else 0.0)
    rear = material((0.75, 0.1, 0.08), glow=0.8 if scene.is_night else 0.0)
    stripe = material(rng.color(PAINTS))
    roof = material(rng.color(((0.85, 0.85, 0.84), paint, (0.5, 0.5, 0.5))), noise=(0.1, 14.0))
    surfaces = [side, panes, TYRE, HUB, front, rear, stripe, roof, screen]
    scene.put(name, scene.new_segment(BUS), (x, z), yaw, (1.0, 1.0, 1.0), surfaces)
    return length


def put_person(scene: Scene, x: float, z: float, yaw: float, y: float = 0.0) -> bool:
    """Place a person; return whether it is in the image."""
    rng = scene.rng
    size = rng.between(0.92, 1.08) if rng.chance(0.85) else rng.between(0.6, 0.8)
    name = f"person{int(rng.draw() * 4)}" if y == 0 else "person3"
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    skin = material(rng.color(SKINS), noise=(0.04, 20.0))
    top = rng.color(PAINTS + WALLS, 0.2)
    shirt = material(top, noise=(0.12, 40.0))
    if rng.chance(0.3):
        shirt = material(top, noise=(0.5, 30.0))
    trousers = material(rng.color(((0.15, 0.17, 0.28), (0.12, 0.12, 0.12), (0.5, 0.45, 0.35), top)), noise=(0.12, 40.0))
    hair, shoes = material(rng.color(HAIRS), noise=(0.25, 60.0)), material(rng.color(PAINTS))
    scale = (size * rng.between(0.9, 1.15), size, size)
    scene.put(name, scene.new_segment(PERSON), (x, z), yaw, scale, [skin, shirt, trousers, hair, shoes], y=y)
    return True


def put_bicycle(scene: Scene, x: float, z: float, yaw: float, *, rider: bool) -> None:
    """Place a bicycle with or without a rider."""
    rng = scene.rng
    if not scene.sees(x, z, _extent(scene, "bicycle")):
        return
    frame = material(rng.color(PAINTS, 0.2))
    dark = material((0.12, 0.12, 0.12))
    scene.put("bicycle", scene.new_segment(BICYCLE), (x, z), yaw, (1.0, 1.0, 1.0), [dark, frame, dark])
    if rider:
        put_person(scene, x, z, yaw, y=0.28)


def put_animal(scene: Scene, x: float, z: float, *, pet: bool = False, yaw: float | None = None) -> bool:
    """Place a dog, a horse or a cow; return whether it is in the image."""
    rng = scene.rng
    name = "dog" if pet else rng.pick(("dog", "horse", "cow"))
    size = rng.between(0.8, 1.35) if name == "dog" else rng.between(0.85, 1.1)
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    color = rng.color(COATS, 0.15)
    spotted = rng.chance(0.4)
    coat = material(color, noise=(1.1, 30.0) if spotted else (0.2, 40.0))
    legs = coat if rng.chance(0.5) else material(rng.color(COATS), noise=(0.2, 40.0))
    dark = material((0.14, 0.12, 0.11))
    yaw = rng.between(0, 6.28) if yaw is None else yaw
    scene.put(name, scene.new_segment(ANIMAL), (x, z), yaw, (size, size, size), [coat, legs, dark])
    return True


def put_parasol(scene: Scene, x: float, z: float) -> bool:
    """Place a parasol; return whether it is in the image."""
    rng = scene.rng
    name, size = rng.pick(("parasol4", "parasol8")), rng.between(0.85, 1.25)
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    one = rng.color(PAINTS + WALLS, 0.15)
    other = one if rng.chance(0.4) else rng.color(((0.92, 0.9, 0.86), *PAINTS))
    cloth = material(one, noise=(0.1, 20.0)), material(other, noise=(0.1, 20.0))
    pole = material((0.6, 0.58, 0.55))
    scene.put(name, scene.new_segment(PARASOL), (x, z), rng.between(0, 1.57), (size, size, size), [pole, *cloth])
    return True


def put_boat(
    scene: Scene, x: float, z: float, yaw: float, is_small: bool, taken: list[tuple[float, float, float]]
) -> float:
    """Place a boat unless it overlaps one of ``taken`` (x, z, radius); return its radius, 0 if not placed."""
    rng = scene.rng
    name = rng.pick(("rowing", "motor") if is_small else ("rowing", "motor", "sailing", "sailing", "barge", "ferry"))
    size = rng.between(0.8, 1.2)
    radius = 0.5 * size * town_meshes().table[name].length
    if any((x - a) ** 2 + (z - b) ** 2 < (0.85 * (radius + r)) ** 2 for a, b, r in taken):
        return 0.0
    if not scene.sees(x, z, size * _extent(scene, name)):
        return 0.0
    hull_color = rng.color(PAINTS + WALLS, 0.1)
    dark: Color = (hull_color[0] * 0.82, hull_color[1] * 0.82, hull_color[2] * 0.84)
    hull = material(hull_color, dark, (90.0, rng.between(0.25, 0.7), 1.1, 0.15), (0.15, 14.0))
    deck = material(
        rng.color(((0.72, 0.55, 0.35), (0.8, 0.8, 0.78), (0.5, 0.35, 0.25))), (0.4, 0.3, 0.2), (0.3, 60.0, 0.12, 1.1)
    )
    cabin = material(rng.color(((0.88, 0.88, 0.86), *WALLS)), noise=(0.08, 12.0))
    if name == "ferry" or (name == "barge" and rng.chance(0.5)):
        windows = _facade(rng, scene.is_night)
    else:
        windows = material((0.85, 0.85, 0.84), GLASS, (rng.between(0.7, 1.3), 0.7, 0.75, 1.1), vary=0.3)
    if name == "rowing":
        windows = material(rng.color(((0.4, 0.28, 0.18), (0.5, 0.5, 0.48))), noise=(0.2, 30.0))
    mast, sail = (
        material((0.75, 0.72, 0.68)),
        material(rng.color(((0.93, 0.92, 0.88), (0.7, 0.3, 0.2), (0.3, 0.4, 0.6)))),
    )
    cargo = material(rng.color(PAINTS), rng.color(PAINTS), (rng.between(1.0, 2.6), 60.0, 0.7, 1.1), (0.3, 12.0))
    surfaces = [hull, deck, cabin, mast, sail, windows, cargo, material(rng.color(PAINTS))]
    scene.put(name, scene.new_segment(BOAT), (x, z), yaw, (size, size, size), surfaces)
    return radius


_HERO_RADII = {"bus": 5.0, "car": 2.4, "boat": 6.0}


def add_foreground_object(scene: Scene, half: float, is_canal: bool) -> None:
    """Place a few objects of all kinds close to a street camera, so that each kind also occurs nearby."""
    rng = scene.rng
    height = scene.camera.size[0]
    right, _, forward = scene.axes[3:6], 0, scene.axes[9:12]
    for _ in range(rng.pick((1, 2, 2, 3, 4))):
        kind = (
            rng.pick(("boat",) * 3 + ("parasol",))
            if is_canal
            else rng.pick(("bus", "car", "person", "animal", "animal", "tree", "parasol", "bicycle", "bicycle"))
        )
        extent = {
            "bus": 3.2,
            "car": 1.6,
            "person": 1.75,
            "animal": 1.6,
            "tree": 6.0,
            "parasol": 2.7,
            "bicycle": 1.1,
        }.get(kind, 4)
        share = rng.between(0.15, 0.85) * min(1.0, 520.0 / height)
        depth = max(scene.camera.focal * extent / (share * height), 2.0)
        if kind in ("bus", "boat"):
            depth += 4.5  # to its center
        aside = depth * rng.between(-0.45, 0.45) * scene.camera.size[1] / scene.camera.focal
        x = scene.camera.position[0] + aside * right[0] + depth * forward[0]
        z = scene.camera.position[2] + aside * right[2] + depth * forward[2]
        x = min(max(x, -half - 2.0), half + 2.0)
        heading = (0.0 if x > 0 else math.pi) if rng.chance(0.7) else rng.between(0, 6.28)
        if kind in _HERO_RADII and not scene.is_free(x, z, _HERO_RADII[kind]):
            continue
        scene.taken.append((x, z, _HERO_RADII.get(kind, 0.8)))
        if kind == "bus":
            put_bus(scene, x, z, heading)
        elif kind == "car":
            put_vehicle(scene, x, z, heading, bus=0.0)
        elif kind == "person":
            put_person(scene, x, z, rng.between(0, 6.28))
        elif kind == "animal":
            put_animal(scene, x, z)
        elif kind == "tree":
            put_tree(scene, math.copysign(half + 1.2, x), z, rng.between(0.7, 1.2))
        elif kind == "bicycle":
            put_bicycle(scene, x, z, rng.between(0, 6.28), rider=rng.chance(0.5))
        elif kind == "boat":
            put_boat(scene, min(max(x, 2.6 - half), half - 2.6), z, heading, rng.chance(0.4), [])
        else:
            put_parasol(scene, math.copysign(half + 1.0, x), z)
