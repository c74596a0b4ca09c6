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

_CANONICAL_SIDE = 224.0  # pixels of the images that the backbone was pretrained on
_CANONICAL_STRIDE = 16  # of the level that boxes of this side take


def region_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the level of each box: boxes of 224 pixels take stride 16, twice as large ones twice the stride.

    Args:
        boxes: xyxy in pixels, float [N, 4].
        strides: of the levels, each twice the one before; boxes that fit none take the first or the last.

    Returns:
        Index of the level, int64 [N].
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    level = torch.log2(sides * (_CANONICAL_STRIDE / strides[0]) / _CANONICAL_SIDE + 1e-6).floor()
    return level.clamp(0, len(strides) - 1).long()


def pool_regions(
    levels: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    num_cells: int,
    compat: PoolingCompat,
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
    """
    dtype = levels[0].dtype
    if dtype in (torch.float16, torch.bfloat16):  # too coarse for coordinates
        levels = [features.float() for features in levels]
    level = region_levels(boxes, strides)
    pooled = levels[0].new_zeros(boxes.shape[0], levels[0].shape[1], num_cells, num_cells)
    for number, (features, stride) in enumerate(zip(levels, strides, strict=True)):
        rows = (level == number).nonzero()[:, 0]
        if compat == "detectron2":
            pooled[rows] = _align(features, stride, boxes[rows], image[rows], num_cells)
            continue
        for b in range(len(features)):
            of_image = rows[image[rows] == b]
            pooled[of_image] = _sample(features[b], stride, boxes[of_image], num_cells)
    return pooled.to(dtype)


def _align(features: Tensor, stride: int, boxes: Tensor, image: Tensor, num_cells: int) -> Tensor:
    from torchvision import ops

    roi_align: Any = ops.roi_align
    rois = torch.cat([image[:, None].to(features.dtype), boxes.to(features.dtype)], dim=1)
    return cast(Tensor, roi_align(features, rois, num_cells, 1 / stride, sampling_ratio=-1, aligned=True))


def _sample(features: Tensor, stride: int, boxes: Tensor, num_cells: int) -> Tensor:
    """Return one value at the centre of each cell of boxes of one image."""
    height, width = features.shape[1:]
    steps = (torch.arange(num_cells, device=boxes.device, dtype=boxes.dtype) + 0.5) / num_cells
    # A box from pixel 0 to n covers the map from half a cell to half a cell beyond n / stride.
    sides = [(boxes[:, [axis, axis + 2]] - 0.5) / stride + 0.5 for axis in (0, 1)]
    x, y = (
        (low + (high - low) * steps) * 2 / length - 1
        for (low, high), length in (
            (side.T[:, :, None], length) for side, length in zip(sides, (width, height), strict=True)
        )
    )
    grid = torch.stack([x[:, None].expand(-1, num_cells, -1), y[:, :, None].expand(-1, -1, num_cells)], dim=3)
    values = F.grid_sample(
        features[None], grid.reshape(1, -1, num_cells, 2).to(features.dtype), padding_mode="border", align_corners=False
    )
    return values[0].reshape(features.shape[0], boxes.shape[0], num_cells, num_cells).transpose(0, 1)
