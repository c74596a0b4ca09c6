"""The renderer against a pinhole camera computed by hand, and compiled against plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest

from panscape.datasets.town import image_effects, renderer
from panscape.datasets.town.layout import build_town
from panscape.datasets.town.meshes import town_meshes
from panscape.datasets.town.scene import Camera, Rng, material, noise_tile, sensor_noise
from panscape.ops.jit import JitKernel

SIZE = (64, 96)
# One metre above the ground, looking ahead, 50 pixels of focal length; the horizon is the middle row.
CAMERA = Camera((0.0, 1.0, 0.0), 0.0, 0.0, 50.0, (48.0, 32.0), SIZE).table()
NOON = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25])
WHITE = material((1.0, 1.0, 1.0), noise=(0.0, 1.0))


def painted(parts, vertices, things, materials, light=NOON, camera=CAMERA):
    buffers = [np.zeros((*SIZE, 3), np.float32), np.zeros(SIZE, np.float32), np.zeros(SIZE, np.int32)]
    ground = np.zeros(SIZE, np.uint8)
    tables = [np.array(t, dtype=np.float64) for t in (vertices, parts, things, materials)]
    renderer.rasterize(*tables, camera, light, noise_tile(), *buffers, ground)
    return *buffers, ground


def thing(parts: int, segment: int, place=(0.0, 0.0, 0.0), layer: int = 2, first: int = 0) -> tuple:
    return (first, parts, segment, 0, *place, 1, 0, 1, 1, 1, layer)


WALL = [(-1, 0, 10), (1, 0, 10), (1, 3, 10), (-1, 3, 10)]


def test_a_wall_lies_where_a_pinhole_camera_sees_it() -> None:
    _, inverse_depth, ids, _ = painted([(0, 0, 4, 0, 0, 0, 0, 0)], WALL, [thing(1, 7)], [WHITE])
    rows, columns = np.nonzero(ids == 7)
    # x: 48 +- 50 / 10; y from 32 - 50 * 2 / 10 to 32 + 50 * 1 / 10.
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (43, 53, 22, 37)
    assert len(rows) == 10 * 15
    np.testing.assert_allclose(inverse_depth[ids == 7], 0.1, rtol=1e-6)


@pytest.mark.parametrize("far_first", [True, False])
def test_near_surfaces_hide_far_ones_in_any_order(far_first: bool) -> None:
    things = [thing(1, 1, (0, 0, 10)), thing(1, 2, (0.5, 0, 0))]
    _, _, ids, _ = painted([(0, 0, 4, 0, 0, 0, 0, 0)], WALL, things if far_first else things[::-1], [WHITE])
    assert (ids[22:37, 45:55] == 2).all()
    assert (ids[27:34, 43:45] == 0).all()
    # 20 m away: columns 45.5..50.5, rows 27..34.5, all behind the near wall.
    assert not (ids == 1).any()


def test_a_ball_covers_a_disc_and_a_limb_a_disc_and_a_band() -> None:
    ball, limb = (2, 0, 1, 0, 2.0, 2.0, 0, 0), (1, 1, 2, 0, 0.5, 0.5, 0, 0)
    vertices = [(0, 1, 8), (-2, 1, 8), (2, 1, 8)]
    _, _, ids, _ = painted([ball], vertices, [thing(1, 1)], [WHITE])
    assert (ids == 1).sum() == pytest.approx(math.pi * 12.5**2, rel=0.03)
    _, _, ids, _ = painted([limb], vertices, [thing(1, 1)], [WHITE])
    radius = 0.5 * 50 / 8
    assert (ids == 1).sum() == pytest.approx(25 * 2 * radius + math.pi * radius**2, rel=0.08)


def test_a_shadow_falls_away_from_the_sun_and_leaves_ids_alone() -> None:
    floor = [(-50, 0, 1), (50, 0, 1), (50, 0, 60), (-50, 0, 60)]
    parts = [(0, 0, 4, 0, 0, 0, 0, 0), (0, 4, 4, 0, 0, 0, 0, 0)]
    things = [thing(1, 2, layer=1, first=1), thing(1, 1, layer=0)]
    high = math.sqrt(0.5)
    light = np.array([high, high, 0.0, 0.0, 0.0, 0.0, 0.8, 0.8, 0.8, 0.25])  # the sun on the right, 45 degrees up
    # A wall seen edge-on, 2 m high at x = 0, 9 to 11 m away: its shadow spans x from -2 to 0.
    wall = [(0, 0, 9), (0, 0, 11), (0, 2, 11), (0, 2, 9)]
    color, _, ids, ground = painted(parts, floor + wall, things, [WHITE], light)
    row = 37  # 10 m away, at the pixels' centres 9.09 m
    shaded = np.nonzero(ground[row] == 2)[0]
    distance = 50 / (row + 0.5 - 32)
    assert shaded.min() == pytest.approx(48 - 2 * 50 / distance, abs=1)
    assert shaded.max() == pytest.approx(47, abs=1)
    np.testing.assert_allclose(color[row, shaded], 0.2, rtol=1e-5)
    assert (ids[row] == 1).all()


def test_settling_leaves_no_gaps_and_no_slivers() -> None:
    ids = np.array([[5, 5, 5, 0], [2, 2, 2, 2], [4, 4, 1, 1]], np.int32)
    kept = np.zeros(5, np.int64)
    count = image_effects.compact_ids(ids, 5, 3, kept)
    assert kept[:count].tolist() == [2, 5]
    assert ids.tolist() == [[2, 2, 2, 0], [1, 1, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("view", ["street", "above"])
def test_compiled_and_plain_painting_give_the_same_bits(view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def image() -> list[np.ndarray]:
        size = (48, 72)
        scene, light, air = build_town(Rng(2, 3), size, view)
        things, materials = scene.tables()
        camera, table = scene.camera.table(), town_meshes()
        color, inverse_depth = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)
        ids, photo = np.zeros(size, np.int32), np.zeros((3, *size), np.uint8)
        ground = np.zeros(size, np.uint8)
        renderer.rasterize(
            table.vertices,
            table.parts,
            things,
            materials,
            camera,
            light,
            noise_tile(),
            color,
            inverse_depth,
            ids,
            ground,
        )
        image_effects.apply_camera_effects(color, inverse_depth, ids, camera, air, noise_tile(), sensor_noise(), photo)
        return [color, inverse_depth, ids, ground, photo]

    compiled = image()
    for module in (renderer, image_effects):
        for name, kernel in list(vars(module).items()):
            if isinstance(kernel, JitKernel):
                monkeypatch.setattr(module, name, kernel.function)
    assert not isinstance(renderer.rasterize, JitKernel)
    for one, other in zip(compiled, image(), strict=True):
        np.testing.assert_array_equal(one, other)
