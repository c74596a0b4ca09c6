"""Resize centre outputs from the network's input size to the size of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import finite_values
from panscape.ops.interpolate_cpu import upsampled


def resize_outputs(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    geometry: ImageGeometry,
    *,
    align_corners: bool,
    scale_offsets: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Upsample outputs to the inference size: the first of two steps of resizing them to the image's size.

    As in Panoptic-DeepLab's code, outputs are upsampled to the network's input, cropped to the part that was image, and
    then resized to the image's size (pixels as areas). Only the first step is done here; its result is small if the
    network's input is small. For the second step, the caller upsamples the result from the inference size to the
    image's without aligned corners, as decoding does with ``ImageGeometry.of(size)``.

    Args:
        semantic_logits: float [..., C, h, w], one plane per category.
        center: float [..., h, w].
        offset: float [..., 2, h, w], (dy, dx) in pixels of the network's input.
        geometry: sizes of the image.
        align_corners: how outputs are upsampled to the network's input.
        scale_offsets: scale offsets by the ratio of the image's size to the inference size.

    Returns:
        Logits, centre and offset, float32, with height and width of ``inference_size``; offsets in pixels of the
        image if they are scaled, else in pixels of the network's input.
    """
    semantic, heat, shift = (
        upsampled(part, geometry.padded_size, geometry.inference_size, align_corners)
        for part in (finite_values(semantic_logits), finite_values(center), finite_values(offset, nan=0))
    )
    if scale_offsets:
        factor = [full / seen for full, seen in zip(geometry.size, geometry.inference_size, strict=True)]
        shift = shift * torch.tensor(factor, device=shift.device)[:, None, None]
    return semantic, heat, shift
