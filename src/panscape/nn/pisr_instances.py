"""Instance heatmaps from centres and offsets, or from boxes with masks: the input of PISR.

Section 3.2 and footnote 2 of *Panoptic, Instance, and Semantic Relations* (Borse et al., CVPR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, inf

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import OddInt, Positive, check_fields
from panscape.ops.boxes import has_area

_SMALLEST_SIDE = 1e-3  # pixels of a box
_SMALLEST_SQUARE = 1e-12  # of a distance in cells: the root's gradient at zero is infinite


@dataclass(frozen=True, slots=True)
class CenterInstanceMaps:
    """Options of the heatmaps made from centres and offsets.

    The footnote's formula, ``1 - C (M(i, j) - (i + O_x, j + O_y))``, subtracts a position from a score and does not
    name the centre. It is read as: one minus the distance between the position that a pixel points to and the centre,
    in units of a radius.

    Attributes:
        radius: distance at which a heatmap reaches zero, as a share of the image's diagonal; 1 / C, which the paper
            only calls "a normalization constant". With 1, all heatmaps are almost 1 everywhere.
        nms_kernel: side in cells of the window of which a centre is the maximum; odd. The paper takes "the top-K most
            confident"; without such NMS these would all lie around one object. There is no threshold, as reweighting
            suppresses false centres. At a quarter of the resolution, 3 cells correspond to the 7 pixels of
            post-processing on Cityscapes, 11 to the 41 pixels on COCO.
        soft_things: multiply heatmaps by the probability of things, through which gradients flow, instead of by the
            hard mask of things from the argmax. The paper: "a binary segmentation of things and stuff".

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    radius: Positive = 0.1
    nms_kernel: OddInt = 3
    soft_things: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


def center_instance_maps(
    semantic_prob: Tensor,
    center: Tensor,
    offset_in_cells: Tensor,
    is_thing: Tensor,
    valid: Tensor | None,
    num_instances: int,
    options: CenterInstanceMaps,
) -> tuple[Tensor, Tensor]:
    """Return heatmaps of the most confident objects, highest centre first.

    The selection of centres is not differentiable: gradients flow into offsets and, with ``soft_things``, into
    probabilities.

    Args:
        semantic_prob: probabilities of categories, [B, N, h, w].
        center: centre heatmap, [B, 1, h, w]; it need not be in 0..1.
        offset_in_cells: vector from the cell to its centre, (dy, dx) in cells of this grid, [B, 2, h, w]. At least
            float32: half precision cannot represent coordinates exactly.
        is_thing: which categories are things, bool [N].
        valid: which places belong to the image, bool [B or 1, 1, h, w]; None if there is no padding. The radius refers
            to the diagonal of the image without padding.
        num_instances: K. If there are fewer centres, the remaining heatmaps are zero.
        options: options of the heatmaps.

    Returns:
        Heatmaps in 0..1, [B, K, h, w], of the dtype of the offset; and which belong to a centre, bool [B, K].
    """
    height, width = center.shape[-2:]
    dtype, device = offset_in_cells.dtype, center.device
    points, is_used = _highest_peaks(center.detach(), valid, num_instances, options.nms_kernel)
    rows, columns = torch.arange(height, device=device, dtype=dtype), torch.arange(width, device=device, dtype=dtype)
    down = offset_in_cells[:, :1] + rows[:, None] - torch.div(points, width, rounding_mode="floor")[..., None, None]
    right = offset_in_cells[:, 1:] + columns - torch.remainder(points, width)[..., None, None]
    distance = (down.square() + right.square()).clamp_min(_SMALLEST_SQUARE).sqrt()
    if options.soft_things:
        thing = (semantic_prob * is_thing[:, None, None]).sum(1, keepdim=True)
    else:
        thing = is_thing[semantic_prob.argmax(1, keepdim=True)]
    if valid is not None:
        thing = thing.masked_fill(~valid, 0)
    radius = options.radius * _diagonal(height, width, valid)
    # Starting from zero instead of one makes heatmaps without a centre zero.
    maps = (is_used.to(dtype)[..., None, None] - distance / radius).relu() * thing.to(dtype)
    return maps, is_used


def region_instance_maps(boxes: Tensor, prob: Tensor, score: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Return the masks of boxes as heatmaps, by bilinear interpolation between the centres of their cells.

    Outside of a box there are cells of probability 0, as where masks are pasted into images. Gradients flow into the
    masks and scores, and not into the boxes.

    Args:
        boxes: xyxy in pixels, float [B, K, 4]; those without area have a heatmap of 0.
        prob: probability of each cell of a box, float [B, K, M, M].
        score: by which a heatmap is multiplied, float [B, K].
        size: height and width of the heatmaps, h and w.
        stride: pixels per cell of the heatmaps.

    Returns:
        float [B, K, h, w].
    """
    boxes, cells = boxes.detach().float(), prob.shape[-1]
    numbers = torch.arange(cells, device=boxes.device)

    def weights(low: Tensor, high: Tensor, length: int) -> Tensor:
        """Return the weight of each cell of a box for each place along one axis, [B, K, length, M]."""
        places = (torch.arange(length, device=boxes.device) + 0.5) * stride
        share = (places - low[..., None]) / (high - low).clamp_min(_SMALLEST_SIDE)[..., None]
        return (1 - ((share * cells - 0.5)[..., None] - numbers).abs()).relu().to(prob.dtype)

    rows, columns = (weights(boxes[..., i], boxes[..., i + 2], size[1 - i]) for i in (1, 0))
    maps = rows @ prob @ columns.transpose(2, 3)
    return maps * (score * has_area(boxes))[..., None, None]


def _highest_peaks(center: Tensor, valid: Tensor | None, num: int, kernel: int) -> tuple[Tensor, Tensor]:
    """Return the raster indices of the highest peaks, int64 [B, num], and which of them exist, bool [B, num]."""
    if valid is not None:
        center = center.masked_fill(~valid, -inf)
    highest = F.max_pool2d(center, kernel, stride=1, padding=kernel // 2)
    scores = center.masked_fill(center != highest, -inf).flatten(1)
    found = min(num, scores.shape[1])
    best, points = scores.topk(found, dim=1)
    return F.pad(points, (0, num - found)), F.pad(best, (0, num - found), value=-inf) > -inf


def _diagonal(height: int, width: int, valid: Tensor | None) -> float | Tensor:
    """Return the diagonal of the image in cells; with padding, a tensor [B or 1, 1, 1, 1]."""
    if valid is None:
        return hypot(height, width)
    rows, columns = valid.any(3).sum(2), valid.any(2).sum(2)
    return torch.hypot(rows.float(), columns.float())[..., None, None].clamp_min(1)
