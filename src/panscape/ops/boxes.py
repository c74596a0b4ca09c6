"""Boxes, xyxy in pixels: area, clipping, the sides that a crop cuts off, and offsets from anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError

LARGEST_SIZE_OFFSET = math.log(1000 / 16)
"""Largest logarithm of a box's side in units of its anchor; larger ones are clamped, as in detectron2 and seamseg."""


def has_area(boxes: Tensor) -> Tensor:
    """Return whether each box [..., 4] has an area, bool [...]."""
    return (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)


def clip_boxes(boxes: Tensor, window: Tensor | tuple[int, int]) -> Tensor:
    """Return boxes clipped to an image or to windows in it, float [..., 4].

    Args:
        boxes: xyxy, float [..., 4].
        window: height and width of the image; or windows, xyxy, [..., 4], whose shape is broadcast.
    """
    if isinstance(window, tuple):
        window = boxes.new_tensor([0, 0, window[1], window[0]])
    low, high = window[..., :2], window[..., 2:]
    return torch.minimum(torch.maximum(boxes, torch.cat([low, low], dim=-1)), torch.cat([high, high], dim=-1))


def is_inside(boxes: Tensor, window: Tensor) -> Tensor:
    """Return whether each box [..., 4] lies inside a window [4], xyxy, bool [...]."""
    return ((boxes[..., :2] >= window[:2]) & (boxes[..., 2:] <= window[2:])).all(dim=-1)


def touching_sides(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which sides of an image boxes [N, 4] touch: left, top, right, bottom, bool [N, 4]; none without area."""
    touches = torch.cat([boxes[:, :2] <= 0, boxes[:, 2:] >= boxes.new_tensor([size[1], size[0]])], dim=1)
    return touches & has_area(boxes)[:, None]


def cut_off_sides(boxes: Tensor, visible: Tensor, size: tuple[int, int]) -> Tensor:
    """Return at which sides a crop cuts objects off.

    A side is cut off if the visible part touches the side of the crop and the object continues beyond it. So a box
    that ends exactly at the side of the crop is not cut off (footnote 2 of the paper), nor is one whose visible part
    ends before it, for example behind another object, nor one that is not visible.

    Args:
        boxes: tight boxes of the whole objects, relative to the crop: xyxy in pixels, may exceed it, [N, 4].
        visible: tight boxes of their pixels in the crop, [N, 4].
        size: height and width of the crop without padding, in pixels. Padding follows the border of the image, beyond
            which no object continues.

    Returns:
        left, top, right, bottom, bool [N, 4].
    """
    continues = torch.cat([boxes[:, :2] < 0, boxes[:, 2:] > boxes.new_tensor([size[1], size[0]])], dim=1)
    return continues & touching_sides(visible, size)


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return boxes as offsets from anchors, as Faster R-CNN regresses them, float [N, 4].

    Args:
        boxes: xyxy in pixels, not empty, float [N, 4].
        anchors: likewise.
        weights: factors of the offsets.

    Raises:
        InvalidArgumentError: a tensor has another shape or type.
    """
    require_boxes(boxes=boxes, anchors=anchors)
    sizes, anchor_sizes = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    centers, anchor_centers = boxes[:, :2] + 0.5 * sizes, anchors[:, :2] + 0.5 * anchor_sizes
    factors = torch.as_tensor(weights, dtype=boxes.dtype, device=boxes.device)
    return torch.cat(
        [factors[:2] * (centers - anchor_centers) / anchor_sizes, factors[2:] * torch.log(sizes / anchor_sizes)], dim=1
    )


def decode_boxes(offsets: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return boxes from their offsets, the inverse of ``encode_boxes``, float [..., 4].

    Args:
        offsets: float [..., 4]; logarithms of sides above :data:`LARGEST_SIZE_OFFSET` are clamped.
        anchors: float [..., 4], xyxy.
        weights: factors of the offsets.
    """
    offsets = offsets / offsets.new_tensor(weights)
    sides = anchors[..., 2:] - anchors[..., :2]
    centers = anchors[..., :2] + 0.5 * sides + offsets[..., :2] * sides
    half = 0.5 * sides * offsets[..., 2:].clamp(max=LARGEST_SIZE_OFFSET).exp()
    return torch.cat([centers - half, centers + half], dim=-1)


def require_boxes(**tensors: Tensor) -> None:
    """Check that tensors, by name, are boxes or offsets.

    Raises:
        InvalidArgumentError: one is not float [N, 4].
    """
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.shape[1] != 4 or not tensor.is_floating_point():
            raise InvalidArgumentError(f"expected {name} as float [N, 4], got {tensor.dtype} {list(tensor.shape)}")


def stacked(parts: Sequence[Tensor], length: int) -> Tensor:
    """Stack tensors of images, [B, ``length``, ...]: cut off after so many rows, or filled up with zeros."""
    return torch.stack([torch.cat([part, part.new_zeros(length, *part.shape[1:])])[:length] for part in parts])


def scattered(values: Tensor, rows: Tensor, boxes: Tensor) -> Tensor:
    """Return values by image and box, [B, N, ...]; those of boxes without area are 0 and have a gradient of 0.

    Args:
        values: of given rows; further ones get a gradient of 0 and are in no result, [R or more, ...].
        rows: indices of boxes, counted over all images, int64 [R].
        boxes: [B, N, 4].
    """
    num, flat = rows.shape[0], boxes.flatten(0, 1)
    is_box = has_area(flat[rows]).view(-1, *(1 for _ in values.shape[1:]))
    result = values.new_zeros(flat.shape[0], *values.shape[1:])
    result = result.index_put((rows,), torch.where(is_box, values[:num], 0))
    if values.shape[0] > num:
        result = result + 0 * values[num:].sum()
    return result.view(*boxes.shape[:2], *values.shape[1:])
