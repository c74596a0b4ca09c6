"""Batched centre decoding on a device, without synchronising for each image."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.geometry import ImageGeometry
from panscape.ops.argmax import argmax_over_planes
from panscape.ops.interpolate import finite_values, upsample
from panscape.panoptic import PanopticMap
from panscape.representations.centers.decode_checks import check_outputs, is_center, rounded_root, thing_table
from panscape.representations.centers.decode_config import CenterDecoding
from panscape.representations.parts import apply_parts


def group_centers_batched(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    geometries: Sequence[ImageGeometry],
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> list[PanopticMap]:
    """Group a batch as ``group_centers`` groups each image, for devices with slow synchronisation.

    The CPU waits for the device twice per batch, for the number of centres and for the number of segments; rules about
    parts of things add a copy of each map to the CPU and back.

    Args:
        semantic_logits: float [B, C, h, w].
        center: float [B, h, w].
        offset: float [B, 2, h, w].
        geometries: sizes of each image; all have the same padded size.
        thing_ids: as for ``group_centers``.
        decoding: as for ``group_centers``.

    Raises:
        InvalidArgumentError: as for ``group_centers``.
    """
    check_outputs(semantic_logits, center, offset, geometries, thing_ids)
    num_categories, device = semantic_logits.shape[1], semantic_logits.device
    sizes, padded_size = [geometry.inference_size for geometry in geometries], geometries[0].padded_size
    largest = (max(s[0] for s in sizes), max(s[1] for s in sizes))

    def whole(planes: Tensor) -> Tensor:
        return upsample(planes, padded_size, largest, decoding.align_corners)

    row = torch.arange(largest[0], device=device)[:, None]
    column = torch.arange(largest[1], device=device)
    inside = torch.stack([(row < height) & (column < width) for height, width in sizes])
    semantic = argmax_over_planes(semantic_logits.transpose(0, 1), whole)
    is_thing = thing_table(thing_ids, num_categories, device)
    thing = is_thing[semantic] & inside

    points, peaks, counts = _find_centers_batched(
        whole(finite_values(center)).masked_fill_(~inside, -torch.inf), decoding
    )
    slots = max(int(counts.max()), 1)
    down, right = whole(finite_values(offset, nan=0)).unbind(1)
    nearest = _nearest_batched(points[:, :slots], counts, row + down, column + right)

    votes = _histogram(torch.where(thing, nearest * num_categories + semantic, -1), slots * num_categories)
    votes = votes.reshape(-1, slots, num_categories)
    winner = votes.argmax(dim=2)
    code = torch.where(thing, nearest + num_categories, semantic)
    num_votes = votes.sum(2)
    if decoding.one_category:
        num_votes = votes.amax(2)
        own = winner.gather(1, nearest.flatten(1)).reshape(nearest.shape)
        code = torch.where(thing & (semantic != own), num_categories + slots, code)
    areas = _histogram(torch.where(inside, semantic, -1), num_categories)
    # Candidates for segments: stuff by category, then things by centre.
    smallest_stuff = torch.tensor([[decoding.smallest_stuff(size)] for size in sizes], device=device)
    stuff = (areas >= smallest_stuff) & ~is_thing
    things = (num_votes >= max(decoding.thing_area, 1)) & (counts > 0)[:, None]
    present = torch.cat([stuff, things], dim=1)
    row_of = F.pad(torch.where(present, present.cumsum(1), 0).int(), (0, 1))  # the last code is void
    ids = row_of.gather(1, code.flatten(1)).reshape(code.shape)
    kinds = torch.arange(num_categories, device=device).expand_as(areas)
    category = torch.cat([kinds, winner], dim=1)
    score = torch.cat([torch.ones_like(areas, dtype=torch.float32), peaks[:, :slots].clamp(max=1)], dim=1)
    # Sort kept candidates to the front, in their order; then a single copy returns their number.
    order = present.logical_not().to(torch.uint8).sort(dim=1, stable=True).indices
    category, score = category.gather(1, order), score.gather(1, order)
    maps = []
    for b, ((height, width), num) in enumerate(zip(sizes, present.sum(1).tolist(), strict=True)):
        own = ids[b, :height, :width].contiguous()
        panoptic = PanopticMap(own, category[b, :num].clone(), score[b, :num].clone())
        maps.append(apply_parts(panoptic, semantic[b, :height, :width], is_thing, decoding.parts))
    return maps


def _find_centers_batched(heat: Tensor, decoding: CenterDecoding) -> tuple[Tensor, Tensor, Tensor]:
    """Find centres as the reference does, padded to K per image: points [B, K, 2], peaks [B, K], counts [B]."""
    height, width = heat.shape[1:]
    centers = is_center(heat, decoding).flatten(1)
    index = torch.arange(height * width, device=heat.device)
    # One integer sorts by value, then in raster order: the bit patterns of positive floats ascend with their values.
    bits = heat.contiguous().view(torch.int32).flatten(1).long()
    key = torch.where(centers, (bits << 32) | (0x7FFFFFFF - index), -1)
    slots = min(decoding.top_k, height * width)
    key = key.topk(slots, dim=1).values
    full = (centers.sum(1) >= decoding.top_k)[:, None]
    if decoding.compat != "panoptic_swiftnet":
        key = torch.where(full & (key >> 32 <= key[:, -1:] >> 32), -1, key)
        full = torch.zeros_like(full)
    where = torch.where(key >= 0, 0x7FFFFFFF - (key & 0x7FFFFFFF), height * width)
    by_raster = where.sort(dim=1).values
    position = torch.where(full, where, by_raster).clamp(max=height * width - 1)
    peaks = heat.flatten(1).gather(1, position)
    points = torch.stack([position // width, position % width], dim=2)
    return points, peaks, (key >= 0).sum(1)


def _nearest_batched(points: Tensor, counts: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the nearest centres as the reference does, for a batch; centres from ``counts`` on are padding."""
    best = torch.full_like(x, torch.inf)
    nearest = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    slot = torch.arange(points.shape[1], device=x.device)
    # Padding is infinitely far away and is never the nearest.
    far = torch.where((slot < counts[:, None])[..., None], points.float(), torch.inf)
    for k in range(points.shape[1]):
        down, right = far[:, k, 0, None, None] - y, far[:, k, 1, None, None] - x
        distance = rounded_root(down * down + right * right)
        nearest.masked_fill_(distance < best, k)
        best = torch.minimum(best, distance)
    return nearest


def _histogram(values: Tensor, num: int) -> Tensor:
    """Count the values 0..num-1 in each image of int64 [B, H, W], int64 [B, num]; -1 is not counted."""
    counts = torch.zeros(values.shape[0], num + 1, dtype=torch.int64, device=values.device)
    flat = (values.flatten(1) + num + 1) % (num + 1)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    return counts[:, :num]
