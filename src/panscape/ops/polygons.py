"""Outlines of segments as polygons with holes, along the edges of the pixels, compiled.

The polygons cover exactly the pixels of a segment: their area is its number of pixels. Pixels that touch at a corner
only are separate polygons, so rings are simple and polygons valid in the sense of OGC; a hole may touch the exterior at
single points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit

_Int32 = NDArray[np.int32]


class Polygon(NamedTuple):
    """One connected part of a segment.

    Points are corners of pixels in ``x, y`` order, as for boxes: the first pixel of the image covers (0, 0) to (1, 1).
    Rings are not closed, their last point differs from the first one. The shoelace formula on (x, y) is positive for
    the exterior (clockwise on the screen) and negative for holes.

    Attributes:
        exterior_xy: int32 [N, 2].
        holes_xy: one int32 [M, 2] for each hole.
    """

    exterior_xy: _Int32
    holes_xy: tuple[_Int32, ...]


def segment_polygons(ids: _Int32, num_segments: int) -> list[list[Polygon]]:
    """Return the polygons of each segment, in the order of their first pixel, row by row.

    Args:
        ids: [H, W] in 0..num_segments; 0 has no polygons.
        num_segments: number of segments S.

    Returns:
        S lists; that of a segment without pixels is empty.
    """
    points, stops, owners, parents = _trace(np.ascontiguousarray(ids))
    rings = np.split(points, stops[:-1])
    holes: dict[int, list[_Int32]] = {}
    for ring, parent in enumerate(parents):
        if parent != ring:
            holes.setdefault(int(parent), []).append(rings[ring])
    polygons: list[list[Polygon]] = [[] for _ in range(num_segments)]
    for ring, (owner, parent) in enumerate(zip(owners, parents, strict=True)):
        if parent == ring:
            polygons[owner - 1].append(Polygon(rings[ring], tuple(holes.get(ring, ()))))
    return polygons


@jit
def _with_room(values: _Int32, used: int) -> _Int32:
    """Return an array with room for one more value: twice as long if all are used."""
    return np.append(values, np.empty_like(values)) if used == len(values) else values


@jit
def _trace(ids: _Int32) -> tuple[_Int32, _Int32, _Int32, _Int32]:
    """Trace all rings; return their corners [N, 2], where each ring ends, its id, and the ring of its exterior."""
    height, width = ids.shape
    points = np.empty((1024, 2), np.int32)  # of all rings so far; grows
    stops = np.empty(256, np.int32)
    owners = np.empty(256, np.int32)
    num_points, num_rings = 0, 0
    is_traced = np.zeros((height, width), np.bool_)  # upper edges of pixels
    place = np.full((height + 1, width + 1), -1, np.int32)  # of a corner in the ring at hand
    for row in range(height):
        for column in range(width):
            owner = ids[row, column]
            if owner == 0 or is_traced[row, column] or (row > 0 and ids[row - 1, column] == owner):
                continue
            # Follow the edges with the segment to the right: direction 0 is right, 1 down, 2 left, 3 up.
            y, x, direction = row, column, 0
            first = num_points  # of the corners that are not yet in a finished ring
            while True:
                if direction == 0:
                    if is_traced[y, x]:
                        break
                    is_traced[y, x] = True
                    x += 1
                elif direction == 1:
                    y += 1
                elif direction == 2:
                    x -= 1
                else:
                    y -= 1
                ahead_y, ahead_x = y - (direction >= 2), x - (direction == 1 or direction == 2)
                beside_y, beside_x = y - (direction == 0 or direction == 3), x - (direction >= 2)
                is_ahead = 0 <= ahead_y < height and 0 <= ahead_x < width and ids[ahead_y, ahead_x] == owner
                is_beside = 0 <= beside_y < height and 0 <= beside_x < width and ids[beside_y, beside_x] == owner
                if is_ahead and not is_beside:
                    continue
                direction = (direction + (3 if is_ahead else 1)) % 4
                if place[y, x] >= 0:  # the ring touches itself: what came since is a ring of its own
                    start = place[y, x]
                    length = num_points - start
                    ring = points[start:num_points].copy()
                    for k in range(length):
                        place[ring[k, 1], ring[k, 0]] = -1
                    # Finished rings come first, so the open corners move behind this one.
                    for k in range(start - 1, first - 1, -1):
                        points[k + length] = points[k]
                        place[points[k, 1], points[k, 0]] = k + length
                    points[first : first + length] = ring
                    first += length
                    stops, owners = _with_room(stops, num_rings), _with_room(owners, num_rings)
                    stops[num_rings], owners[num_rings] = first, owner
                    num_rings += 1
                if num_points == len(points):
                    points = np.concatenate((points, np.empty_like(points)))
                points[num_points, 0], points[num_points, 1] = x, y
                place[y, x] = num_points
                num_points += 1
            for k in range(first, num_points):
                place[points[k, 1], points[k, 0]] = -1
            stops, owners = _with_room(stops, num_rings), _with_room(owners, num_rings)
            stops[num_rings], owners[num_rings] = num_points, owner
            num_rings += 1
    points, stops, owners = points[:num_points], stops[:num_rings], owners[:num_rings]
    return points, stops, owners, _parents(ids, points, stops)


@jit
def _parents(ids: _Int32, points: _Int32, stops: _Int32) -> _Int32:
    """Return the ring of the exterior of each ring; itself for an exterior."""
    ring_at_left = np.full(ids.shape, -1, np.int32)  # of the left edge of a pixel
    parents = np.empty(len(stops), np.int32)
    start = 0
    for ring in range(len(stops)):
        area, previous = 0, stops[ring] - 1
        for k in range(start, stops[ring]):
            x, y, before_x, before_y = points[k, 0], points[k, 1], points[previous, 0], points[previous, 1]
            area += np.int64(before_x) * y - np.int64(x) * before_y
            for edge in range(y, before_y):  # upwards
                ring_at_left[edge, x] = ring
            previous = k
        parents[ring] = ring if area > 0 else -1
        start = stops[ring]
    start = 0
    for ring in range(len(stops)):
        if parents[ring] < 0:
            # The upper left corner of a hole: the pixel to its left is in the run of another ring's left edge.
            y, x = ids.shape
            for k in range(start, stops[ring]):
                if points[k, 1] < y or (points[k, 1] == y and points[k, 0] < x):
                    x, y = points[k, 0], points[k, 1]
            x -= 1
            while x > 0 and ids[y, x - 1] == ids[y, x]:
                x -= 1
            parents[ring] = ring_at_left[y, x]
        start = stops[ring]
    for ring in range(len(stops)):
        while parents[parents[ring]] != parents[ring]:
            parents[ring] = parents[parents[ring]]
    return parents
