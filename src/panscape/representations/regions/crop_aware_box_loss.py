"""Crop-aware box loss (CABB): where the crop cuts an object off, any box that agrees with the visible part is right.

Porzi, Rota Bulò and Kontschieder, "Improving Panoptic Segmentation at All Scales" (CVPR 2021), Section 3. A crop hides
how far an object extends beyond it. The ordinary loss pulls the predicted box to the visible part, which teaches the
network to cut large objects off. This loss is the smallest ordinary loss over all boxes whose visible part is the same:
sides that the crop cuts off may lie anywhere beyond it.

The two axes are independent. Along an axis, in units of the anchor's side and relative to its centre, let ``a`` and
``b`` be the visible edges, ``delta`` the centre and ``omega`` the length of a box. The admissible boxes have::

    delta - omega / 2 = a    (or <= a if the low side is cut off)
    delta + omega / 2 = b    (or >= b if the high side is cut off)

The paper's appendix with its algorithms is not public; the solver below was derived anew. The bound that the paper
prints as ``(d_G - c_A) / d_A`` must be ``(d_C - c_A) / d_A``, the edge of the crop, which is the visible edge ``b``.

Everything is defined for the loss of any detector that regresses ``(center - anchor center) / anchor side`` and
``ln(side / anchor side)``, such as Faster R-CNN; sides and offsets are in the order of torchvision, x before y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.ops.boxes import encode_boxes, require_boxes

_HALVINGS = {torch.float64: 24, torch.float32: 30}  # until the objective is exact up to rounding
_LARGEST_LOG_SIZE = 60.0  # only against overflow of the solver; the loss itself is not clamped
_SMALLEST = 1e-9  # quadratic range of an absolute error, and smallest visible length, in units of the anchor


def crop_aware_box_loss(
    offsets: Tensor,
    anchors: Tensor,
    visible: Tensor,
    cut_off: Tensor,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    beta: float = 1 / 9,
) -> Tensor:
    """Sum the crop-aware smooth L1 loss of predicted boxes; without cut-off sides it is the ordinary loss, bit by bit.

    Values are not checked, as that would wait for the device: boxes without area or with exchanged corners, of anchors
    or visible parts, give an infinite loss or nan. Sizes are clamped to exp(60) times the anchor's in the search for
    the best box: a larger predicted one, which no detector can decode, has a loss above 0 even if it is admissible.

    Args:
        offsets: the network's output for each positive anchor or proposal, float [N, 4]: x and y of the centre, then
            logarithm of width and height, relative to the anchor and multiplied by ``weights``.
        anchors: anchors or proposals, xyxy in pixels of the crop, float [N, 4].
        visible: tight boxes of the visible part of their objects, xyxy in pixels of the crop, float [N, 4].
        cut_off: whether the crop cuts the object off at its left, top, right and bottom side, bool [N, 4]; see
            :func:`panscape.ops.boxes.cut_off_sides`.
        weights: factors of the offsets, (10, 10, 5, 5) for the second stage of Faster R-CNN.
        beta: error up to which the loss is quadratic, 0 to ``weights[2:]``; 0 is the absolute error.

    Returns:
        A scalar, the sum over boxes and offsets. Its gradient is that of the ordinary loss with the best admissible
        box held fixed (envelope theorem).

    Raises:
        InvalidArgumentError: a tensor has another shape or type, or ``beta`` is out of range.
    """
    targets = encode_boxes(visible, anchors, weights)
    targets = crop_aware_targets(offsets, targets, cut_off, weights=weights, beta=beta)
    return F.smooth_l1_loss(offsets, targets, reduction="sum", beta=beta)


@torch.no_grad()
def crop_aware_targets(
    offsets: Tensor,
    targets: Tensor,
    cut_off: Tensor,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    beta: float = 1 / 9,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Replace the targets of boxes that the crop cuts off by those of the admissible box with the smallest loss.

    It is all that a detector needs: the loss stays its own. Where no side is cut off, and where an offset is not
    finite, the targets are returned unchanged.

    Args:
        offsets: see :func:`crop_aware_box_loss`.
        targets: offsets of the visible boxes, as :func:`panscape.ops.boxes.encode_boxes` returns them, float [N, 4].
        cut_off: see :func:`crop_aware_box_loss`.
        weights: see :func:`crop_aware_box_loss`.
        beta: see :func:`crop_aware_box_loss`.
        dtype: precision of the solver; float32, for devices without float64, adds an error of up to 3e-6 to a loss.

    Returns:
        Of the type and shape of ``targets``, without gradient.

    Raises:
        InvalidArgumentError: as :func:`crop_aware_box_loss`, or another ``dtype``.
    """
    require_boxes(offsets=offsets, targets=targets)
    if cut_off.dtype != torch.bool or cut_off.shape != targets.shape or offsets.shape != targets.shape:
        raise InvalidArgumentError(
            f"expected offsets and targets float [N, 4] and cut_off bool [N, 4] of one length, got "
            f"{list(offsets.shape)}, {list(targets.shape)} and {cut_off.dtype} {list(cut_off.shape)}"
        )
    if len(weights) != 4 or not 0 <= beta <= min(weights[2:]):
        raise InvalidArgumentError(
            f"expected four weights and a beta from 0 to the weights of width and height, got {tuple(weights)} and "
            f"{beta:g}"
        )
    if dtype not in _HALVINGS:
        raise InvalidArgumentError(f"expected dtype torch.float64 or torch.float32, got {dtype}")
    factors = torch.tensor(weights, dtype=dtype, device=offsets.device)
    center, log_size = (offsets.to(dtype) / factors).chunk(2, dim=1)  # each [N, 2], x and y
    visible_center, visible_log_size = (targets.to(dtype) / factors).chunk(2, dim=1)
    is_free = cut_off[:, :2] | cut_off[:, 2:]
    axes = is_free & center.isfinite() & log_size.isfinite()
    half = visible_log_size.exp() / 2
    best = _best_admissible(
        _Axis(
            center[axes],
            log_size[axes].clamp(max=_LARGEST_LOG_SIZE),
            (visible_center - half)[axes],
            (visible_center + half)[axes],
            cut_off[:, :2][axes],
            cut_off[:, 2:][axes],
        ),
        _Huber(factors[:2].expand_as(center)[axes], beta),
        _Huber(factors[2:].expand_as(center)[axes], beta),
    )
    result = targets.clone()
    for columns, values, scale in ((slice(0, 2), best.center, factors[:2]), (slice(2, 4), best.log_size, factors[2:])):
        result[:, columns][axes] = (values * scale.expand_as(center)[axes]).to(targets.dtype)
    return result


class _Axis(NamedTuple):
    """A predicted box and the visible part along one axis, in units of the anchor, float [L] each."""

    center: Tensor
    log_size: Tensor
    low: Tensor  # visible edges
    high: Tensor
    low_is_free: Tensor  # bool [L]
    high_is_free: Tensor


class _Box(NamedTuple):
    """A box along one axis, float [L] each."""

    center: Tensor
    log_size: Tensor


class _Huber:
    """``weight * h(x)`` with the Huber function h that is quadratic up to ``beta / weight``.

    It is smooth L1 with ``beta`` of ``weight * x``.
    """

    def __init__(self, weight: Tensor, beta: float) -> None:
        self.weight = weight
        self.range = (beta / weight).clamp(min=_SMALLEST)

    def __call__(self, x: Tensor) -> Tensor:
        size = x.abs()
        return self.weight * torch.where(size < self.range, x * x / (2 * self.range), size - self.range / 2)

    def slope(self, x: Tensor) -> Tensor:
        return self.weight * (x / self.range).clamp(-1, 1)


def _best_admissible(axis: _Axis, center_loss: _Huber, size_loss: _Huber) -> _Box:
    """Return the admissible box with the smallest loss.

    If both sides are free and the prediction covers the visible part, it is the prediction. Else it lies on the
    boundary: from any interior admissible box, both losses fall along the straight line to the prediction, which leaves
    the convex admissible set through its boundary. The boundary consists of the boxes with the low edge at ``low`` and
    those with the high edge at ``high``; on each, only the length is left to choose.
    """
    shortest = (axis.high - axis.low).clamp(min=_SMALLEST)
    length, center = shortest, (axis.low + axis.high) / 2
    objective = torch.full_like(shortest, torch.inf)
    for is_free, edge, sign in ((axis.high_is_free, axis.low, 1), (axis.low_is_free, axis.high, -1)):
        # With one edge fixed, the centre is off by half of the difference to this length.
        wanted = sign * 2 * (axis.center - edge)
        found, loss = _best_length(wanted, axis.log_size, shortest, center_loss, size_loss)
        is_better = is_free & (loss < objective)
        length = torch.where(is_better, found, length)
        center = torch.where(is_better, edge + sign * found / 2, center)
        objective = torch.where(is_better, loss, objective)
    half = axis.log_size.exp() / 2
    covers = (axis.center - half <= axis.low) & (axis.center + half >= axis.high)
    is_prediction = axis.low_is_free & axis.high_is_free & covers
    return _Box(
        torch.where(is_prediction, axis.center, center), torch.where(is_prediction, axis.log_size, length.log())
    )


def _best_length(
    wanted: Tensor, log_size: Tensor, shortest: Tensor, center_loss: _Huber, size_loss: _Huber
) -> tuple[Tensor, Tensor]:
    """Minimise ``center_loss((omega - wanted) / 2) + size_loss(ln omega - log_size)`` over omega >= shortest.

    The first term falls up to ``wanted``, the second up to the predicted size: minima lie between them. There may be
    several. The function is convex up to ``exp(size_loss.range)`` times the predicted size; beyond it, the logarithm
    is concave, and the only local minimum is where the slopes of a quadratic centre term and a linear size term cancel.

    Returns:
        The length and the minimum, float [L] each.
    """
    size = log_size.exp()
    low = torch.maximum(shortest, torch.minimum(wanted, size))
    high = torch.maximum(shortest, torch.maximum(wanted, size))
    convex_end = torch.where(
        wanted <= size, high, torch.maximum(low, torch.minimum(high, size * size_loss.range.exp()))
    )
    # From this length on, the centre's full slope outweighs the size's: the minimum is within the centre's quadratic
    # range of ``wanted``. So brackets stay short, and the halvings enough, however large the predicted size is.
    balance, margin = 2 * size_loss.weight / center_loss.weight, 2 * center_loss.range
    start = torch.maximum(low, torch.minimum(convex_end, wanted - margin))
    left = torch.where(start >= balance, start, low)
    right = torch.maximum(low, torch.minimum(convex_end, torch.maximum(wanted + margin, balance)))
    for _ in range(_HALVINGS[size.dtype]):
        middle = (left + right) / 2
        slope = center_loss.slope((middle - wanted) / 2) / 2 + size_loss.slope(middle.log() - log_size) / middle
        left, right = torch.where(slope > 0, left, middle), torch.where(slope > 0, middle, right)
    discriminant = wanted * wanted - 16 * center_loss.range * size_loss.weight / center_loss.weight
    root = (wanted + discriminant.clamp(min=0).sqrt()) / 2
    root = torch.where(discriminant > 0, torch.minimum(torch.maximum(root, low), high), low)
    candidates = torch.stack([(left + right) / 2, low, high, root])
    objective = center_loss((candidates - wanted) / 2) + size_loss(candidates.log() - log_size)
    best = objective.argmin(dim=0, keepdim=True)
    return candidates.gather(0, best)[0], objective.gather(0, best)[0]
