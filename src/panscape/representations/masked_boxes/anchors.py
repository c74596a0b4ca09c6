"""Anchors for a dataset: clusters of the widths and heights of its objects by IoU, in the manner of k-means.

Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger" (CVPR 2017), Section 2, "Dimension Clusters". Sides, not boxes,
are compared: two boxes have the IoU that they have with a common corner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError

_MAX_ROUNDS = 300  # medians do not minimise this distance, so the rounds need not converge


def estimate_anchors(
    sides: Tensor, num_strides: int = 3, num_anchors: int = 3
) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Cluster the sides of objects; the same sides, in any order, give the same anchors.

    The first centres are spread evenly over the distinct sides by area; each round replaces them by the medians of the
    objects that overlap them most, which fit better than the means of k-means, as large objects do not outweigh small
    ones. The centres with the largest mean IoU of all rounds are returned.

    Args:
        sides: width and height of each object in pixels of the network's input, above 0, float [N, 2].
        num_strides: number of strides.
        num_anchors: anchors of each stride.

    Returns:
        Width and height of each anchor, by stride and ascending area: the smallest for the finest stride.

    Raises:
        InvalidArgumentError: ``sides`` has another shape or values of 0 or less, or fewer distinct rows than anchors.
    """
    num = num_strides * num_anchors
    if sides.ndim != 2 or sides.shape[1] != 2:
        raise InvalidArgumentError(f"expected sides as float [N, 2], got {sides.dtype} {list(sides.shape)}")
    if len(strange := sides[~((sides > 0) & sides.isfinite()).all(dim=1)]):
        raise InvalidArgumentError(
            f"expected finite sides above 0, got {len(strange)} others, the first {strange[0].tolist()}; leave out "
            "objects without area"
        )
    sides = sides.double().cpu()
    distinct = torch.unique(sides, dim=0)
    if len(distinct) < num:
        raise InvalidArgumentError(
            f"expected objects of at least {num} different sizes for {num} anchors, got {len(distinct)}; use more "
            "images, fewer anchors, or those of the defaults"
        )
    by_area = distinct.prod(dim=1).sort(stable=True).indices
    centers = distinct[by_area[(torch.arange(num) * 2 + 1) * len(distinct) // (2 * num)]]
    best, best_iou, last = centers, -1.0, None
    for _ in range(_MAX_ROUNDS):
        iou, nearest = sides_iou(sides, centers).max(dim=1)
        if float(iou.mean()) > best_iou:
            best, best_iou = centers, float(iou.mean())
        if last is not None and torch.equal(nearest, last):
            break
        last = nearest
        clusters = [sides[nearest == i] for i in range(num)]
        centers = torch.stack(
            [
                cluster.median(dim=0).values if len(cluster) else center
                for cluster, center in zip(clusters, centers, strict=True)
            ]
        )
    ordered = best[best.prod(dim=1).sort(stable=True).indices].view(num_strides, num_anchors, 2).tolist()
    return tuple(tuple((width, height) for width, height in stride) for stride in ordered)


def sides_iou(sides: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of boxes with a common corner, [N, M].

    Args:
        sides: width and height, above 0, float [N, 2].
        others: likewise, float [M, 2].
    """
    common = torch.minimum(sides[:, None], others).prod(dim=2)
    return common / (sides.prod(dim=1)[:, None] + others.prod(dim=1) - common)
