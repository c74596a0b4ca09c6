"""From category logits, centre heatmap and centre offsets to segments.

Grouping of Panoptic SwiftNet (Šarić et al., "Panoptic SwiftNet: Pyramidal Fusion for Real-Time Panoptic
Segmentation", arXiv 2203.07908) in the published implementation's exact semantics; the idea is Panoptic-DeepLab's
(Cheng et al., CVPR 2020, section 3.3):

1. Enlarge all outputs bilinearly. A pixel's category is the first largest logit.
2. Centres are the pixels above ``threshold`` that no pixel of their window exceeds. All pixels of a plateau are
   centres; with ``join_peaks``, which is ours, the first of those within one window is. They are numbered in raster
   order; if there are ``top_k`` or more, the ``top_k`` highest are kept, highest first, ties in raster order.
   (Panoptic-DeepLab's own code keeps those above the ``top_k``-th highest, in raster order: ``beyond_top_k="above"``.
   With fewer centres both give the same segments.)
3. A thing pixel joins the centre nearest to the place its offset points to; the first of equally near ones wins.
4. Each centre's segment takes the category that most of its pixels have; ties go to the smallest category.
5. Stuff of less than ``stuff_area`` pixels, and things without any centre, are void. So are stuff of less than
   ``stuff_share`` of the image and segments of things of less than ``thing_area`` pixels; these are ours, and not so
   by default.

Values that are not a number count as the lowest logit, as no centre and as an offset of 0; others of more than 1e30 as
that. Published code leaves open what becomes of them.

Three implementations agree in every pixel: :func:`group_centers_reference` says what is meant,
:func:`group_centers_batched` does it without waiting for the device, and
the compiled kernels do it in a few sweeps over the image.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from panscape.ops.argmax import argmax_over_planes
from panscape.ops.interpolate import cell_table, finite_values, upsample
from panscape.panoptic import PanopticMap
from panscape.representations.centers.decode_config import (
    CenterDecoding,
    check_outputs,
    is_center,
    rounded_root,
    thing_table,
)
from panscape.representations.centers.decode_cpu import group, paint
from panscape.representations.centers.decode_gpu import group_centers_batched
from panscape.representations.centers.peaks_cpu import find_peaks

__all__ = ["CenterDecoding", "group_centers", "group_centers_batched", "group_centers_reference"]


def group_centers(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> PanopticMap:
    """Group one image's outputs into segments, by the fastest implementation for their device.

    Args:
        semantic_logits: float [C, h, w], one plane a category.
        center: float [h, w], heatmap of centres.
        offset: float [2, h, w], from each pixel to its segment's centre as (dy, dx), in pixels of the input image.
        padded_size: height and width of the input image that the network saw; outputs are enlarged to it.
        size: height and width of the image in its top left corner.
        thing_ids: the categories that are things.
        decoding: how to find centres and which segments to keep.

    Returns:
        A map of ``size``. First the stuff by category, score 1, then the things in the order of their centres, their
        score the heatmap's value at the centre, at most 1. Centres that got no pixel, or too few, have no row.

    Raises:
        InvalidArgumentError: shapes contradict each other, or the sizes, or a thing is no category.
    """
    check_outputs(semantic_logits[None], center[None], offset[None], padded_size, [size], thing_ids)
    if semantic_logits.device.type == "cpu":
        return _group_centers_compiled(semantic_logits, center, offset, padded_size, size, thing_ids, decoding)
    batch = (semantic_logits[None], center[None], offset[None])
    return group_centers_batched(*batch, padded_size, [size], thing_ids, decoding)[0]


def _group_centers_compiled(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> PanopticMap:
    logits = semantic_logits.detach().float().contiguous().numpy()  # the kernel looks for what is not finite
    heat, offsets = finite_values(center).contiguous().numpy(), finite_values(offset, nan=0).contiguous().numpy()
    num_categories, height, width = logits.shape
    rows = cell_table(height, padded_size[0], decoding.align_corners, size[0])
    columns = cell_table(width, padded_size[1], decoding.align_corners, size[1])
    is_thing = np.isin(np.arange(num_categories), list(thing_ids))

    points, peaks = find_peaks(heat, rows, columns, decoding.threshold, decoding.nms_kernel, decoding.join_peaks)
    if len(points) >= decoding.top_k:
        order = np.argsort(-peaks, kind="stable")[: decoding.top_k]
        if decoding.beyond_top_k == "above":
            order = np.flatnonzero(peaks > peaks[order[-1]])
        points, peaks = points[order], peaks[order]
    code, areas, votes = group(logits, offsets, rows, columns, is_thing, points)

    # Rows of the result: stuff by category, then things by centre. A code without row becomes void.
    stuff = np.flatnonzero(~is_thing & (areas >= decoding.smallest_stuff(size)))
    things = np.flatnonzero(votes.sum(axis=1) >= max(decoding.thing_area, 1))
    table = np.zeros(num_categories + len(points), dtype=np.int32)
    table[np.concatenate([stuff, num_categories + things])] = np.arange(1, len(stuff) + len(things) + 1)
    paint(code, table)
    category = np.concatenate([stuff, votes[things].argmax(axis=1)])  # argmax: the smallest of equal ones
    score = np.concatenate([np.ones(len(stuff), dtype=np.float32), np.minimum(peaks[things], np.float32(1))])
    return PanopticMap(torch.from_numpy(code), torch.from_numpy(category), torch.from_numpy(score))


def group_centers_reference(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> PanopticMap:
    """Group as :func:`group_centers` does, plainly and on any device; what the other implementations must equal."""
    check_outputs(semantic_logits[None], center[None], offset[None], padded_size, [size], thing_ids)
    device, num_categories = semantic_logits.device, semantic_logits.shape[0]

    def whole(plane: Tensor) -> Tensor:
        return upsample(plane, padded_size, size, decoding.align_corners)

    semantic = argmax_over_planes(semantic_logits, whole)
    is_thing = thing_table(thing_ids, num_categories, device)
    thing = is_thing[semantic]
    points, peaks = _find_centers(whole(finite_values(center)), decoding)

    nearest = torch.zeros_like(semantic)
    if len(points):
        offset = finite_values(offset, nan=0)
        y = torch.arange(size[0], device=device, dtype=torch.float32)[:, None] + whole(offset[0])
        x = torch.arange(size[1], device=device, dtype=torch.float32) + whole(offset[1])
        nearest = _nearest(points, y, x)

    ids = torch.zeros(tuple(size), dtype=torch.int32, device=device)
    category: list[int] = []
    score: list[float] = []
    areas = torch.bincount(semantic.flatten(), minlength=num_categories).tolist()
    for c, area in enumerate(areas):
        if not is_thing[c] and area >= decoding.smallest_stuff(size):
            category.append(c)
            score.append(1.0)
            ids[semantic == c] = len(category)
    for k in range(len(points)):
        mask = thing & (nearest == k)
        votes = torch.bincount(semantic[mask], minlength=num_categories).tolist()
        if sum(votes) >= max(decoding.thing_area, 1):
            category.append(votes.index(max(votes)))  # index: the smallest of equal ones
            score.append(min(float(peaks[k]), 1.0))
            ids[mask] = len(category)
    return PanopticMap(
        ids,
        torch.tensor(category, dtype=torch.int64, device=device),
        torch.tensor(score, dtype=torch.float32, device=device),
    )


def _find_centers(heat: Tensor, decoding: CenterDecoding) -> tuple[Tensor, Tensor]:
    """Return the centres' points, int64 [K, 2], and heatmap values, float32 [K], in the order that numbers them."""
    points = is_center(heat, decoding).nonzero()
    peaks = heat[points[:, 0], points[:, 1]]
    if len(points) >= decoding.top_k:
        order = peaks.sort(descending=True, stable=True).indices[: decoding.top_k]
        if decoding.beyond_top_k == "above":
            order = (peaks > peaks[order[-1]]).nonzero()[:, 0]
        points, peaks = points[order], peaks[order]
    return points, peaks


def _nearest(points: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the number of the centre nearest to every (y, x), int64; the first of equally near ones.

    Distances are compared after the square root, as published: it makes equal what differed in the last bits.
    """
    best = torch.full_like(x, torch.inf)
    nearest = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    for k, (center_y, center_x) in enumerate(points.tolist()):
        down, right = center_y - y, center_x - x
        distance = rounded_root(down * down + right * right)
        nearest.masked_fill_(distance < best, k)
        best = torch.minimum(best, distance)
    return nearest
