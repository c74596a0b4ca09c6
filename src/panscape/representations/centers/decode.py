"""Decode category logits, centre heatmap and centre offsets into a panoptic map.

Grouping of Panoptic SwiftNet (Šarić et al., "Panoptic SwiftNet: Pyramidal Fusion for Real-Time Panoptic
Segmentation", arXiv 2203.07908) with the exact semantics of the published implementation; the method is
Panoptic-DeepLab's (Cheng et al., CVPR 2020, section 3.3):

1. Upsample all outputs bilinearly. A pixel's category is the argmax of its logits; ties go to the first.
2. Centres are the pixels above ``threshold`` that are the maximum of their window (NMS). All pixels of a plateau are
   centres; with ``join_peaks``, which is ours, only the first within one window. Centres are numbered in raster order;
   if there are ``top_k`` or more, the ``top_k`` highest are kept in descending order, ties in raster order.
   (With ``compat="panoptic_deeplab"``, those above the ``top_k``-th highest are kept, in raster order, as in its own
   code. With fewer centres both give the same segments.)
3. A thing pixel is assigned to the centre nearest to the position its offset points to; ties go to the first centre.
4. Each centre's segment takes the category of the majority of its pixels; ties go to the smallest category. With
   ``one_category``, which is ours, its other pixels become void.
5. Stuff of less than ``stuff_area`` pixels, and things without any centre, become void. So do stuff of less than
   ``stuff_share`` of the image and thing segments of less than ``thing_area`` pixels; these two rules are ours, and off
   by default.
6. Rules about the connected parts of things follow, which are ours and off by default
   (:mod:`panscape.representations.parts`).

NaN counts as the lowest logit, as no centre and as an offset of 0; values beyond +-1e30 are clamped. Published code
does not define these cases.

Three implementations agree in every pixel: :func:`group_centers_reference` is the definition,
:func:`group_centers_batched` runs on a device without waiting for it, and the compiled kernels of
:func:`group_centers` pass over the image a few times.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.ops.argmax import argmax_over_planes
from panscape.ops.interpolate import finite_values, upsample
from panscape.panoptic import PanopticMap
from panscape.representations.centers.decode_checks import check_outputs, is_center, rounded_root, thing_table
from panscape.representations.centers.decode_config import CenterDecoding
from panscape.representations.centers.decode_gpu import group_centers_batched
from panscape.representations.centers.group_cpu import group_centers_cpu
from panscape.representations.parts import apply_parts_reference

__all__ = ["CenterDecoding", "group_centers", "group_centers_batched", "group_centers_reference"]


def group_centers_reference(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    geometry: ImageGeometry,
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> PanopticMap:
    """Group one image's outputs into segments in plain torch, on any device: the definition of this decoding.

    Arguments, result and errors are those of :func:`group_centers`; all other implementations must equal this one.
    """
    check_outputs(semantic_logits[None], center[None], offset[None], [geometry], thing_ids)
    device, num_categories = semantic_logits.device, semantic_logits.shape[0]
    size = geometry.inference_size

    def whole(plane: Tensor) -> Tensor:
        return upsample(plane, geometry.padded_size, size, decoding.align_corners)

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

    ids = torch.zeros(size, dtype=torch.int32, device=device)
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
        majority = votes.index(max(votes))  # index: the smallest category on ties
        if decoding.one_category:
            mask &= semantic == majority
        if mask.sum() >= max(decoding.thing_area, 1):
            category.append(majority)
            score.append(min(float(peaks[k]), 1.0))
            ids[mask] = len(category)
    panoptic = PanopticMap(
        ids,
        torch.tensor(category, dtype=torch.int64, device=device),
        torch.tensor(score, dtype=torch.float32, device=device),
    )
    return apply_parts_reference(panoptic, semantic, is_thing, decoding.parts)


def _find_centers(heat: Tensor, decoding: CenterDecoding) -> tuple[Tensor, Tensor]:
    """Return the points, int64 [K, 2], and heatmap values, float32 [K], of the centres in their final order."""
    points = is_center(heat, decoding).nonzero()
    peaks = heat[points[:, 0], points[:, 1]]
    if len(points) >= decoding.top_k:
        order = peaks.sort(descending=True, stable=True).indices[: decoding.top_k]
        if decoding.compat != "panoptic_swiftnet":
            order = (peaks > peaks[order[-1]]).nonzero()[:, 0]
        points, peaks = points[order], peaks[order]
    return points, peaks


def _nearest(points: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the index of the centre nearest to every (y, x), int64; ties go to the first centre.

    Distances are compared after the square root, as published: values that differ in the last bits can become equal.
    """
    best = torch.full_like(x, torch.inf)
    nearest = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    for k, (center_y, center_x) in enumerate(points.tolist()):
        down, right = center_y - y, center_x - x
        distance = rounded_root(down * down + right * right)
        nearest.masked_fill_(distance < best, k)
        best = torch.minimum(best, distance)
    return nearest


def group_centers(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    geometry: ImageGeometry,
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> PanopticMap:
    """Group one image's outputs into segments with the fastest implementation for their device.

    Args:
        semantic_logits: float [C, h, w], one plane per category.
        center: float [h, w], heatmap of centres.
        offset: float [2, h, w], from each pixel to its segment's centre as (dy, dx), in pixels of the input image.
        geometry: sizes of the image; outputs are upsampled to its padded size.
        thing_ids: the categories that are things.
        decoding: options of finding centres and keeping segments.

    Returns:
        A map of the inference size. First the stuff by category with score 1, then the things in the order of their
        centres, whose score is the heatmap's value at the centre, at most 1. Centres with no or too few pixels are
        omitted.

    Raises:
        InvalidArgumentError: shapes or sizes contradict each other, or a thing is not a category.
    """
    check_outputs(semantic_logits[None], center[None], offset[None], [geometry], thing_ids)
    if semantic_logits.device.type == "cpu":
        logits, heat, shift = (part.detach().float().numpy() for part in (semantic_logits, center, offset))
        return PanopticMap.from_arrays(group_centers_cpu(logits, heat, shift, geometry, thing_ids, decoding))
    batch = (semantic_logits[None], center[None], offset[None])
    return group_centers_batched(*batch, [geometry], thing_ids, decoding)[0]
