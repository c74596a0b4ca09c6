"""Merge overlapping object masks, by descending confidence, and stuff into one panoptic map.

The heuristic of Kirillov et al., "Panoptic Segmentation", CVPR 2019, by the rules of its published implementation
(``panopticapi``), which Panoptic FPN's implementation kept:

1. Masks are visited in the given order. A mask is skipped if it has no pixels, or if more than a share ``max_overlap``
   of it is covered by accepted masks; exactly that share is accepted. An accepted mask gets its free pixels.
2. The free pixels of a stuff category are one segment, connected or not, if there are at least ``stuff_area``.
3. Everything else is void: smaller stuff segments, and free pixels whose category is a thing.

One difference, which changes no pixel: a mask without free pixels is never accepted, even where the share allows it,
nor is stuff without pixels.

Two implementations agree in every pixel: :func:`fuse_masks_reference` is the definition and runs on any device; the
compiled kernels read each window once, the accepted ones a second time, and pass twice over the image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops.cropped_masks import CroppedMasks
from panscape.ops.jit import jit

__all__ = ["CroppedMasks", "FusedMasks", "fuse_masks", "fuse_masks_reference"]


class FusedMasks(NamedTuple):
    """A merged panoptic map.

    Attributes:
        ids: int32 [H, W]: 0 is void, 1..S are the entries of ``stuff``, S + 1..S + A those of ``accepted``.
        stuff: categories of the stuff segments, ascending, int64 [S].
        accepted: indices of the accepted masks, in the given order, int64 [A].
    """

    ids: Tensor
    stuff: Tensor
    accepted: Tensor


def fuse_masks(
    windows: CroppedMasks, order: Tensor, semantic: Tensor, is_thing: Tensor, max_overlap: float, stuff_area: int
) -> FusedMasks:
    """Merge masks into one map by the rules above, with the fastest implementation for their device.

    Args:
        windows: the masks.
        order: indices of the masks to merge, the topmost first, int64 [Q], without duplicates.
        semantic: category of every pixel, any integers [H, W]; read only where no accepted mask is.
        is_thing: whether each category is a thing, bool [K].
        max_overlap: largest covered share of an accepted mask, 0..1.
        stuff_area: minimum number of free pixels of a stuff segment; with fewer they are void.

    Raises:
        InvalidArgumentError: a window reaches beyond the image, or a free pixel's category is not in 0..K - 1.
    """
    windows.check_inside((semantic.shape[0], semantic.shape[1]))
    if semantic.device.type != "cpu":
        return fuse_masks_reference(windows, order, semantic, is_thing, max_overlap, stuff_area)
    boxes, pixels, starts = (part.numpy() for part in (windows.boxes, windows.pixels, windows.starts))
    categories = semantic.contiguous().numpy()
    ids = np.zeros(categories.shape, dtype=np.int32)
    accepted = _lay_masks(boxes, pixels, starts, order.numpy(), float(max_overlap), ids)
    num_categories = len(is_thing)
    areas = _free_areas(categories, ids, num_categories)
    _check_categories(int(areas[-1]), num_categories)
    stuff = np.flatnonzero(~is_thing.numpy() & (areas[:-1] >= max(stuff_area, 1)))
    table = np.zeros(num_categories, dtype=np.int32)
    table[stuff] = np.arange(1, len(stuff) + 1)
    _number(categories, ids, table, len(stuff))
    return FusedMasks(torch.from_numpy(ids), torch.from_numpy(stuff), torch.from_numpy(accepted))


def fuse_masks_reference(
    windows: CroppedMasks, order: Tensor, semantic: Tensor, is_thing: Tensor, max_overlap: float, stuff_area: int
) -> FusedMasks:
    """Plain torch reference of :func:`fuse_masks`, for any device; the compiled implementation must equal it.

    The CPU synchronises with the device a few times per image, not once per mask.
    """
    windows.check_inside((semantic.shape[0], semantic.shape[1]))
    device, num_categories = semantic.device, len(is_thing)
    # Index of the topmost mask in ``order``, plus 1; 0 is free.
    ids = torch.zeros(semantic.shape, dtype=torch.int32, device=device)
    is_accepted = torch.zeros(len(order), dtype=torch.bool, device=device)
    masks = list(windows)
    for place, number in enumerate(order.tolist()):
        rows, columns, mask = masks[number]
        free = mask & (ids[rows, columns] == 0)
        area, num_free = mask.sum(), free.sum()
        covered = (area - num_free).double() / area.double()  # NaN without pixels, which no comparison accepts
        is_accepted[place] = (covered <= max_overlap) & (num_free > 0)
        ids[rows, columns].masked_fill_(free & is_accepted[place], place + 1)

    values = semantic[ids == 0].long()
    is_category = (values >= 0) & (values < num_categories)
    _check_categories(int((~is_category).sum()), num_categories)
    areas = torch.bincount(values, minlength=num_categories)
    stuff = (~is_thing.to(device) & (areas >= max(stuff_area, 1))).nonzero()[:, 0]
    of_category = torch.zeros(num_categories, dtype=torch.int32, device=device)
    of_category[stuff] = torch.arange(1, len(stuff) + 1, dtype=torch.int32, device=device)
    of_mask = is_accepted.cumsum(0, dtype=torch.int32) + len(stuff)
    result = torch.cat([of_mask.new_zeros(1), of_mask])[ids.long()]
    result[ids == 0] = of_category[values]
    return FusedMasks(result, stuff, order.to(device)[is_accepted])


def _check_categories(num_strange: int, num_categories: int) -> None:
    if num_strange:
        raise InvalidArgumentError(
            f"expected categories in 0..{num_categories - 1} outside of objects, got others at {num_strange} pixels; "
            "assign a category to every pixel"
        )


@jit
def _lay_masks(
    boxes: NDArray[np.int32],
    pixels: NDArray[np.bool_],
    starts: NDArray[np.int64],
    order: NDArray[np.int64],
    max_overlap: float,
    ids: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Write 1, 2, ... into the pixels of the accepted masks, and return the indices of these masks."""
    accepted = np.empty(len(order), dtype=np.int64)
    num_accepted = 0
    for number in order:
        left, top, right, bottom = boxes[number]
        width = right - left
        area = num_free = 0
        for y in range(top, bottom):
            start = starts[number] + (y - top) * width
            mask, below = pixels[start : start + width], ids[y, left:right]
            for x in range(width):
                area += mask[x]
                num_free += mask[x] & (below[x] == 0)
        if num_free == 0 or (area - num_free) / area > max_overlap:
            continue
        accepted[num_accepted] = number
        num_accepted += 1
        for y in range(top, bottom):
            start = starts[number] + (y - top) * width
            mask, below = pixels[start : start + width], ids[y, left:right]
            for x in range(width):
                below[x] = num_accepted if mask[x] & (below[x] == 0) else below[x]
    return accepted[:num_accepted].copy()


@jit
def _free_areas(categories: NDArray[np.int64], ids: NDArray[np.int32], num_categories: int) -> NDArray[np.int64]:
    """Count the free pixels of each category; one more entry counts those without a valid category."""
    areas = np.zeros(num_categories + 1, dtype=np.int64)
    for y in range(ids.shape[0]):
        last, length = num_categories, 0  # runs of one category are counted together
        for x in range(ids.shape[1]):
            if ids[y, x] != 0:
                continue
            c = int(categories[y, x])
            if c != last:
                areas[last] += length
                last, length = c if 0 <= c < num_categories else num_categories, 0
            length += 1
        areas[last] += length
    return areas


@jit
def _number(categories: NDArray[np.int64], ids: NDArray[np.int32], table: NDArray[np.int32], num_stuff: int) -> None:
    """Number the stuff first: add ``num_stuff`` to the ids of masks, and give free pixels their category's entry."""
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            ids[y, x] = ids[y, x] + num_stuff if ids[y, x] != 0 else table[categories[y, x]]
