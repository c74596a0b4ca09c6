"""Paste masks of a fixed number of cells, one for each box, into an image: the masks of Mask R-CNN at image size.

He et al., "Mask R-CNN", ICCV 2017, Section 3.1: a mask of ``M x M`` cells covers its box. A pixel's probability is
interpolated bilinearly at its centre between the centres of the cells; outside of the box there are cells of
probability 0. The rule is that of detectron2 and seamseg; torchvision enlarges boxes to whole pixels instead.

Two implementations agree in every pixel: :func:`paste_masks_reference` is the definition and runs on any device, a
compiled kernel is used on the CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops.boxes import has_area
from panscape.ops.cropped_masks import CroppedMasks
from panscape.ops.jit import jit

Floats = NDArray[np.float32]


def paste_masks(probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> CroppedMasks:
    """Return the masks at image size, with the fastest implementation for their device.

    Args:
        probs: probability of each cell, float [P, M, M].
        boxes: float [P, 4], xyxy in pixels; may exceed the image. A box without area, or one that is not finite, is an
            empty mask.
        size: height and width of the image.
        threshold: a pixel belongs to the mask from this probability on, at least 0.5: then no pixel outside of the box
            does.

    Raises:
        InvalidArgumentError: the arguments contradict each other, or the threshold is below 0.5.
    """
    windows = _windows(probs, boxes, size, threshold)
    if boxes.device.type != "cpu":
        return paste_masks_reference(probs, boxes, size, threshold)
    sides = (windows[:, 2:] - windows[:, :2]).long()
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), sides.prod(1).cumsum(0)])
    pixels = np.empty(int(starts[-1]), dtype=np.bool_)
    _paste(
        probs.detach().float().contiguous().numpy(),
        boxes.detach().float().contiguous().numpy(),
        windows.numpy(),
        starts.numpy(),
        np.float32(threshold),
        pixels,
    )
    return CroppedMasks(windows, torch.from_numpy(pixels), starts)


def paste_masks_reference(probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> CroppedMasks:
    """Plain torch reference of :func:`paste_masks`, on any device: the definition, one mask at a time."""
    windows = _windows(probs, boxes, size, threshold)
    crops = []
    for prob, box, (left, top, right, bottom) in zip(
        probs.detach().float(), boxes.float(), windows.tolist(), strict=True
    ):
        columns, rows = (
            _cells(torch.arange(start, stop, device=box.device), box[axis], box[axis + 2], len(prob))
            for axis, start, stop in ((0, left, right), (1, top, bottom))
        )
        padded = torch.nn.functional.pad(prob, (1, 1, 1, 1))
        low, near, far = columns
        lines = near * padded[:, low] + far * padded[:, low + 1]  # [M + 2, width]
        low, near, far = rows
        crops.append(near[:, None] * lines[low] + far[:, None] * lines[low + 1] >= threshold)
    return CroppedMasks.from_crops(crops, windows)


def _windows(probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Return the whole pixels that each box touches, inside the image, int32 [P, 4]."""
    if probs.ndim != 3 or probs.shape[1] != probs.shape[2] or list(boxes.shape) != [len(probs), 4]:
        raise InvalidArgumentError(
            f"expected masks [P, M, M] and boxes [P, 4], got {list(probs.shape)} and {list(boxes.shape)}"
        )
    if not 0.5 <= threshold <= 1:
        raise InvalidArgumentError(f"expected a threshold in 0.5..1, got {threshold:g}")
    boxes = boxes.detach().float()
    is_box = boxes.isfinite().all(1) & has_area(boxes)
    height, width = size
    limit = boxes.new_tensor([width, height, width, height])
    windows = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1)
    windows = torch.minimum(torch.where(is_box[:, None], windows, 0.0).clamp(min=0), limit)
    return windows.to(torch.int32)


def _cells(pixels: Tensor, start: Tensor, stop: Tensor, num: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the padded cell before the centre of each pixel, and the weights of this cell and of the next one."""
    place = (pixels.float() + 0.5 - start) / (stop - start) * num + 0.5  # cell centres are at 1, 2, ..., num
    low = place.floor().clamp(0, num)
    far = (place - low).clamp(0, 1)
    return low.long(), 1 - far, far


@jit
def _paste(
    probs: Floats,
    boxes: Floats,
    windows: NDArray[np.int32],
    starts: NDArray[np.int64],
    threshold: np.float32,
    pixels: NDArray[np.bool_],
) -> None:
    num = probs.shape[1]
    one, half = np.float32(1), np.float32(0.5)
    for p in range(len(boxes)):
        left, top, right, bottom = windows[p]
        width = right - left
        if width <= 0 or bottom <= top:
            continue
        lines = np.zeros((num + 2, width), dtype=np.float32)
        x0, y0, x1, y1 = boxes[p]
        for x in range(width):
            place = (np.float32(left + x) + half - x0) / (x1 - x0) * np.float32(num) + half
            low = min(max(math.floor(place), 0), num)
            far = min(max(place - np.float32(low), np.float32(0)), one)
            near = one - far
            for r in range(num):
                before = probs[p, r, low - 1] if low > 0 else np.float32(0)
                after = probs[p, r, low] if low < num else np.float32(0)
                lines[r + 1, x] = near * before + far * after
        for y in range(bottom - top):
            place = (np.float32(top + y) + half - y0) / (y1 - y0) * np.float32(num) + half
            low = min(max(math.floor(place), 0), num)
            far = min(max(place - np.float32(low), np.float32(0)), one)
            near = one - far
            above, below = lines[low], lines[low + 1]
            row = pixels[starts[p] + y * width : starts[p] + (y + 1) * width]
            for x in range(width):
                row[x] = near * above[x] + far * below[x] >= threshold
