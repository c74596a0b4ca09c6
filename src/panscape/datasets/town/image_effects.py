"""Camera effects on a rendered image: sky, haze, color grading, blur and noise; and compaction of segment ids.

Only additions, multiplications and divisions are used, so that every machine renders the same image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panscape.ops.jit import jit

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Ids = NDArray[np.int32]


@jit
def apply_camera_effects(
    color: Pixels,
    inverse_depth: Pixels,
    ids: Ids,
    camera: Floats,
    air: Floats,
    noise: Pixels,
    grain: Pixels,
    image: NDArray[np.uint8],
) -> None:
    """Add sky, haze, color grading, lens blur and sensor noise to a rendered image, and round to bytes.

    Args:
        color: float32 [H, W, 3] of :func:`panscape.datasets.town.renderer.rasterize`, overwritten.
        inverse_depth: float32 [H, W]; 0 is sky.
        ids: int32 [H, W]; the segment of the sky is written.
        camera: as for rendering.
        air: float64 [24]: colors of the sky at the horizon (3), of the sky above (3) and of clouds (3), cloud
            threshold, sharpness and offset (2), haze, gains (3), contrast, lift, blur, noise, grain offset, segment of
            the sky.
        noise: float32 [N, N], as for rendering.
        grain: float32 [G], G a power of two; normal noise.
        image: uint8 [3, H, W], written.
    """
    height, width = ids.shape
    cells = noise.shape[0] - 1
    segment = int(air[22])
    for y in range(height):
        for x in range(width):
            if inverse_depth[y, x] > 0:
                veil = air[13] / (air[13] + inverse_depth[y, x])
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


@jit
def compact_ids(ids: Ids, num_segments: int, smallest: int, kept: NDArray[np.int64]) -> int:
    """Renumber the segments of ``ids`` without gaps, in place; segments of fewer than ``smallest`` pixels become void.

    Args:
        ids: int32 [H, W], values in 0..``num_segments``.
        num_segments: number of rendered segments.
        smallest: minimum area in pixels.
        kept: int64 [``num_segments``], written: the former id of each remaining segment.

    Returns:
        The number of remaining segments.
    """
    area, table = np.zeros(num_segments + 1, np.int64), np.zeros(num_segments + 1, np.int32)
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            area[ids[y, x]] += 1
    count = 0
    for s in range(1, num_segments + 1):
        if area[s] >= smallest:
            kept[count] = s
            count += 1
            table[s] = count
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            ids[y, x] = table[ids[y, x]]
    return count
