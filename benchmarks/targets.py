"""Time the encoding of targets: centre targets and boundary weights, against loops over the segments.

Input: a street-like map of 1024 x 2048 pixels with 45 things. The loops are those of the common implementations: one
full-size mask per segment; for boundary weights also scipy's exact distance transform on the box of each segment. All
implementations are first checked to give the same targets. Times are CPU time of the process with one thread, the
minimum over several rounds in which the implementations alternate.

Run ``python benchmarks/targets.py``; it prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import numpy as np
import scipy
import torch
from center_scenes import THINGS, street_map
from numpy.typing import NDArray
from reporting import cpu_milliseconds, machine, table
from scipy.ndimage import distance_transform_edt

from panscape import PanopticMap
from panscape.representations.centers.boundary_weights import boundary_weights
from panscape.representations.centers.encode import center_targets

SIGMA, SMALL_AREA, SMALL_WEIGHT, ALPHAS = 10, 4096, 3.0, np.array([8, 4, 2, 1], dtype=np.float32)


def targets_by_loop(truth: PanopticMap) -> list[NDArray[np.float32]]:
    """Encode centre targets in a loop over the segments."""
    ids = truth.ids.numpy()
    height, width = ids.shape
    semantic = np.full(ids.shape, 255, dtype=np.int64)
    semantic_weight, center, center_weight, offset_weight = (np.zeros(ids.shape, dtype=np.float32) for _ in range(4))
    offset = np.zeros((2, height, width), dtype=np.float32)
    reach = 3 * SIGMA + 1
    around = np.arange(-reach, reach + 1, dtype=np.float64)
    stamp = np.exp(-(around[:, None] ** 2 + around**2) / (2 * SIGMA**2)).astype(np.float32)
    for row, category in enumerate(truth.category.tolist()):
        mask = ids == row + 1
        semantic[mask] = category
        semantic_weight[mask] = 1
        center_weight[mask] = 1
        if category not in THINGS:
            continue
        offset_weight[mask] = 1
        y, x = np.nonzero(mask)
        if len(y) < SMALL_AREA:
            semantic_weight[mask] = SMALL_WEIGHT
        cy, cx = y.mean(), x.mean()
        top, left = round(cy) - reach, round(cx) - reach
        rows = slice(max(top, 0), min(top + 2 * reach + 1, height))
        columns = slice(max(left, 0), min(left + 2 * reach + 1, width))
        part = stamp[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        center[rows, columns] = np.maximum(center[rows, columns], part)
        offset[0][mask], offset[1][mask] = cy - y, cx - x
    return [semantic, semantic_weight, center, center_weight, offset, offset_weight]


def weights_by_loop(truth: PanopticMap, *, crop: bool) -> NDArray[np.float32]:
    """Compute boundary weights in a loop over the segments, with a distance transform of the image or of the box."""
    ids = truth.ids.numpy()
    result = np.zeros(ids.shape, dtype=np.float32)
    boxes = truth.boxes().int().tolist()
    for row, (left, top, right, bottom) in enumerate(boxes):
        window = (slice(None), slice(None))
        if crop:  # a margin of one pixel inside the image, so that the boundary is included
            window = (slice(max(top - 1, 0), bottom + 1), slice(max(left - 1, 0), right + 1))
        mask = ids[window] == row + 1
        distance = distance_transform_edt(mask)
        bounds = np.linspace(0, distance.max(), len(ALPHAS))[1:]
        result[window][mask] = ALPHAS[np.digitize(distance[mask], bounds)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--markdown", action="store_true", help="print only the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    truth = street_map()
    is_thing = truth.category >= THINGS[0]

    maps = center_targets(truth.ids, truth.category, is_thing, sigma=SIGMA, void=255)
    for ours, theirs in zip(maps, targets_by_loop(truth), strict=True):
        assert np.array_equal(ours.numpy(), theirs)
    weights = boundary_weights(truth.ids, truth.num_segments)
    for crop in (False, True):
        assert np.array_equal(weights.numpy(), weights_by_loop(truth, crop=crop))

    fast = {
        "centre targets, panscape": lambda: center_targets(truth.ids, truth.category, is_thing, sigma=SIGMA, void=255),
        "boundary weights, panscape": lambda: boundary_weights(truth.ids, truth.num_segments),
        "boundary weights, scipy on boxes": lambda: weights_by_loop(truth, crop=True),
    }
    slow = {
        "centre targets, loop": lambda: targets_by_loop(truth),
        "boundary weights, scipy on images": lambda: weights_by_loop(truth, crop=False),
    }
    best = cpu_milliseconds(slow, 2) | cpu_milliseconds(fast, args.repeats)
    rows = []
    for name in sorted(best, key=lambda n: (n.split(",")[0] != "centre targets", -best[n])):
        kind = name.split(",")[0]
        rows.append([*name.split(", "), f"{best[name]:.1f}", f"{best[name] / best[f'{kind}, panscape']:.1f}"])
    if not args.markdown:
        print(f"{machine()}, numba {numba.__version__}, scipy {scipy.__version__}")
        print(f"{truth}, {int(is_thing.sum())} of them things\n")
    print(table(["targets", "implementation", "CPU ms", "ratio to panscape"], rows))


if __name__ == "__main__":
    main()
