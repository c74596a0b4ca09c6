"""Masks of objects from dense boxes: the pixels whose predicted boxes agree with the object's box.

The mask construction of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, arXiv 1912.01202,
Section 3.2). For a query box and each cell of a grid, the probability that the cell lies in the same object is

    M = P_loc (query, the cell's box) * P_sem (the query's category at the cell).

M is upsampled bilinearly to the image and compared with a threshold. Paper and released code differ, and ``variant``
selects one of them:

* "paper": P_loc is the IoU of the boxes, Equation 6; a pixel belongs to the object if M > threshold, Equation 7.
* "published": P_loc is (I + 1) / (U + 1) - (G - U) / G with intersection I, union U, and the area G = 1e-7 + that of
  the smallest box around both; M >= threshold.

Cells may have several boxes, of which the best counts (Table 3, without levelness). If P_loc is NaN, as with infinite
boxes, it counts as minus infinity. For finite boxes it is at most 1, apart from rounding.

Three implementations agree in every pixel: :func:`dense_masks_reference` is the definition, the compiled CPU kernels
evaluate M only where it can matter, and a CUDA kernel builds the masks, a few at a time, without any other tensor of
the size of a mask.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from typing import Literal

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import require_fits
from panscape.ops.cropped_masks import CroppedMasks
from panscape.ops.interpolate import cell_table, finite_values, upsample
from panscape.ops.interpolate_cpu import upsample_planes
from panscape.representations.dense_boxes.masks_cpu import build_masks

__all__ = [
    "MaskVariant",
    "dense_masks",
    "dense_masks_chunked",
    "dense_masks_reference",
    "location_mask_prob",
    "upsampled_thing_prob",
]

MaskVariant = Literal["published", "paper"]
_MAX_PIXELS = 1 << 25  # pixels of a chunk of masks, of one byte each: 16 masks of 1024x2048


def dense_masks_reference(
    query: Tensor,
    category: Tensor,
    dense: Tensor,
    prob: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    *,
    threshold: float,
    variant: MaskVariant,
) -> Tensor:
    """Build full masks, bool [P, H, W], in plain torch: the definition, which other implementations must equal.

    Arguments and errors are those of :func:`dense_masks`. Objects are processed one at a time, as the probabilities of
    all of them would take a gigabyte.
    """
    _check(query, category, dense, prob, padded_size, size, variant)
    masks = torch.zeros(len(query), *size, dtype=torch.bool, device=query.device)
    for mask, box, c in zip(masks, query.detach().float(), category.tolist(), strict=True):
        best = torch.full(dense.shape[2:], -torch.inf, device=query.device)
        for boxes in dense.detach().float():
            value = location_mask_prob(box, boxes, variant)
            best = torch.where(value > best, value, best)
        whole = upsample(best * prob[c].float(), padded_size, size, align_corners=False)
        torch.ge(whole, threshold, out=mask) if variant == "published" else torch.gt(whole, threshold, out=mask)
    return masks


def location_mask_prob(query: Tensor, boxes: Tensor, variant: MaskVariant) -> Tensor:
    """Return P_loc of one query, float [4], with boxes [4, ...]; float [...]. The order of operations is fixed."""
    x1, y1, x2, y2 = query
    left, top, right, bottom = boxes
    shared = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp_min(0) * (
        torch.minimum(y2, bottom) - torch.maximum(y1, top)
    ).clamp_min(0)
    union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
    if variant == "paper":
        overlap: Tensor = shared / union.clamp_min(1e-7)  # the IoU of two empty boxes is 0
        return overlap
    around = (torch.maximum(x2, right) - torch.minimum(x1, left)) * (
        torch.maximum(y2, bottom) - torch.minimum(y1, top)
    ) + 1e-7
    prob: Tensor = (shared + 1) / (union + 1) - (around - union) / around
    return prob


def dense_masks(
    query: Tensor,
    category: Tensor,
    dense: Tensor,
    prob: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    *,
    threshold: float,
    variant: MaskVariant,
) -> CroppedMasks:
    """Build the masks of one image with the fastest implementation for their device.

    Args:
        query: boxes of the objects, float [P, 4], xyxy in pixels of the input, x1 <= x2 and y1 <= y2, within
            1e15 or infinite.
        category: category of each object, a plane of ``prob``, int64 [P].
        dense: boxes of every cell, as for ``query``, float [D, 4, h, w], D at least 1.
        prob: probability of each category of things at every cell, float [T, h, w].
        padded_size: height and width of the network's input, which the cells cover evenly.
        size: height and width of the image in its top left corner.
        threshold: minimum probability of a pixel of an object.
        variant: "paper" or "published", see above.

    Returns:
        P masks, whose windows are inside ``size``.

    Raises:
        InvalidArgumentError: shapes contradict each other, or a category is not a plane of ``prob``.
    """
    _check(query, category, dense, prob, padded_size, size, variant)
    query, dense, prob = (part.detach().float().contiguous() for part in (query, dense, prob))
    if query.device.type == "cpu":
        rows = cell_table(dense.shape[2], padded_size[0], False, size[0])
        columns = cell_table(dense.shape[3], padded_size[1], False, size[1])
        arrays = (query.numpy(), category.numpy(), dense.numpy(), prob.numpy())
        windows, crops = build_masks(*arrays, rows, columns, threshold, is_published=variant == "published")
        return CroppedMasks.from_crops([torch.from_numpy(crop) for crop in crops], torch.from_numpy(windows))
    return dense_masks_chunked(
        query, category, dense, prob, padded_size, size, threshold=threshold, variant=variant, max_pixels=_MAX_PIXELS
    )


def dense_masks_chunked(
    query: Tensor,
    category: Tensor,
    dense: Tensor,
    prob: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    *,
    threshold: float,
    variant: MaskVariant,
    max_pixels: int,
) -> CroppedMasks:
    """Build masks as :func:`dense_masks` does, on any device, at full size in chunks.

    Floats are float32 and contiguous; ``max_pixels`` is as for :meth:`CroppedMasks.from_parts`.
    """
    is_fused = query.is_cuda and _has_triton()

    def make(some: slice) -> Tensor:
        arguments = (query[some], category[some], dense, prob, padded_size, size)
        if not is_fused:
            return dense_masks_reference(*arguments, threshold=threshold, variant=variant)
        from panscape.representations.dense_boxes.masks_triton import dense_masks_triton

        return dense_masks_triton(*arguments, threshold, is_published=variant == "published")

    return CroppedMasks.from_parts(make, len(query), size, max_pixels)


def upsampled_thing_prob(semantic_logits: Tensor, grid: tuple[int, int], thing_ids: tuple[int, ...]) -> Tensor:
    """Return the probability of each thing at every cell of a finer grid: softmax of the upsampled logits.

    Args:
        semantic_logits: float [K, h, w], all categories; NaN counts as the lowest value.
        grid: height and width of the finer grid.
        thing_ids: categories of the result's planes.

    Returns:
        float32 [T, *grid].
    """
    logits = finite_values(semantic_logits).contiguous()
    if logits.device.type == "cpu":
        rows = cell_table(logits.shape[1], grid[0], False, grid[0])
        columns = cell_table(logits.shape[2], grid[1], False, grid[1])
        fine = logits.new_empty(len(logits), *grid)
        upsample_planes(logits.numpy(), rows, columns, fine.numpy())
    else:
        fine = upsample(logits, grid, grid, align_corners=False)
    prob: Tensor = fine.softmax(dim=0)[list(thing_ids)]
    return prob


@functools.cache
def _has_triton() -> bool:
    """Return whether CUDA kernels can be compiled: most torch builds include Triton, which requires a compiler."""
    has_compiler = "CC" in os.environ or any(shutil.which(name) for name in ("gcc", "clang"))
    return importlib.util.find_spec("triton") is not None and has_compiler


def _check(
    query: Tensor,
    category: Tensor,
    dense: Tensor,
    prob: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    variant: str,
) -> None:
    """Check that the arguments match each other."""
    if query.ndim != 2 or query.shape[1] != 4 or list(category.shape) != [len(query)]:
        raise InvalidArgumentError(
            f"expected query as [P, 4] and a category for each, got {list(query.shape)} and {list(category.shape)}"
        )
    if dense.ndim != 4 or dense.shape[1] != 4 or 0 in dense.shape or dense.shape[2:] != prob.shape[1:]:
        raise InvalidArgumentError(
            f"expected dense as [D, 4, h, w] and prob as [T, h, w], got {list(dense.shape)} and {list(prob.shape)}"
        )
    require_fits(size, padded_size)
    if len(category) and not (int(category.min()) >= 0 and int(category.max()) < len(prob)):
        raise InvalidArgumentError(f"expected categories in 0..{len(prob) - 1}, got {sorted(set(category.tolist()))}")
    if variant not in ("published", "paper"):
        raise InvalidArgumentError(f'expected variant "published" or "paper", got {variant!r}')
