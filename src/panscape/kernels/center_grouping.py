"""From category logits, centre heatmap and centre offsets to segments.

Grouping of Panoptic SwiftNet (Šarić et al., "Panoptic SwiftNet: Pyramidal Fusion for Real-Time Panoptic
Segmentation", arXiv 2203.07908) in the published implementation's exact semantics; the idea is Panoptic-DeepLab's
(Cheng et al., CVPR 2020, section 3.3):

1. Enlarge all outputs bilinearly. A pixel's category is the first largest logit.
2. Centres are the pixels above ``threshold`` that no pixel of their window exceeds. All pixels of a plateau are
   centres. They are numbered in raster order; if there are ``top_k`` or more, the ``top_k`` highest are kept, highest
   first, ties in raster order.
3. A thing pixel joins the centre nearest to the place its offset points to; the first of equally near ones wins.
4. Each centre's segment takes the category that most of its pixels have; ties go to the smallest category.
5. Stuff of less than ``stuff_area`` pixels, and things without any centre, are void.

Three implementations agree in every pixel: :func:`group_centers_reference` says what is meant,
:func:`group_centers_batched` does it without waiting for the device, and
the compiled kernels do it in a few sweeps over the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.kernels.bilinear import enlarge
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class CenterDecoding:
    """How centres are found and segments kept; the defaults are those published for Cityscapes.

    Attributes:
        threshold: a centre's heatmap value is above it; 0 or more.
        nms_kernel: side in pixels of the window in which a centre is not exceeded; odd.
        top_k: no more centres than this.
        stuff_area: stuff categories of fewer pixels in the whole map become void.
        align_corners: how outputs are enlarged, see :func:`panscape.kernels.bilinear.taps`. True is published for
            Cityscapes, False for COCO and Mapillary Vistas.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    threshold: float = 0.1
    nms_kernel: int = 7
    top_k: int = 200
    stuff_area: int = 2048
    align_corners: bool = True

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise InvalidArgumentError(f"expected a threshold of 0 or more, got {self.threshold}")
        if self.nms_kernel < 1 or self.nms_kernel % 2 == 0:
            raise InvalidArgumentError(f"expected an odd nms_kernel of 1 or more, got {self.nms_kernel}")
        if self.top_k < 1:
            raise InvalidArgumentError(f"expected a top_k of 1 or more, got {self.top_k}")


def group_centers(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> PanopticMap:
    """Group one picture's outputs into segments, by the fastest implementation for their device.

    Args:
        semantic_logits: float [C, h, w], one plane a category.
        center: float [h, w], heatmap of centres.
        offset: float [2, h, w], from each pixel to its segment's centre as (dy, dx), in pixels of the input image.
        padded_size: height and width of the input image that the network saw; outputs are enlarged to it.
        size: height and width of the picture in its top left corner.
        thing_ids: the categories that are things.
        decoding: how to find centres and which stuff to keep.

    Returns:
        A map of ``size``. First the stuff by category, score 1, then the things in the order of their centres, their
        score the heatmap's value at the centre, at most 1. Centres that got no pixel have no row.

    Raises:
        InvalidArgumentError: shapes contradict each other, or the sizes, or a thing is no category.
    """
    _check(semantic_logits[None], center[None], offset[None], padded_size, [size], thing_ids)
    if semantic_logits.device.type == "cpu":
        return group_centers_reference(semantic_logits, center, offset, padded_size, size, thing_ids, decoding)
    batch = (semantic_logits[None], center[None], offset[None])
    return group_centers_batched(*batch, padded_size, [size], thing_ids, decoding)[0]


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
    _check(semantic_logits[None], center[None], offset[None], padded_size, [size], thing_ids)
    device, num_categories = semantic_logits.device, semantic_logits.shape[0]

    def whole(plane: Tensor) -> Tensor:
        return enlarge(plane.detach().float(), padded_size, size, decoding.align_corners)

    semantic = _first_largest(semantic_logits, whole)
    is_thing = _thing_table(thing_ids, num_categories, device)
    thing = is_thing[semantic]
    points, peaks = _find_centers(whole(center), decoding)

    nearest = torch.zeros_like(semantic)
    if len(points):
        y = torch.arange(size[0], device=device, dtype=torch.float32)[:, None] + whole(offset[0])
        x = torch.arange(size[1], device=device, dtype=torch.float32) + whole(offset[1])
        nearest = _nearest(points, y, x)

    ids = torch.zeros(tuple(size), dtype=torch.int32, device=device)
    category: list[int] = []
    score: list[float] = []
    areas = torch.bincount(semantic.flatten(), minlength=num_categories).tolist()
    for c, area in enumerate(areas):
        if not is_thing[c] and area >= max(decoding.stuff_area, 1):
            category.append(c)
            score.append(1.0)
            ids[semantic == c] = len(category)
    for k in range(len(points)):
        mask = thing & (nearest == k)
        votes = torch.bincount(semantic[mask], minlength=num_categories).tolist()
        if max(votes) > 0:
            category.append(votes.index(max(votes)))  # index: the smallest of equal ones
            score.append(min(float(peaks[k]), 1.0))
            ids[mask] = len(category)
    return PanopticMap(
        ids,
        torch.tensor(category, dtype=torch.int64, device=device),
        torch.tensor(score, dtype=torch.float32, device=device),
    )


def group_centers_batched(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    thing_ids: Collection[int],
    decoding: CenterDecoding,
) -> list[PanopticMap]:
    """Group a batch as :func:`group_centers` does each picture, for devices that are slow to answer.

    The processor waits for the device twice a batch: for the number of centres and for the number of segments.

    Args:
        semantic_logits: float [B, C, h, w].
        center: float [B, h, w].
        offset: float [B, 2, h, w].
        padded_size: as for :func:`group_centers`.
        sizes: height and width of each picture.
        thing_ids: as for :func:`group_centers`.
        decoding: as for :func:`group_centers`.

    Raises:
        InvalidArgumentError: as for :func:`group_centers`.
    """
    _check(semantic_logits, center, offset, padded_size, sizes, thing_ids)
    num_categories, device = semantic_logits.shape[1], semantic_logits.device
    largest = (max(s[0] for s in sizes), max(s[1] for s in sizes))

    def whole(planes: Tensor) -> Tensor:
        return enlarge(planes.detach().float(), padded_size, largest, decoding.align_corners)

    row = torch.arange(largest[0], device=device)[:, None]
    column = torch.arange(largest[1], device=device)
    inside = torch.stack([(row < height) & (column < width) for height, width in sizes])
    semantic = _first_largest(semantic_logits.transpose(0, 1), whole)
    is_thing = _thing_table(thing_ids, num_categories, device)
    thing = is_thing[semantic] & inside

    points, peaks, counts = _find_centers_batched(whole(center).masked_fill_(~inside, -torch.inf), decoding)
    slots = max(int(counts.max()), 1)
    nearest = _nearest_batched(points[:, :slots], counts, row + whole(offset[:, 0]), column + whole(offset[:, 1]))

    votes = _histogram(torch.where(thing, nearest * num_categories + semantic, -1), slots * num_categories)
    most, winner = votes.reshape(-1, slots, num_categories).max(dim=2)
    areas = _histogram(torch.where(inside, semantic, -1), num_categories)
    # Rows of the result among the candidates: stuff by category, then things by centre.
    present = torch.cat([(areas >= max(decoding.stuff_area, 1)) & ~is_thing, (most > 0) & (counts > 0)[:, None]], dim=1)
    row_of = torch.where(present, present.cumsum(1), 0).int()
    code = torch.where(thing, nearest + num_categories, semantic)
    ids = row_of.gather(1, code.flatten(1)).reshape(code.shape)
    kinds = torch.arange(num_categories, device=device).expand_as(areas)
    category = torch.cat([kinds, winner], dim=1)
    score = torch.cat([torch.ones_like(areas, dtype=torch.float32), peaks[:, :slots].clamp(max=1)], dim=1)
    # Chosen rows first, in their order; then one copy tells how many there are.
    order = present.logical_not().to(torch.uint8).sort(dim=1, stable=True).indices
    category, score = category.gather(1, order), score.gather(1, order)
    return [
        PanopticMap(ids[b, : size[0], : size[1]].contiguous(), category[b, :num].clone(), score[b, :num].clone())
        for b, (size, num) in enumerate(zip(sizes, present.sum(1).tolist(), strict=True))
    ]


def _find_centers_batched(heat: Tensor, decoding: CenterDecoding) -> tuple[Tensor, Tensor, Tensor]:
    """Return as :func:`_find_centers`, in slots of equal number: points [B, K, 2], peaks [B, K], counts [B]."""
    height, width = heat.shape[1:]
    is_center = _is_center(heat, decoding).flatten(1)
    index = torch.arange(height * width, device=heat.device)
    # One integer orders by value, then raster: the bits of positive floats ascend as their values do.
    bits = heat.contiguous().view(torch.int32).flatten(1).long()
    key = torch.where(is_center, (bits << 32) | (0x7FFFFFFF - index), -1)
    slots = min(decoding.top_k, height * width)
    key = key.topk(slots, dim=1).values
    total = is_center.sum(1)
    where = torch.where(key >= 0, 0x7FFFFFFF - (key & 0x7FFFFFFF), height * width)
    by_raster = where.sort(dim=1).values
    full = (total >= decoding.top_k)[:, None]
    position = torch.where(full, where, by_raster).clamp(max=height * width - 1)
    peaks = heat.flatten(1).gather(1, position)
    points = torch.stack([position // width, position % width], dim=2)
    return points, peaks, total.clamp(max=slots)


def _nearest_batched(points: Tensor, counts: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return as :func:`_nearest` for a batch; slots from ``counts`` on are empty."""
    best = torch.full_like(x, torch.inf)
    nearest = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    slot = torch.arange(points.shape[1], device=x.device)
    # Nothing is nearer than infinitely far.
    far = torch.where((slot < counts[:, None])[..., None], points.float(), torch.inf)
    for k in range(points.shape[1]):
        down, right = far[:, k, 0, None, None] - y, far[:, k, 1, None, None] - x
        distance = (down * down + right * right).sqrt()
        nearest.masked_fill_(distance < best, k)
        best = torch.minimum(best, distance)
    return nearest


def _histogram(values: Tensor, num: int) -> Tensor:
    """Return how often 0..num-1 occur in each picture of int64 [B, H, W], int64 [B, num]; -1 is not counted."""
    counts = torch.zeros(values.shape[0], num + 1, dtype=torch.int64, device=values.device)
    flat = (values.flatten(1) + num + 1) % (num + 1)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    return counts[:, :num]


def _first_largest(logits: Tensor, whole: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the category of every pixel, int64; one enlarged plane at a time, for all of them are 160 MB and more."""
    best = whole(logits[0])
    semantic = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
    for c in range(1, logits.shape[0]):
        value = whole(logits[c])
        semantic.masked_fill_(value > best, c)
        best = torch.maximum(best, value)
    return semantic


def _find_centers(heat: Tensor, decoding: CenterDecoding) -> tuple[Tensor, Tensor]:
    """Return the centres' points, int64 [K, 2], and heatmap values, float32 [K], in the order that numbers them."""
    points = _is_center(heat, decoding).nonzero()
    peaks = heat[points[:, 0], points[:, 1]]
    if len(points) >= decoding.top_k:
        order = peaks.sort(descending=True, stable=True).indices[: decoding.top_k]
        points, peaks = points[order], peaks[order]
    return points, peaks


def _is_center(heat: Tensor, decoding: CenterDecoding) -> Tensor:
    """Return which pixels of heatmaps [..., H, W] are centres."""
    height, width = heat.shape[-2:]
    kernel = decoding.nms_kernel
    kept = torch.where(heat > decoding.threshold, heat, -1.0)
    # Outside the map max_pool2d has minus infinity.
    highest = F.max_pool2d(kept.reshape(-1, 1, height, width), kernel, stride=1, padding=kernel // 2)
    return (kept == highest.reshape(heat.shape)) & (kept > 0)


def _nearest(points: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the number of the centre nearest to every (y, x), int64; the first of equally near ones.

    Distances are compared after the square root, as published: it makes equal what differed in the last bits.
    """
    best = torch.full_like(x, torch.inf)
    nearest = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    for k, (center_y, center_x) in enumerate(points.tolist()):
        down, right = center_y - y, center_x - x
        distance = (down * down + right * right).sqrt()
        nearest.masked_fill_(distance < best, k)
        best = torch.minimum(best, distance)
    return nearest


def _thing_table(thing_ids: Collection[int], num_categories: int, device: torch.device) -> Tensor:
    table = [c in thing_ids for c in range(num_categories)]
    return torch.tensor(table, dtype=torch.bool, device=device)


def _check(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    thing_ids: Collection[int],
) -> None:
    """Refuse batched outputs that contradict each other."""
    if semantic_logits.ndim != 4 or 0 in semantic_logits.shape:
        shape = list(semantic_logits.shape)
        raise InvalidArgumentError(f"expected logits of one plane a category, with the batch in front, got {shape}")
    batch, num_categories, height, width = semantic_logits.shape
    for name, part, expected in (
        ("center", center, [batch, height, width]),
        ("offset", offset, [batch, 2, height, width]),
    ):
        if list(part.shape) != expected:
            raise InvalidArgumentError(
                f"expected {name} as {expected} to go with logits {list(semantic_logits.shape)}, got {list(part.shape)}"
            )
    if len(sizes) != batch:
        raise InvalidArgumentError(f"expected one size for each of the {batch} pictures, got {len(sizes)}")
    for size in sizes:
        if min(size) < 1 or size[0] > padded_size[0] or size[1] > padded_size[1]:
            raise InvalidArgumentError(
                f"expected a size within the padded size {padded_size[0]}x{padded_size[1]}, got {size[0]}x{size[1]}"
            )
    if any(not 0 <= c < num_categories for c in thing_ids):
        raise InvalidArgumentError(f"expected things among the {num_categories} categories, got {sorted(thing_ids)}")
