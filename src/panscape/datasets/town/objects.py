"""One function for each kind of object of the town: chooses a model, colors and size, and puts it into a scene.

No category is told by its color alone, and large things wear what also covers stuff (a bus the windows of a facade, a
hull the planks of a wall, a crown the leaves of a park), so that a network has to see them whole.
"""

from __future__ import annotations

import math

from panscape.datasets.town.meshes import models
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
    """Return what of a model spans the most pixels from where the camera is, in metres."""
    model = models().table[name]
    return max(model.height, model.width) if scene.is_street else max(model.length, model.width)


def _facade(dice: Rng, is_night: bool) -> Material:
    wall, dark = dice.color(WALLS), dice.chance(0.75)
    pane: Color = dice.color((GLASS, (0.25, 0.32, 0.4), (0.1, 0.11, 0.13)), 0.15) if dark else (0.72, 0.76, 0.8)
    kind = dice.draw()
    if kind < 0.62:  # windows one by one
        grid = (dice.between(1.6, 3.2), dice.between(2.7, 3.4), dice.between(0.35, 0.6), dice.between(0.4, 0.62))
    elif kind < 0.82:  # ribbons of glass, as on the side of a bus
        grid = (dice.between(1.2, 2.0), dice.between(2.6, 3.2), 0.88, dice.between(0.38, 0.5))
    else:  # planks, as on a hull
        grid = (40.0, dice.between(0.4, 0.9), 1.1, 0.86)
        pane = (wall[0] * 0.86, wall[1] * 0.86, wall[2] * 0.88)
    noise = (dice.between(0.08, 0.3), dice.pick((8.0, 30.0, 50.0)))
    lit = dice.between(0.1, 0.5) if is_night and kind < 0.82 else 0.0
    return material(wall, pane, grid, noise, lit=lit, vary=dice.between(0.1, 0.8))


def put_building(
    scene: Scene, rect: tuple[float, float, float, float], height: float, *, hedge: bool = False, far: bool = False
) -> None:
    """Build on a rectangle x0, z0, x1, z1 in metres: a house, a block, or a hedge (vegetation)."""
    dice = scene.dice
    a, c, b, d = rect
    width, length = b - a, d - c
    place = ((a + b) / 2, (c + d) / 2)
    # A street has hardly room for what lies wholly behind the camera.
    if max(scene.locate(x, z)[2] for x in (a, b) for z in (c, d)) < 0.5:
        return
    if hedge:
        r, g, b_ = dice.color(LEAVES[:4])
        leaves = material((r, g, b_), noise=(0.5, 24.0))
        scene.put("block", VEGETATION, place, 0.0, (width, height, length), [leaves, leaves])
        return
    front = _facade(dice, scene.is_night)
    tiles = dice.color(ROOFS)
    shade: Color = (tiles[0] * 0.8, tiles[1] * 0.8, tiles[2] * 0.8)
    is_house = height < 13 and not far and dice.chance(0.5)
    if is_house:
        roof = material(tiles, shade, (60.0, dice.between(0.3, 0.6), 1.1, 0.3), (0.25, 30.0))
        if width < length:
            scene.put("house", BUILDING, place, 0.0, (width, height, length), [front, roof])
        else:
            scene.put("house", BUILDING, place, math.pi / 2, (length, height, width), [front, roof])
    else:
        grey = dice.between(0.35, 0.7)
        flat = tiles if dice.chance(0.3) else (grey, grey, grey * 0.98)
        scene.put("block", BUILDING, place, 0.0, (width, height, length), [front, material(flat, noise=(0.3, 12.0))])
        if not far:
            _roof_clutter(scene, rect, height)
    if is_house and dice.chance(0.6):
        brick = material(dice.color(WALLS), noise=(0.3, 40.0))
        x, z = place[0] + 0.2 * width, place[1] + dice.between(-0.3, 0.3) * length
        scene.put("block", BUILDING, (x, z), 0.0, (0.7, height * 1.02, 0.7), [brick, brick])
    if not far and dice.chance(0.55):
        _shop_front(scene, place, width, length)


def _roof_clutter(scene: Scene, rect: tuple[float, float, float, float], height: float) -> None:
    dice = scene.dice
    a, c, b, d = rect
    for _ in range(int(dice.between(0, 3.5))):
        grey = dice.between(0.3, 0.8)
        box = material((grey, grey, grey), (grey * 0.7, grey * 0.7, grey * 0.7), (0.5, 40, 0.5, 1.1), (0.1, 30.0))
        x, z = dice.between(a + 0.2 * (b - a), b - 0.2 * (b - a)), dice.between(c + 0.2 * (d - c), d - 0.2 * (d - c))
        size = (dice.between(1.0, 3.0), dice.between(0.6, 1.8), dice.between(1.0, 3.0))
        scene.put("block", BUILDING, (x, z), 0.0, size, [box, box], y=height)


def _shop_front(scene: Scene, place: tuple[float, float], width: float, length: float) -> None:
    dice = scene.dice
    frame = dice.color(PAINTS, 0.15)
    lit = 0.7 if scene.is_night else 0.0
    windows = material(frame, GLASS, (dice.between(1.8, 3.4), 3.0, 0.84, 0.68), (0.1, 20.0), lit=lit, vary=0.6)
    scene.put("block", BUILDING, place, 0.0, (width + 0.12, 3.0, length + 0.12), [windows, windows])
    if dice.chance(0.6):
        cloth = dice.color(PAINTS)
        stripes = material(cloth, (0.9, 0.88, 0.84), (dice.between(0.5, 1.2), 60.0, 0.5, 1.1))
        size = (width + dice.between(0.8, 2.0), 0.35, length - 0.4)
        scene.put("block", BUILDING, place, 0.0, size, [stripes, stripes], y=2.75)


def put_bush(scene: Scene, x: float, z: float) -> None:
    """Put a bush: vegetation, stuff."""
    size = scene.dice.between(0.6, 2.0)
    if scene.sees(x, z, size):
        scene.put("bush", VEGETATION, (x, z), 0.0, (size, size, size), [_leaves(scene.dice)])


def put_lamp(scene: Scene, x: float, z: float) -> None:
    """Put a lamp post, which counts as building: nothing is without a category."""
    if scene.locate(x, z)[2] > 8.0:
        grey = material((0.25, 0.27, 0.27))
        scene.put("lamp", BUILDING, (x, z), 0.0, (1.0, 4.6, 1.0), [grey])
        globe = material((0.9, 0.88, 0.8), glow=0.95 if scene.is_night else 0.0)
        scene.put("bush", BUILDING, (x, z), 0.0, (0.3, 0.35, 0.3), [globe], SHADOWLESS, y=4.5)


def _leaves(dice: Rng) -> Material:
    r, g, b = dice.color(LEAVES if dice.chance(0.4) else LEAVES[:4], 0.2)
    return material((r, g, b), noise=(dice.between(0.4, 0.75), dice.between(14.0, 34.0)))


def put_tree(scene: Scene, x: float, z: float, scale: float | None = None) -> bool:
    """Put a tree; return whether it is in the image."""
    dice = scene.dice
    name = dice.pick(("round", "round", "oak", "poplar", "fir"))
    size = dice.between(0.55, 1.5) if scale is None else scale
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    leaves = _leaves(dice)
    lighter = (leaves[0] * 1.12, leaves[1] * 1.12, leaves[2] * 1.08, *leaves[3:])
    trunk = material(dice.color(((0.35, 0.26, 0.18), (0.45, 0.42, 0.38))), noise=(0.4, 40.0))
    wide = size * dice.between(0.85, 1.15)
    scene.put(
        name, scene.new_segment(TREE), (x, z), dice.between(0, 6.28), (wide, size, wide), [trunk, leaves, lighter]
    )
    return True


def put_vehicle(scene: Scene, x: float, z: float, yaw: float, bus: float = 0.12) -> float:
    """Put a car or, with probability ``bus``, a bus; return its length in metres."""
    dice = scene.dice
    if dice.chance(bus):
        return put_bus(scene, x, z, yaw)
    name = dice.pick(CARS)
    length = models().table[name].length
    if not scene.sees(x, z, _extent(scene, name)):
        return length
    paint, night = dice.color(PAINTS, 0.15), scene.is_night
    body = material(paint, noise=(0.05, 12.0))
    cabin = material(paint, GLASS, (dice.between(0.9, 1.3), 0.62, 0.87, 1.1), (0.05, 12.0))
    screen = material(GLASS, noise=(0.25, 8.0))
    front = material((0.95, 0.95, 0.85), glow=1.0 if night else 0.0)
    rear = material((0.75, 0.1, 0.08), glow=0.8 if night else 0.0)
    size = dice.between(0.92, 1.06)
    surfaces = [body, cabin, TYRE, HUB, front, rear, body, body, screen]
    scene.put(name, scene.new_segment(CAR), (x, z), yaw + dice.between(-0.04, 0.04), (size, size, size), surfaces)
    return length


def put_bus(scene: Scene, x: float, z: float, yaw: float) -> float:
    """Put a bus; return its length in metres."""
    dice = scene.dice
    name = dice.pick(BUSES)
    length = models().table[name].length
    if not scene.sees(x, z, _extent(scene, name)):
        return length
    paint = dice.color(PAINTS if dice.chance(0.6) else WALLS, 0.12)
    side = material(paint, noise=(0.06, 10.0))
    fate = dice.draw()
    if fate < 0.25:  # covered by an advertisement that could hang on a facade
        side = _facade(dice, is_night=False)
    elif fate < 0.5:
        side = material(paint, dice.color(PAINTS), (dice.between(2.0, 7.0), 90.0, 0.5, 1.1), (0.06, 10.0))
    lit = 0.8 if scene.is_night else 0.0
    panes = material(paint, GLASS, (dice.between(1.1, 2.0), 3.0, 0.88, 1.1), (0.1, 8.0), lit=lit, vary=0.5)
    screen = material(GLASS, noise=(0.3, 6.0))
    front = material((0.95, 0.95, 0.85), glow=1.0 if scene.is_night else 0.0)
    rear = material((0.75, 0.1, 0.08), glow=0.8 if scene.is_night else 0.0)
    stripe = material(dice.color(PAINTS))
    roof = material(dice.color(((0.85, 0.85, 0.84), paint, (0.5, 0.5, 0.5))), noise=(0.1, 14.0))
    surfaces = [side, panes, TYRE, HUB, front, rear, stripe, roof, screen]
    scene.put(name, scene.new_segment(BUS), (x, z), yaw, (1.0, 1.0, 1.0), surfaces)
    return length


def put_person(scene: Scene, x: float, z: float, yaw: float, y: float = 0.0) -> bool:
    """Put a person; return whether they are in the image."""
    dice = scene.dice
    size = dice.between(0.92, 1.08) if dice.chance(0.85) else dice.between(0.6, 0.8)
    name = f"person{int(dice.draw() * 4)}" if y == 0 else "person3"
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    skin = material(dice.color(SKINS), noise=(0.04, 20.0))
    top = dice.color(PAINTS + WALLS, 0.2)
    shirt = material(top, noise=(0.12, 40.0))
    if dice.chance(0.3):
        shirt = material(top, noise=(0.5, 30.0))
    trousers = material(
        dice.color(((0.15, 0.17, 0.28), (0.12, 0.12, 0.12), (0.5, 0.45, 0.35), top)), noise=(0.12, 40.0)
    )
    hair, shoes = material(dice.color(HAIRS), noise=(0.25, 60.0)), material(dice.color(PAINTS))
    scale = (size * dice.between(0.9, 1.15), size, size)
    scene.put(name, scene.new_segment(PERSON), (x, z), yaw, scale, [skin, shirt, trousers, hair, shoes], y=y)
    return True


def put_bicycle(scene: Scene, x: float, z: float, yaw: float, *, rider: bool) -> None:
    """Put a bicycle, with somebody on it or without."""
    dice = scene.dice
    if not scene.sees(x, z, _extent(scene, "bicycle")):
        return
    frame = material(dice.color(PAINTS, 0.2))
    dark = material((0.12, 0.12, 0.12))
    scene.put("bicycle", scene.new_segment(BICYCLE), (x, z), yaw, (1.0, 1.0, 1.0), [dark, frame, dark])
    if rider:
        put_person(scene, x, z, yaw, y=0.28)


def put_animal(scene: Scene, x: float, z: float, *, pet: bool = False, yaw: float | None = None) -> bool:
    """Put a dog, a horse or a cow; return whether it is in the image."""
    dice = scene.dice
    name = "dog" if pet else dice.pick(("dog", "horse", "cow"))
    size = dice.between(0.8, 1.35) if name == "dog" else dice.between(0.85, 1.1)
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    color = dice.color(COATS, 0.15)
    spotted = dice.chance(0.4)
    coat = material(color, noise=(1.1, 30.0) if spotted else (0.2, 40.0))
    legs = coat if dice.chance(0.5) else material(dice.color(COATS), noise=(0.2, 40.0))
    dark = material((0.14, 0.12, 0.11))
    yaw = dice.between(0, 6.28) if yaw is None else yaw
    scene.put(name, scene.new_segment(ANIMAL), (x, z), yaw, (size, size, size), [coat, legs, dark])
    return True


def put_parasol(scene: Scene, x: float, z: float) -> bool:
    """Put a parasol; return whether it is in the image."""
    dice = scene.dice
    name, size = dice.pick(("parasol4", "parasol8")), dice.between(0.85, 1.25)
    if not scene.sees(x, z, size * _extent(scene, name)):
        return False
    one = dice.color(PAINTS + WALLS, 0.15)
    other = one if dice.chance(0.4) else dice.color(((0.92, 0.9, 0.86), *PAINTS))
    cloth = material(one, noise=(0.1, 20.0)), material(other, noise=(0.1, 20.0))
    pole = material((0.6, 0.58, 0.55))
    scene.put(name, scene.new_segment(PARASOL), (x, z), dice.between(0, 1.57), (size, size, size), [pole, *cloth])
    return True


def put_boat(
    scene: Scene, x: float, z: float, yaw: float, is_small: bool, taken: list[tuple[float, float, float]]
) -> float:
    """Put a boat unless it would touch one of ``taken`` (x, z, radius); return its radius, 0 if it is left out."""
    dice = scene.dice
    name = dice.pick(("rowing", "motor") if is_small else ("rowing", "motor", "sailing", "sailing", "barge", "ferry"))
    size = dice.between(0.8, 1.2)
    radius = 0.5 * size * models().table[name].length
    if any((x - a) ** 2 + (z - b) ** 2 < (0.85 * (radius + r)) ** 2 for a, b, r in taken):
        return 0.0
    if not scene.sees(x, z, size * _extent(scene, name)):
        return 0.0
    hull_color = dice.color(PAINTS + WALLS, 0.1)
    dark: Color = (hull_color[0] * 0.82, hull_color[1] * 0.82, hull_color[2] * 0.84)
    hull = material(hull_color, dark, (90.0, dice.between(0.25, 0.7), 1.1, 0.15), (0.15, 14.0))
    deck = material(
        dice.color(((0.72, 0.55, 0.35), (0.8, 0.8, 0.78), (0.5, 0.35, 0.25))), (0.4, 0.3, 0.2), (0.3, 60.0, 0.12, 1.1)
    )
    cabin = material(dice.color(((0.88, 0.88, 0.86), *WALLS)), noise=(0.08, 12.0))
    if name == "ferry" or (name == "barge" and dice.chance(0.5)):
        windows = _facade(dice, scene.is_night)
    else:
        windows = material((0.85, 0.85, 0.84), GLASS, (dice.between(0.7, 1.3), 0.7, 0.75, 1.1), vary=0.3)
    if name == "rowing":
        windows = material(dice.color(((0.4, 0.28, 0.18), (0.5, 0.5, 0.48))), noise=(0.2, 30.0))
    mast, sail = (
        material((0.75, 0.72, 0.68)),
        material(dice.color(((0.93, 0.92, 0.88), (0.7, 0.3, 0.2), (0.3, 0.4, 0.6)))),
    )
    cargo = material(dice.color(PAINTS), dice.color(PAINTS), (dice.between(1.0, 2.6), 60.0, 0.7, 1.1), (0.3, 12.0))
    surfaces = [hull, deck, cabin, mast, sail, windows, cargo, material(dice.color(PAINTS))]
    scene.put(name, scene.new_segment(BOAT), (x, z), yaw, (size, size, size), surfaces)
    return radius


_HERO_RADII = {"bus": 5.0, "car": 2.4, "boat": 6.0}


def add_foreground_object(scene: Scene, half: float, is_canal: bool) -> None:
    """Put a few objects close to a camera in the street, all kinds alike, so that none is known from afar alone."""
    dice = scene.dice
    height = scene.camera.size[0]
    right, _, forward = scene.axes[3:6], 0, scene.axes[9:12]
    for _ in range(dice.pick((1, 2, 2, 3, 4))):
        kind = (
            dice.pick(("boat",) * 3 + ("parasol",))
            if is_canal
            else dice.pick(("bus", "car", "person", "animal", "animal", "tree", "parasol", "bicycle", "bicycle"))
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
        share = dice.between(0.15, 0.85) * min(1.0, 520.0 / height)
        depth = max(scene.camera.focal * extent / (share * height), 2.0)
        if kind in ("bus", "boat"):
            depth += 4.5  # to its middle
        aside = depth * dice.between(-0.45, 0.45) * scene.camera.size[1] / scene.camera.focal
        x = scene.camera.position[0] + aside * right[0] + depth * forward[0]
        z = scene.camera.position[2] + aside * right[2] + depth * forward[2]
        x = min(max(x, -half - 2.0), half + 2.0)
        heading = (0.0 if x > 0 else math.pi) if dice.chance(0.7) else dice.between(0, 6.28)
        if kind in _HERO_RADII and not scene.is_free(x, z, _HERO_RADII[kind]):
            continue
        scene.taken.append((x, z, _HERO_RADII.get(kind, 0.8)))
        if kind == "bus":
            put_bus(scene, x, z, heading)
        elif kind == "car":
            put_vehicle(scene, x, z, heading, bus=0.0)
        elif kind == "person":
            put_person(scene, x, z, dice.between(0, 6.28))
        elif kind == "animal":
            put_animal(scene, x, z)
        elif kind == "tree":
            put_tree(scene, math.copysign(half + 1.2, x), z, dice.between(0.7, 1.2))
        elif kind == "bicycle":
            put_bicycle(scene, x, z, dice.between(0, 6.28), rider=dice.chance(0.5))
        elif kind == "boat":
            put_boat(scene, min(max(x, 2.6 - half), half - 2.6), z, heading, dice.chance(0.4), [])
        else:
            put_parasol(scene, math.copysign(half + 1.0, x), z)
