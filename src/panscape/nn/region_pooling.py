"""Features of regions: a fixed number of cells of each box, from the level of a pyramid that fits its size.

Lin et al., "Feature Pyramid Networks for Object Detection" (CVPR 2017), Equation 1; He et al., "Mask R-CNN" (ICCV
2017), Section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

PoolingCompat = Literal["seamseg", "detectron2"]

LEVEL_SIDE = 112.0
"""Side of a square box, in pixels, from which on it takes stride 8 instead of 4 (the paper: stride 16 from 224 pixels
on, the size of the images of pretraining)."""

_STRIDE_BELOW = 4  # of the level of boxes below this side


def region_levels(boxes: Tensor, strides: Sequence[int], level_side: float = LEVEL_SIDE) -> Tensor:
    """Return the level of each box: below ``level_side`` stride 4, and for each doubling of the side twice the stride.

    Args:
        boxes: xyxy in pixels, float [N, 4].
        strides: of the levels, each twice the one before; boxes that fit none take the first or the last.
        level_side: see :data:`LEVEL_SIDE`.

    Returns:
        Index of the level, int64 [N].
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    level = torch.log2(sides * (2 * _STRIDE_BELOW / strides[0]) / level_side + 1e-6).floor()
    return level.clamp(0, len(strides) - 1).long()


def pool_regions(
    levels: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    num_cells: int,
    compat: PoolingCompat,
    level_side: float = LEVEL_SIDE,
) -> Tensor:
    """Return the features of regions, float [N, C, num_cells, num_cells].

    "seamseg" interpolates one value at the centre of each cell, whose coordinates are shifted by half a cell of the
    feature map, as its weights expect; beyond the map, the value at its border continues. "detectron2" averages several
    values of each cell, aligned (torchvision's RoIAlign).

    Args:
        levels: features of the image, float [B, C, h, w] each.
        strides: of the levels, each twice the one before.
        boxes: xyxy in pixels of the input, float [N, 4].
        image: index of each box's image in the batch, int64 [N].
        num_cells: cells along each side.
        compat: which of the two.
        level_side: see :data:`LEVEL_SIDE`.
    """
    dtype = levels[0].dtype
    if dtype in (torch.float16, torch.bfloat16):  # too coarse for coordinates
        levels = [features.float() for features in levels]
    level = region_levels(boxes, strides, level_side)
    if compat == "seamseg":
        return _sample(levels, strides, boxes, image, level, num_cells).to(dtype)
    pooled = levels[0].new_zeros(boxes.shape[0], levels[0].shape[1], num_cells, num_cells)
    for number, (features, stride) in enumerate(zip(levels, strides, strict=True)):
        rows = (level == number).nonzero()[:, 0]
        pooled[rows] = align_regions(features, stride, boxes[rows], image[rows], num_cells)
    return pooled.to(dtype)


def align_regions(
    features: Tensor, stride: int, boxes: Tensor, image: Tensor, num_cells: int, num_samples: int = -1
) -> Tensor:
    """Return the means of cells of each box by RoIAlign, aligned, float [N, C, num_cells, num_cells].

    Args:
        features: float [B, C, h, w].
        stride: pixels of the input for one row or column of the features.
        boxes: xyxy in pixels of the input, float [N, 4].
        image: index of each box's image in the batch, int64 [N].
        num_cells: cells along each side.
        num_samples: values along each side of a cell; -1 for as many as the cell has rows or columns of features.
    """
    from torchvision import ops

    roi_align: Any = ops.roi_align
    rois = torch.cat([image[:, None].to(features.dtype), boxes.to(features.dtype)], dim=1)
    return cast(Tensor, roi_align(features, rois, num_cells, 1 / stride, num_samples, aligned=True))


def _sample(
    levels: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, image: Tensor, level: Tensor, num_cells: int
) -> Tensor:
    """Return one value at the centre of each cell: the weighted sum of four locations of all levels in one table."""
    table = torch.cat([features.permute(0, 2, 3, 1).flatten(0, 2) for features in levels])
    sizes = [(features.shape[2], features.shape[3]) for features in levels]
    starts = [sum(len(levels[0]) * h * w for h, w in sizes[:number]) for number in range(len(sizes))]
    stride = boxes.new_tensor(strides)[level, None, None]
    height, width = torch.tensor(sizes, device=boxes.device)[level].unbind(1)
    last = torch.stack([width, height], dim=1)[:, :, None] - 1
    corners = ((boxes - 0.5) / stride[:, 0]).view(-1, 2, 2, 1)
    steps = (torch.arange(num_cells, device=boxes.device, dtype=boxes.dtype) + 0.5) / num_cells
    places = torch.minimum((corners[:, 0] + (corners[:, 1] - corners[:, 0]) * steps).clamp(min=0), last)
    near = places.long()  # the locations before and after each centre, x and y
    around = torch.stack([near, torch.minimum(near + 1, last)], dim=3)
    after = places - near
    weights = torch.stack([1 - after, after], dim=3)
    (x, y), (x_weight, y_weight) = around.unbind(1), weights.unbind(1)
    row = torch.tensor(starts, device=boxes.device)[level] + image * height * width
    # by box, row of cells, column of cells, and the two locations on each axis
    index = (row[:, None, None] + y * width[:, None, None])[:, :, None, :, None] + x[:, None, :, None]
    weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None]
    values = F.embedding_bag(
        index.reshape(-1, 4), table, mode="sum", per_sample_weights=weight.reshape(-1, 4).to(table.dtype)
    )
    return values.view(boxes.shape[0], num_cells, num_cells, table.shape[1]).permute(0, 3, 1, 2)
