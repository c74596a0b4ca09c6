"""Resize centre outputs from the network's input size to the size of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import finite_values, upsampled
from panscape.representations.centers.decode_config import CenterDecoding
from panscape.representations.centers.postprocess_cpu import resize_outputs_cpu


def resize_outputs(
    semantic_logits: Tensor, center: Tensor, offset: Tensor, geometry: ImageGeometry, decoding: CenterDecoding
) -> tuple[Tensor, Tensor, Tensor]:
    """Upsample outputs to the inference size: the first of two steps of resizing them to the image's size.

    As in Panoptic-DeepLab's code, outputs are upsampled to the network's input, cropped to the part that was image, and
    then resized to the image's size (pixels as areas). Only the first step is done here; its result is small if the
    network's input is small. For the second step, the caller upsamples the result from the inference size to the
    image's, as decoding does with :meth:`CenterDecoding.for_resized_outputs` and ``ImageGeometry.of(size)``.

    Args:
        semantic_logits: float [..., C, h, w], one plane per category.
        center: float [..., h, w].
        offset: float [..., 2, h, w], (dy, dx) in pixels of the network's input.
        geometry: sizes of the image.
        decoding: says how outputs are upsampled to the network's input, and whether offsets are scaled by the ratio of
            the image's size to the inference size.

    Returns:
        Logits, centre and offset, float32, with height and width of ``inference_size``; offsets in pixels of the
        image if they are scaled, else in pixels of the network's input.
    """
    if semantic_logits.device.type != "cpu":
        return resize_outputs_batched(semantic_logits, center, offset, geometry, decoding)
    logits, heat, shift = (part.detach().float().numpy() for part in (semantic_logits, center, offset))
    resized = resize_outputs_cpu(logits, heat, shift, geometry, decoding)
    return torch.from_numpy(resized[0]), torch.from_numpy(resized[1]), torch.from_numpy(resized[2])


def resize_outputs_batched(
    semantic_logits: Tensor, center: Tensor, offset: Tensor, geometry: ImageGeometry, decoding: CenterDecoding
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same on any device; the results of both are equal bit for bit."""
    semantic, heat, shift = (
        upsampled(part, geometry.padded_size, geometry.inference_size, decoding.align_corners)
        for part in (finite_values(semantic_logits), finite_values(center), finite_values(offset, nan=0))
    )
    if decoding.scales_outputs:
        shift = shift * torch.tensor(geometry.scale, device=shift.device)[:, None, None]
    return semantic, heat, shift
