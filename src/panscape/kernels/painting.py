"""A small painter of three-dimensional scenes: convex faces and round parts, a depth test, one sun, cast shadows.

It makes the pictures and the truth of :mod:`panscape.datasets.town` in one pass. Only additions, multiplications,
divisions and square roots are used, so that every machine paints the same picture.

Tables (float64, one row each; the writer is :mod:`panscape.datasets.town_scene`):

- ``parts`` [P, 8]: kind (0 face, 1 limb, 2 ball), first vertex, number of vertices, material slot, two radii,
  one-sided, roughness of the outline.
- ``things`` [I, 13]: first part, number of parts, segment, first material, position (3), cosine and sine of the yaw,
  scale (3), layer (0 ground, 1 casts a shadow, 2 casts none).
- ``materials`` [M, 16]: color (3), ink (3), period and filled share of the ink's grid (2 + 2, a period of 0 is
  none), strength and scale of the noise, glow, share of glowing grid cells, stagger of the grid, variation of the ink.
- ``camera`` [16]: position (3), the rows right, down and forward of its rotation (9), focal length in pixels, the
  picture's centre x and y, the nearest distance shown.
- ``light`` [10]: direction to the sun (3), the sun's color (3), the sky's color (3), what a shadow leaves of the light.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.kernels.compiling import compiled

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Ids = NDArray[np.int32]

GROUND, CASTING = 0, 1
FACE, LIMB, BALL = 0, 1, 2
# Faces of one plane are told apart by their order: the later one wins within this. (On the ground, the first one wins.)
COPLANAR = 1.00001


@compiled
def _to_view(camera: Floats, x: float, y: float, z: float) -> tuple[float, float, float]:
    x, y, z = x - camera[0], y - camera[1], z - camera[2]
    return (
        camera[3] * x + camera[4] * y + camera[5] * z,
        camera[6] * x + camera[7] * y + camera[8] * z,
        camera[9] * x + camera[10] * y + camera[11] * z,
    )


@compiled
def _to_world(thing: Floats, vertex: Floats) -> tuple[float, float, float]:
    x, y, z = vertex[0] * thing[9], vertex[1] * thing[10], vertex[2] * thing[11]
    return (
        x * thing[7] + z * thing[8] + thing[4],
        y + thing[5],
        z * thing[7] - x * thing[8] + thing[6],
    )


@compiled
def _project(view: Floats, count: int, camera: Floats, screen: Floats) -> int:
    """Cut a face at the nearest distance shown and project it; return its number of corners."""
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


@compiled
def _spans(screen: Floats, corners: int, spans: Ids, height: int, width: int) -> tuple[int, int]:
    """Write the first and last + 1 column of a convex polygon on every row; return the first and last + 1 row."""
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


@compiled
def _grid(
    material: Floats, u: float, v: float, per_u: float, per_v: float, footprint: float
) -> tuple[float, float, bool]:
    """Return how much ink lies at a point of a surface, the ink's brightness, and whether this cell glows."""
    b = v * per_v
    row = np.floor(b)
    a = u * per_u + material[14] * row
    column = np.floor(a)
    key = (int(column) * 73856093) ^ (int(row) * 19349663) ^ int(material[15] * 8191)
    key = ((key ^ (key >> 7)) * 668265263) & 0xFFFFF
    in_u, in_v = abs(a - column - 0.5) * 2 < material[8], abs(b - row - 0.5) * 2 < material[9]
    ink = 1.0 if in_u and in_v else 0.0
    # A grid finer than the pixels shows its mean, as a lens would.
    blur = min(max(2.5 * footprint * max(per_u, per_v) - 0.6, 0.0), 1.0)
    ink += blur * (material[8] * material[9] - ink)
    return ink, 1.0 + material[15] * ((key & 255) / 255.0 - 0.5), (key >> 8) < material[13] * 4096


@compiled
def _paint_face(
    view: Floats,
    screen: Floats,
    spans: Ids,
    one_sided: bool,
    material: Floats,
    segment: int,
    camera: Floats,
    sun: Floats,
    light: Floats,
    noise: Pixels,
    color: Pixels,
    nearness: Pixels,
    ids: Ids,
    count: int,
    order: float,
    ground: NDArray[np.uint8],
    is_ground: int,
) -> None:
    ux, uy, uz = view[1, 0] - view[0, 0], view[1, 1] - view[0, 1], view[1, 2] - view[0, 2]
    length = np.sqrt(ux * ux + uy * uy + uz * uz) + 1e-12
    ux, uy, uz = ux / length, uy / length, uz / length
    x0, y0, z0 = view[0, 0], view[0, 1], view[0, 2]
    vx, vy, vz = view[count - 1, 0] - x0, view[count - 1, 1] - y0, view[count - 1, 2] - z0
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    nx, ny, nz = nx / length, ny / length, nz / length
    vx, vy, vz = ny * uz - nz * uy, nz * ux - nx * uz, nx * uy - ny * ux
    offset = nx * x0 + ny * y0 + nz * z0
    if (one_sided and offset >= 0) or abs(offset) < 1e-9:
        return
    facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
    facing = max(facing if offset < 0 else -facing, 0.0)
    red = max(light[6] + light[3] * facing, material[12])
    green = max(light[7] + light[4] * facing, material[12])
    blue = max(light[8] + light[5] * facing, material[12])
    corners = _project(view, count, camera, screen)
    height, width = ids.shape
    first, last = _spans(screen, corners, spans, height, width)
    # Along a ray d the plane lies at 1 / (d.n / offset), its coordinates are d.(v x p) / d.n and d.(p x u) / d.n.
    ax, ay, az = vy * z0 - vz * y0, vz * x0 - vx * z0, vx * y0 - vy * x0
    bx, by, bz = y0 * uz - z0 * uy, z0 * ux - x0 * uz, x0 * uy - y0 * ux
    per_pixel, per_offset = 1.0 / camera[12], 1.0 / offset
    per_u, per_v = 1.0 / max(material[6], 1e-6), 1.0 / max(material[7], 1e-6)
    cells = noise.shape[0] - 1
    for y in range(first, last):
        dy = (y + 0.5 - camera[14]) * per_pixel
        for x in range(spans[y, 0], spans[y, 1]):
            dx = (x + 0.5 - camera[13]) * per_pixel
            along = dx * nx + dy * ny + nz
            near = along * per_offset
            if near * order < nearness[y, x]:
                continue
            inverse = 1.0 / along
            u, v = (dx * ax + dy * ay + az) * inverse, (dx * bx + dy * by + bz) * inverse
            # Surfaces seen at a flat angle squeeze more of themselves into a pixel.
            footprint = abs(offset * inverse) * min(abs(inverse), 12.0) * per_pixel
            r, g, b = material[0] * red, material[1] * green, material[2] * blue
            if material[6] > 0:
                ink, bright, glows = _grid(material, u, v, per_u, per_v, footprint)
                if glows:
                    r, g, b = r + ink * (0.98 - r), g + ink * (0.82 - g), b + ink * (0.48 - b)
                else:
                    r += ink * (material[3] * bright * red - r)
                    g += ink * (material[4] * bright * green - g)
                    b += ink * (material[5] * bright * blue - b)
            scale = material[11]
            grain = noise[int(np.floor(v * scale)) & cells, int(np.floor(u * scale)) & cells]
            shade = 1.0 + material[10] * grain / (1.0 + 0.25 * footprint * scale)
            color[y, x, 0], color[y, x, 1], color[y, x, 2] = r * shade, g * shade, b * shade
            nearness[y, x] = near
            ids[y, x] = segment
            ground[y, x] = is_ground


@compiled
def _paint_round(
    ends: Floats,
    radius: tuple[float, float],
    squash: float,
    rough: float,
    material: Floats,
    segment: int,
    camera: Floats,
    sun: Floats,
    light: Floats,
    noise: Pixels,
    color: Pixels,
    nearness: Pixels,
    ids: Ids,
) -> None:
    """Paint a limb (a capsule between two points, a radius at each) or a ball (both points the same)."""
    focal, near = camera[12], camera[15]
    z0, z1 = ends[0, 2], ends[1, 2]
    if z0 < near or z1 < near:
        return
    x0, y0 = camera[13] + focal * ends[0, 0] / z0, camera[14] + focal * ends[0, 1] / z0
    ex, ey = camera[13] + focal * ends[1, 0] / z1 - x0, camera[14] + focal * ends[1, 1] / z1 - y0
    # Thinner than a pixel would tear the segment to crumbs.
    r0, r1 = max(radius[0] * focal / z0, 0.6), max(radius[1] * focal / z1, 0.6)
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
            if close < nearness[y, x]:
                continue
            facing = max(px * sun[0] + py * sun[1] - out * sun[2], 0.0)
            shade = 1.0 + material[10] * grain
            for k in range(3):
                color[y, x, k] = material[k] * shade * max(light[6 + k] + light[3 + k] * facing, material[12])
            nearness[y, x] = close
            ids[y, x] = segment


@compiled
def _cast(screen: Floats, corners: int, spans: Ids, left_over: float, color: Pixels, ground: NDArray[np.uint8]) -> None:
    """Darken a polygon of the ground, each pixel once."""
    height, width = ground.shape
    first, last = _spans(screen, corners, spans, height, width)
    for y in range(first, last):
        for x in range(spans[y, 0], spans[y, 1]):
            if ground[y, x] == 1:
                ground[y, x] = 2
                for k in range(3):
                    color[y, x, k] *= left_over


@compiled
def _cast_part(
    part: Floats,
    corners: Floats,
    view: Floats,
    screen: Floats,
    spans: Ids,
    scale: float,
    camera: Floats,
    light: Floats,
    color: Pixels,
    ground: NDArray[np.uint8],
) -> None:
    """Throw one part's shadow on the ground; ``corners`` are its world points and are overwritten."""
    sx, sy, sz = light[0], light[1], light[2]
    count = int(part[2])
    if part[0] != FACE:
        dx, dy, dz = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
        if part[0] == BALL:
            dx, dy, dz = 0.0, 1.0, 0.0
        ax, ay, az = dy * sz - dz * sy, dz * sx - dx * sz, dx * sy - dy * sx
        length = np.sqrt(ax * ax + ay * ay + az * az) + 1e-9
        ax, ay, az = ax / length, ay / length, az / length
        r0, r1 = part[4] * scale, part[5] * scale
        x0, y0, z0 = corners[0, 0], corners[0, 1], corners[0, 2]
        x1, y1, z1 = corners[1, 0], corners[1, 1], corners[1, 2]
        if part[0] == BALL:
            bx, by, bz = sy * az - sz * ay, sz * ax - sx * az, sx * ay - sy * ax
            for i in range(8):
                p = (1.0, 0.71, 0.0, -0.71, -1.0, -0.71, 0.0, 0.71)[i] * r0
                q = (0.0, 0.71, 1.0, 0.71, 0.0, -0.71, -1.0, -0.71)[i] * r1
                corners[i, 0], corners[i, 1], corners[i, 2] = (
                    x0 + p * ax + q * bx,
                    y0 + p * ay + q * by,
                    z0 + p * az + q * bz,
                )
            count = 8
        else:
            corners[0, 0], corners[0, 1], corners[0, 2] = x0 + r0 * ax, y0 + r0 * ay, z0 + r0 * az
            corners[1, 0], corners[1, 1], corners[1, 2] = x1 + r1 * ax, y1 + r1 * ay, z1 + r1 * az
            corners[2, 0], corners[2, 1], corners[2, 2] = x1 - r1 * ax, y1 - r1 * ay, z1 - r1 * az
            corners[3, 0], corners[3, 1], corners[3, 2] = x0 - r0 * ax, y0 - r0 * ay, z0 - r0 * az
            count = 4
    for i in range(count):
        fall = max(corners[i, 1], 0.0) / sy
        view[i, 0], view[i, 1], view[i, 2] = _to_view(camera, corners[i, 0] - fall * sx, 0.0, corners[i, 2] - fall * sz)
    _cast(screen, _project(view, count, camera, screen), spans, light[9], color, ground)


@compiled
def paint(
    vertices: Floats,
    parts: Floats,
    things: Floats,
    materials: Floats,
    camera: Floats,
    light: Floats,
    noise: Pixels,
    color: Pixels,
    nearness: Pixels,
    ids: Ids,
    ground: NDArray[np.uint8],
) -> None:
    """Paint a scene: what stands first, by depth; then the ground that is left to see; then the shadows on it.

    Args:
        vertices: float64 [V, 3], the points of the parts, in metres.
        parts: see the module's text, as for the next four.
        things: of the ground, what lies on top comes first; of the others, what is near should.
        materials: what the parts are made of.
        camera: where the picture is taken from.
        light: what it is lit by.
        noise: float32 [N, N], N a power of two; values around 0.
        color: float32 [H, W, 3], written; untouched pixels are sky.
        nearness: float32 [H, W], zeros on entry; one over the distance along the viewing axis.
        ids: int32 [H, W], written.
        ground: uint8 [H, W], zeros on entry; 1 where the ground is seen, 2 where it lies in shadow.
    """
    corners, view, screen = np.zeros((16, 3)), np.zeros((16, 3)), np.zeros((18, 2))
    spans = np.zeros((ids.shape[0] + 1, 2), np.int32)
    sun = np.zeros(3)
    for k in range(3):
        sun[k] = camera[3 + 3 * k] * light[0] + camera[4 + 3 * k] * light[1] + camera[5 + 3 * k] * light[2]
    pitch = camera[10] * camera[10]
    for turn in range(3):  # what stands, ground, shadows
        for i in range(things.shape[0]):
            thing = things[i]
            if (thing[12] == GROUND) != (turn == 1) or (turn == 2 and thing[12] != CASTING):
                continue
            for p in range(int(thing[0]), int(thing[0] + thing[1])):
                part = parts[p]
                start, count = int(part[1]), int(part[2])
                for c in range(count):
                    corners[c, 0], corners[c, 1], corners[c, 2] = _to_world(thing, vertices[start + c])
                if turn == 2:
                    _cast_part(part, corners, view, screen, spans, thing[9], camera, light, color, ground)
                    continue
                ahead = False
                for c in range(count):
                    view[c, 0], view[c, 1], view[c, 2] = _to_view(camera, corners[c, 0], corners[c, 1], corners[c, 2])
                    ahead = ahead or view[c, 2] > camera[15]
                if not ahead:
                    continue
                material = materials[int(thing[3] + part[3])]
                if part[0] == FACE:
                    _paint_face(
                        view,
                        screen,
                        spans,
                        part[6] > 0,
                        material,
                        int(thing[2]),
                        camera,
                        sun,
                        light,
                        noise,
                        color,
                        nearness,
                        ids,
                        count,
                        COPLANAR * (1 - turn),
                        ground,
                        turn,
                    )
                else:
                    across, upright = part[4] * thing[9], part[5] * thing[9]
                    squash = 1.0
                    if part[0] == BALL:
                        upright = part[5] * thing[10]
                        squash = np.sqrt(upright * upright * (1 - pitch) + across * across * pitch) / across
                        upright = across
                        view[1, 0], view[1, 1], view[1, 2] = view[0, 0], view[0, 1], view[0, 2]
                    _paint_round(
                        view,
                        (across, upright),
                        squash,
                        part[7],
                        material,
                        int(thing[2]),
                        camera,
                        sun,
                        light,
                        noise,
                        color,
                        nearness,
                        ids,
                    )


@compiled
def develop(
    color: Pixels,
    nearness: Pixels,
    ids: Ids,
    camera: Floats,
    air: Floats,
    noise: Pixels,
    grain: Pixels,
    image: NDArray[np.uint8],
) -> None:
    """Add sky, haze, grading, lens blur and sensor noise to what :func:`paint` left, and round to bytes.

    Args:
        color: float32 [H, W, 3], overwritten.
        nearness: float32 [H, W]; 0 is sky.
        ids: int32 [H, W]; the sky's segment is written.
        camera: as for :func:`paint`.
        air: float64 [24]: the sky's color at the horizon (3) and above (3), the clouds' (3), their threshold, sharpness
            and offset (2), haze, gains (3), contrast, lift, blur, noise, grain offset, the sky's segment.
        noise: float32 [N, N], as for :func:`paint`.
        grain: float32 [G], G a power of two; normal noise.
        image: uint8 [3, H, W], written.
    """
    height, width = ids.shape
    cells = noise.shape[0] - 1
    segment = int(air[22])
    for y in range(height):
        for x in range(width):
            if nearness[y, x] > 0:
                veil = air[13] / (air[13] + nearness[y, x])
                for k in range(3):
                    color[y, x, k] += veil * (air[k] - color[y, x, k])
            else:
                ids[y, x] = segment
                a, b = (x + 0.5 - camera[13]) / camera[12], (y + 0.5 - camera[14]) / camera[12]
                right = camera[3] * a + camera[6] * b + camera[9]
                up = max(camera[4] * a + camera[7] * b + camera[10], 0.0)
                forward = max(camera[5] * a + camera[8] * b + camera[11], 0.2)
                u = 40.0 * right / (up + 0.12) / forward + air[11]
                v = 40.0 / (up + 0.12) + air[12]
                iu, iv = int(np.floor(u)), int(np.floor(v))
                fu, fv = u - iu, v - iv
                n = (1 - fv) * ((1 - fu) * noise[iv & cells, iu & cells] + fu * noise[iv & cells, (iu + 1) & cells])
                n += fv * (
                    (1 - fu) * noise[(iv + 1) & cells, iu & cells] + fu * noise[(iv + 1) & cells, (iu + 1) & cells]
                )
                cloud = min(max((n - air[9]) * air[10], 0.0), 0.9)
                high = min(up * 2.2, 1.0)
                for k in range(3):
                    clear = air[k] + high * (air[3 + k] - air[k])
                    color[y, x, k] = clear + cloud * (air[6 + k] - clear)
            for k in range(3):
                color[y, x, k] = (color[y, x, k] * air[14 + k] - 0.45) * air[17] + 0.45 + air[18]
    blur, strength, start, last = air[19], air[20], int(air[21]), grain.shape[0] - 1
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            for k in range(3):
                around = color[up, x, k] + color[down, x, k] + color[y, left, k] + color[y, right, k]
                speck = grain[(start + y * 8191 + x * 3 + k) & last]
                value = color[y, x, k] * (1 - 4 * blur) + blur * around + strength * speck
                image[k, y, x] = np.uint8(min(max(value, 0.0), 1.0) * 255.0 + 0.5)


@compiled
def settle(ids: Ids, num_segments: int, smallest: int) -> NDArray[np.int64]:
    """Number the segments of ``ids`` densely in place; those of fewer than ``smallest`` pixels become void.

    Args:
        ids: int32 [H, W], values in 0..``num_segments``.
        num_segments: number of segments that were painted.
        smallest: pixels.

    Returns:
        int64 [S], the former id of each segment that is left.
    """
    area = np.zeros(num_segments + 1, np.int64)
    for value in ids.flat:
        area[value] += 1
    table = np.zeros(num_segments + 1, np.int32)
    kept = np.zeros(num_segments, np.int64)
    count = 0
    for s in range(1, num_segments + 1):
        if area[s] >= smallest:
            kept[count] = s
            count += 1
            table[s] = count
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            ids[y, x] = table[ids[y, x]]
    return kept[:count]
