"""Resize centre outputs from the network's input size to the size of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import require_fits
from panscape.ops.interpolate import finite_values
from panscape.ops.interpolate_cpu import upsampled


def resize_outputs(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    inference_size: tuple[int, int],
    size: tuple[int, int],
    *,
    align_corners: bool,
    scale_offsets: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Upsample outputs to the inference size: the first of two steps of resizing them to the image's size.

    As in Panoptic-DeepLab's code, outputs are upsampled to the network's input, cropped to the part that was image, and
    then resized to the image's size (pixels as areas). Only the first step is done here; its result is small if the
    network's input is small. For the second step, the caller upsamples the result from ``inference_size`` to ``size``
    without aligned corners, as grouping does when given ``size`` as the padded size.

    Args:
        semantic_logits: float [..., C, h, w], one plane per category.
        center: float [..., h, w].
        offset: float [..., 2, h, w], (dy, dx) in pixels of the network's input.
        padded_size: height and width of the network's input.
        inference_size: height and width of the image in its top left corner.
        size: the image's own height and width.
        align_corners: how outputs are upsampled to the network's input.
        scale_offsets: scale offsets by the ratio of the image's size to the inference size.

    Returns:
        Logits, centre and offset, float32, with height and width of ``inference_size``; offsets in pixels of the
        image if they are scaled, else in pixels of the network's input.

    Raises:
        InvalidArgumentError: a size is empty, or the inference size exceeds the padded one.
    """
    require_fits(inference_size, padded_size)
    if min(size) < 1:
        raise InvalidArgumentError(f"expected an image of at least 1x1 pixels, got {size[0]}x{size[1]}")
    semantic, heat, shift = (
        upsampled(part, padded_size, inference_size, align_corners)
        for part in (finite_values(semantic_logits), finite_values(center), finite_values(offset, nan=0))
    )
    if scale_offsets:
        factor = [full / seen for full, seen in zip(size, inference_size, strict=True)]
        shift = shift * torch.tensor(factor, device=shift.device)[:, None, None]
    return semantic, heat, shift
