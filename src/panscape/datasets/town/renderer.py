"""A small 3D renderer: convex faces and round parts, depth test, one sun, cast shadows.

It renders the images and the ground truth of :mod:`panscape.datasets.town` in one pass. Only additions,
multiplications, divisions and square roots are used, so that every machine renders the same image.

Tables (float64, one row each; built by :mod:`panscape.datasets.town.scene`):

- ``parts`` [P, 8]: kind (0 face, 1 limb, 2 ball), first vertex, number of vertices, material slot, two radii,
  one-sided, roughness of the outline.
- ``things`` [I, 13]: first part, number of parts, segment, first material, position (3), cosine and sine of the yaw,
  scale (3), layer (0 ground, 1 casts a shadow, 2 casts none).
- ``materials`` [M, 16]: color (3), ink (3), period and filled fraction of the ink's grid (2 + 2, a period of 0
  disables it), strength and scale of the noise, glow, fraction of glowing grid cells, stagger of the grid, variation of
  the ink.
- ``camera`` [16]: position (3), the rows right, down and forward of its rotation (9), focal length in pixels, principal
  point x and y, near plane distance.
- ``light`` [10]: direction to the sun (3), color of the sun (3), color of the sky (3), fraction of light in shadows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Ids = NDArray[np.int32]

GROUND, CASTING = 0, 1
FACE, LIMB, BALL = 0, 1, 2
# Tolerance for coplanar faces: within it, the later face wins. (On the ground, the first one wins.)
COPLANAR = 1.00001


@jit
def _to_view(camera: Floats, x: float, y: float, z: float) -> tuple[float, float, float]:
    x, y, z = x - camera[0], y - camera[1], z - camera[2]
    return (
        camera[3] * x + camera[4] * y + camera[5] * z,
        camera[6] * x + camera[7] * y + camera[8] * z,
        camera[9] * x + camera[10] * y + camera[11] * z,
    )


@jit
def _to_world(thing: Floats, vertex: Floats) -> tuple[float, float, float]:
    x, y, z = vertex[0] * thing[9], vertex[1] * thing[10], vertex[2] * thing[11]
    return (
        x * thing[7] + z * thing[8] + thing[4],
        y + thing[5],
        z * thing[7] - x * thing[8] + thing[6],
    )


@jit
def _project(view: Floats, count: int, camera: Floats, screen: Floats) -> int:
    """Clip a face at the near plane and project it; return its number of corners."""
    near, corners = camera[15], 0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        here, there = view[i, 2] - near, view[j, 2] - near
        if here >= 0:
            screen[corners, 0] = camera[13] + camera[12] * view[i, 0] / view[i, 2]
            screen[corners, 1] = camera[14] + camera[12] * view[i, 1] / view[i, 2]
            corners += 1
        if (here >= 0) != (there >= 0):
            t = here / (here - there)
            screen[corners, 0] = camera[13] + camera[12] * (view[i, 0] + t * (view[j, 0] - view[i, 0])) / near
            screen[corners, 1] = camera[14] + camera[12] * (view[i, 1] + t * (view[j, 1] - view[i, 1])) / near
            corners += 1
    return corners


@jit
def _spans(screen: Floats, corners: int, spans: Ids, height: int, width: int) -> tuple[int, int]:
    """Write the half-open column span of a convex polygon for every row; return its half-open row span."""
    low, high = 1e9, -1e9
    for i in range(corners):
        low, high = min(low, screen[i, 1]), max(high, screen[i, 1])
    if corners < 3 or high < 0 or low > height:
        return 0, 0
    first, last = int(np.ceil(max(low, 0.0) - 0.5)), int(np.ceil(min(high, float(height)) - 0.5))
    for y in range(first, last):
        center, left, right = y + 0.5, 1e9, -1e9
        for i in range(corners):
            j = i + 1 if i + 1 < corners else 0
            a, b = screen[i, 1], screen[j, 1]
            if (a <= center) != (b <= center):
                x = screen[i, 0] + (center - a) / (b - a) * (screen[j, 0] - screen[i, 0])
                left, right = min(left, x), max(right, x)
        left, right = min(max(left, 0.0), float(width)), min(max(right, 0.0), float(width))
        spans[y, 0], spans[y, 1] = int(np.ceil(left - 0.5)), int(np.ceil(right - 0.5))
    return first, last


@jit
def _grid(
    material: Floats, u: float, v: float, per_u: float, per_v: float, footprint: float
) -> tuple[float, float, bool]:
    """Return the ink density at a point of a surface, the ink's brightness, and whether the grid cell glows."""
    b = v * per_v
    row = np.floor(b)
    a = u * per_u + material[14] * row
    column = np.floor(a)
    key = (int(column) * 73856093) ^ (int(row) * 19349663) ^ int(material[15] * 8191)
    key = ((key ^ (key >> 7)) * 668265263) & 0xFFFFF
    in_u, in_v = abs(a - column - 0.5) * 2 < material[8], abs(b - row - 0.5) * 2 < material[9]
    ink = 1.0 if in_u and in_v else 0.0
    # A grid finer than the pixels is replaced by its mean, as a lens would do.
    blur = min(max(2.5 * footprint * max(per_u, per_v) - 0.6, 0.0), 1.0)
    ink += blur * (material[8] * material[9] - ink)
    return ink, 1.0 + material[15] * ((key & 255) / 255.0 - 0.5), (key >> 8) < material[13] * 4096


@jit
def _plane_of_face(view: Floats, count: int, one_sided: bool, sun: Floats, plane: Floats) -> bool:
    """Write the plane of a face to ``plane`` and return whether it is visible.

    Along a ray d, the inverse depth of the plane is d.n / offset, and the plane coordinates are d.a / d.n and d.b /
    d.n. The row is n (3), a (3), b (3), offset, and the cosine of the angle to the sun.
    """
    ux, uy, uz = view[1, 0] - view[0, 0], view[1, 1] - view[0, 1], view[1, 2] - view[0, 2]
    length = np.sqrt(ux * ux + uy * uy + uz * uz) + 1e-12
    ux, uy, uz = ux / length, uy / length, uz / length
    x, y, z = view[0, 0], view[0, 1], view[0, 2]
    vx, vy, vz = view[count - 1, 0] - x, view[count - 1, 1] - y, view[count - 1, 2] - z
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    nx, ny, nz = nx / length, ny / length, nz / length
    offset = nx * x + ny * y + nz * z
    if (one_sided and offset >= 0) or abs(offset) < 1e-9:
        return False
    vx, vy, vz = ny * uz - nz * uy, nz * ux - nx * uz, nx * uy - ny * ux
    plane[0], plane[1], plane[2] = nx, ny, nz
    plane[3], plane[4], plane[5] = vy * z - vz * y, vz * x - vx * z, vx * y - vy * x
    plane[6], plane[7], plane[8] = y * uz - z * uy, z * ux - x * uz, x * uy - y * ux
    facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
    plane[9], plane[10] = offset, max(facing if offset < 0 else -facing, 0.0)
    return True


@jit
def _render_face(
    plane: Floats,
    rows: tuple[int, int],
    spans: Ids,
    material: Floats,
    segment: int,
    camera: Floats,
    light: Floats,
    noise: Pixels,
    color: Pixels,
    inverse_depth: Pixels,
    ids: Ids,
    ground: NDArray[np.uint8],
    is_ground: int,
) -> None:
    red = max(light[6] + light[3] * plane[10], material[12])
    green = max(light[7] + light[4] * plane[10], material[12])
    blue = max(light[8] + light[5] * plane[10], material[12])
    per_pixel, per_offset = 1.0 / camera[12], 1.0 / plane[9]
    per_u, per_v = 1.0 / max(material[6], 1e-6), 1.0 / max(material[7], 1e-6)
    cells, scale = noise.shape[0] - 1, material[11]
    order = 0.0 if is_ground else COPLANAR
    for y in range(rows[0], rows[1]):
        dy = (y + 0.5 - camera[14]) * per_pixel
        for x in range(spans[y, 0], spans[y, 1]):
            dx = (x + 0.5 - camera[13]) * per_pixel
            along = dx * plane[0] + dy * plane[1] + plane[2]
            near = along * per_offset
            if near * order < inverse_depth[y, x]:
                continue
            inverse = 1.0 / along
            u, v = (
                (dx * plane[3] + dy * plane[4] + plane[5]) * inverse,
                (dx * plane[6] + dy * plane[7] + plane[8]) * inverse,
            )
            # At grazing angles a pixel covers more of the surface.
            footprint = abs(plane[9] * inverse) * min(abs(inverse), 12.0) * per_pixel
            r, g, b = material[0] * red, material[1] * green, material[2] * blue
            if material[6] > 0:
                ink, bright, glows = _grid(material, u, v, per_u, per_v, footprint)
                if glows:
                    r, g, b = r + ink * (0.98 - r), g + ink * (0.82 - g), b + ink * (0.48 - b)
                else:
                    r += ink * (material[3] * bright * red - r)
                    g += ink * (material[4] * bright * green - g)
                    b += ink * (material[5] * bright * blue - b)
            grain = noise[int(np.floor(v * scale)) & cells, int(np.floor(u * scale)) & cells]
            shade = 1.0 + material[10] * grain / (1.0 + 0.25 * footprint * scale)
            color[y, x, 0], color[y, x, 1], color[y, x, 2] = r * shade, g * shade, b * shade
            inverse_depth[y, x] = near
            ids[y, x] = segment
            ground[y, x] = is_ground


@jit
def _render_round(
    view: Floats,
    part: Floats,
    radii: tuple[float, float],
    material: Floats,
    segment: int,
    camera: Floats,
    sun: Floats,
    light: Floats,
    noise: Pixels,
    color: Pixels,
    inverse_depth: Pixels,
    ids: Ids,
) -> None:
    """Render a limb (a capsule between two points, a radius at each) or a ball (one point, radii across and up)."""
    focal, near, rough = camera[12], camera[15], part[7]
    r0, r1, squash, end = radii[0], radii[1], 1.0, 1
    if part[0] == BALL:
        # Its apparent height depends on the pitch: the horizontal radius from above, the vertical one from the side.
        pitch = camera[10] * camera[10]
        squash, r1, end = np.sqrt(r1 * r1 * (1 - pitch) + r0 * r0 * pitch) / r0, r0, 0
    z0, z1 = view[0, 2], view[end, 2]
    if z0 < near or z1 < near:
        return
    x0, y0 = camera[13] + focal * view[0, 0] / z0, camera[14] + focal * view[0, 1] / z0
    ex, ey = camera[13] + focal * view[end, 0] / z1 - x0, camera[14] + focal * view[end, 1] / z1 - y0
    # Thinner than a pixel, the segment would break into fragments.
    r0, r1 = max(r0 * focal / z0, 0.6), max(r1 * focal / z1, 0.6)
    height, width = ids.shape
    spread = max(r0, r1) * (1.0 + rough)
    left, right = int(max(min(x0, x0 + ex) - spread, 0.0)), int(min(max(x0, x0 + ex) + spread + 1, float(width)))
    top = int(max(min(y0, y0 + ey) - spread * squash, 0.0))
    bottom = int(min(max(y0, y0 + ey) + spread * squash + 1, float(height)))
    square = ex * ex + ey * ey
    cells = noise.shape[0] - 1
    metre, scale = z0 / focal, material[11]
    for y in range(top, bottom):
        for x in range(left, right):
            px, py = x + 0.5 - x0, (y + 0.5 - y0) / squash
            t = min(max((px * ex + py * ey) / square, 0.0), 1.0) if square > 1e-6 else 0.0
            px, py = px - t * ex, py - t * ey
            r = r0 + t * (r1 - r0)
            px, py = px / r, py / r
            q = px * px + py * py
            if q > (1.0 + rough) * (1.0 + rough):
                continue
            u, v = (x - x0) * metre * scale + 97 * x0, (y - y0) * metre * scale + 57 * y0
            grain = noise[int(np.floor(v)) & cells, int(np.floor(u)) & cells]
            if rough > 0:
                q = q * (1.0 + rough * grain) * (1.0 + rough * grain)
            if q > 1.0:
                continue
            out = np.sqrt(1.0 - q)
            close = 1.0 / max(z0 + t * (z1 - z0) - out * r * metre, near)
            if close < inverse_depth[y, x]:
                continue
            facing = max(px * sun[0] + py * sun[1] - out * sun[2], 0.0)
            shade = 1.0 + material[10] * grain
            for k in range(3):
                color[y, x, k] = material[k] * shade * max(light[6 + k] + light[3 + k] * facing, material[12])
            inverse_depth[y, x] = close
            ids[y, x] = segment


@jit
def _darken(rows: tuple[int, int], spans: Ids, shadow: float, color: Pixels, ground: NDArray[np.uint8]) -> None:
    """Darken the ground pixels covered by a polygon, each pixel once."""
    for y in range(rows[0], rows[1]):
        for x in range(spans[y, 0], spans[y, 1]):
            if ground[y, x] == 1:
                ground[y, x] = 2
                color[y, x, 0] *= shadow
                color[y, x, 1] *= shadow
                color[y, x, 2] *= shadow


@jit
def _shadow(part: Floats, corners: Floats, scale: float, light: Floats) -> int:
    """Replace a part's world points by the outline of its shadow on the ground; return the number of corners."""
    sx, sy, sz = light[0], light[1], light[2]
    count = int(part[2])
    if part[0] != FACE:
        # A round part casts the shadow of a disc or a band that faces the sun.
        is_ball = part[0] == BALL
        x0, y0, z0 = corners[0, 0], corners[0, 1], corners[0, 2]
        x1, y1, z1 = corners[1, 0], corners[1, 1], corners[1, 2]
        dx, dy, dz = (0.0, 1.0, 0.0) if is_ball else (x1 - x0, y1 - y0, z1 - z0)
        ax, ay, az = dy * sz - dz * sy, dz * sx - dx * sz, dx * sy - dy * sx
        length = np.sqrt(ax * ax + ay * ay + az * az) + 1e-9
        ax, ay, az = ax / length, ay / length, az / length
        bx, by, bz = sy * az - sz * ay, sz * ax - sx * az, sx * ay - sy * ax
        r0, r1 = part[4] * scale, part[5] * scale
        count = 8 if is_ball else 4
        p, q = r0, 0.0
        for i in range(count):
            if is_ball:
                corners[i, 0], corners[i, 1] = x0 + p * ax + q * bx, y0 + p * ay + q * by
                corners[i, 2] = z0 + p * az + q * bz
                p, q = 0.70710678 * (p - q), 0.70710678 * (p + q)
            else:
                side = r0 if i == 0 else (r1 if i == 1 else (-r1 if i == 2 else -r0))
                is_start = i == 0 or i == 3
                corners[i, 0] = (x0 if is_start else x1) + side * ax
                corners[i, 1] = (y0 if is_start else y1) + side * ay
                corners[i, 2] = (z0 if is_start else z1) + side * az
    for i in range(count):
        fall = max(corners[i, 1], 0.0) / sy
        corners[i, 0], corners[i, 1], corners[i, 2] = corners[i, 0] - fall * sx, 0.0, corners[i, 2] - fall * sz
    return count


@jit
def rasterize(
    vertices: Floats,
    parts: Floats,
    things: Floats,
    materials: Floats,
    camera: Floats,
    light: Floats,
    noise: Pixels,
    color: Pixels,
    inverse_depth: Pixels,
    ids: Ids,
    ground: NDArray[np.uint8],
) -> None:
    """Render a scene: objects by depth first, then the visible ground, then the shadows on it.

    Args:
        vertices: float64 [V, 3], the points of the parts, in metres.
        parts: parts table, see the module's docstring, as for the next four.
        things: objects table; the topmost ground comes first, and near objects should come first.
        materials: materials table.
        camera: camera row.
        light: light row.
        noise: float32 [N, N], N a power of two; values around 0.
        color: float32 [H, W, 3], written; untouched pixels are sky.
        inverse_depth: float32 [H, W], zeros on entry; written: the inverse distance along the viewing axis.
        ids: int32 [H, W], written.
        ground: uint8 [H, W], zeros on entry; written: 1 for visible ground, 2 for ground in shadow.
    """
    corners, view, screen = np.zeros((16, 3)), np.zeros((16, 3)), np.zeros((18, 2))
    spans, plane, sun = np.zeros((ids.shape[0] + 1, 2), np.int32), np.zeros(11), np.zeros(3)
    for k in range(3):
        sun[k] = camera[3 + 3 * k] * light[0] + camera[4 + 3 * k] * light[1] + camera[5 + 3 * k] * light[2]
    for stage in range(3):  # objects, ground, shadows
        for i in range(things.shape[0]):
            thing = things[i]
            if (thing[12] == GROUND) != (stage == 1) or (stage == 2 and thing[12] != CASTING):
                continue
            segment = int(thing[2])
            for p in range(int(thing[0]), int(thing[0] + thing[1])):
                part, material = parts[p], materials[int(thing[3] + parts[p, 3])]
                start, count = int(part[1]), int(part[2])
                for c in range(count):
                    corners[c, 0], corners[c, 1], corners[c, 2] = _to_world(thing, vertices[start + c])
                if stage == 2:
                    count = _shadow(part, corners, thing[9], light)
                is_in_front = False
                for c in range(count):
                    view[c, 0], view[c, 1], view[c, 2] = _to_view(camera, corners[c, 0], corners[c, 1], corners[c, 2])
                    is_in_front = is_in_front or view[c, 2] > camera[15]
                if not is_in_front:
                    continue
                if stage < 2 and part[0] != FACE:
                    radii = (part[4] * thing[9], part[5] * (thing[10] if part[0] == BALL else thing[9]))
                    _render_round(
                        view, part, radii, material, segment, camera, sun, light, noise, color, inverse_depth, ids
                    )
                    continue
                if stage < 2 and not _plane_of_face(view, count, part[6] > 0, sun, plane):
                    continue
                rows = _spans(screen, _project(view, count, camera, screen), spans, ids.shape[0], ids.shape[1])
                if stage == 2:
                    _darken(rows, spans, light[9], color, ground)
                else:
                    _render_face(
                        plane,
                        rows,
                        spans,
                        material,
                        segment,
                        camera,
                        light,
                        noise,
                        color,
                        inverse_depth,
                        ids,
                        ground,
                        stage,
                    )
