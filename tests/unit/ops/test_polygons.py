from __future__ import annotations

import numpy as np
import pytest
import shapely
from maps import generated_map
from scipy import ndimage

from panscape.ops.polygons import segment_polygons


def polygons_of(drawing: str):
    mask = np.array([[character != "." for character in row] for row in drawing.split()], np.int32)
    return [(p.exterior_xy.tolist(), [hole.tolist() for hole in p.holes_xy]) for p in segment_polygons(mask, 1)[0]]


def rasterized(polygon, size):
    """Fill by the even-odd rule: a pixel is inside if an odd number of vertical edges are to its left."""
    crossings = np.zeros((size[0], size[1] + 1), np.int64)
    for ring in (polygon.exterior_xy, *polygon.holes_xy):
        for (x, y), (after_x, after_y) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert (x == after_x) != (y == after_y), "edges follow the pixels"
            if x == after_x:
                crossings[min(y, after_y) : max(y, after_y), x] += 1
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


def test_a_pixel_is_a_square_from_its_upper_left_corner():
    assert polygons_of(".. .A") == [([[2, 1], [2, 2], [1, 2], [1, 1]], [])]


def test_a_hole_turns_the_other_way():
    ((exterior, (hole,)),) = polygons_of("AAA A.A AAA")
    assert exterior == [[3, 0], [3, 3], [0, 3], [0, 0]]
    assert sorted(hole) == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert shapely.LinearRing(exterior).is_ccw
    assert not shapely.LinearRing(hole).is_ccw


def test_pixels_that_touch_at_a_corner_are_two_polygons():
    assert len(polygons_of("A. .A")) == 2


def test_a_notch_that_closes_at_a_corner_is_a_hole():
    # The four neighbors of the center are connected around one side, and touch at (2, 1) on the other.
    ((exterior, holes),) = polygons_of("AA. A.A AAA")
    assert len(holes) == 1
    assert shapely.Polygon(exterior, holes).is_valid
    assert shapely.Polygon(exterior, holes).area == 7


def test_an_island_in_a_hole_is_a_polygon_of_its_own():
    found = polygons_of("AAAAA A...A A.A.A A...A AAAAA")
    assert [len(holes) for _, holes in found] == [1, 0]


def test_segments_without_pixels_have_none():
    assert segment_polygons(np.full((2, 2), 2, np.int32), 3)[::2] == [[], []]
    assert segment_polygons(np.zeros((0, 4), np.int32), 1) == [[]]


@pytest.mark.parametrize("seed", range(60))
def test_polygons_are_valid_and_cover_the_pixels_exactly(seed):
    rng = np.random.default_rng(seed)
    if seed < 50:
        ids = rng.integers(0, 1 + rng.integers(1, 4), rng.integers(1, 16, 2)).astype(np.int32)
    else:
        ids = generated_map(seed).ids.numpy()
    found = segment_polygons(ids, int(ids.max()))
    for row, polygons in enumerate(found, start=1):
        parts, num_parts = ndimage.label(ids == row)  # 4-connected, like the polygons
        assert len(polygons) == num_parts
        union = np.zeros(ids.shape, np.bool_)
        for polygon in polygons:
            shape = shapely.Polygon(polygon.exterior_xy, polygon.holes_xy)
            assert shape.is_valid, shapely.is_valid_reason(shape)
            inside = rasterized(polygon, ids.shape)
            assert shape.area == inside.sum()
            part = parts[inside][0]
            np.testing.assert_array_equal(inside, parts == part)
            background = np.pad(parts != part, 1, constant_values=True)
            assert len(polygon.holes_xy) == ndimage.label(background)[1] - 1
            union |= inside
        np.testing.assert_array_equal(union, ids == row)
