"""Argmax over bilinearly upsampled logits: the most probable category of every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.ops.argmax_cpu import fill_argmax
from panscape.ops.interpolate import finite_values, upsample, upsampled
from panscape.ops.source_weights import cell_table


def upsampled_argmax(
    logits: Tensor, padded_size: tuple[int, int], size: tuple[int, int], *, align_corners: bool = False
) -> Tensor:
    """Upsample logits bilinearly and return the argmax over planes for every pixel; ties go to the first plane.

    The CPU and device implementations agree in every pixel. The upsampled logits are never materialised as a whole.

    Args:
        logits: float [C, h, w]; NaN counts as the lowest value.
        padded_size: height and width to which the planes are upsampled.
        size: height and width of the top left part that is computed.
        align_corners: see :func:`panscape.ops.interpolate.source_weights`; if False, pixels are areas.

    Returns:
        Integers [size].
    """
    planes = logits.detach().float()
    if planes.device.type != "cpu":
        return argmax_over_planes(planes, lambda plane: upsample(plane, padded_size, size, align_corners))
    rows = cell_table(planes.shape[1], padded_size[0], align_corners, size[0])
    columns = cell_table(planes.shape[2], padded_size[1], align_corners, size[1])
    category = np.empty((size[0], size[1]), dtype=np.int32)
    fill_argmax(planes.contiguous().numpy(), rows, columns, category)
    return torch.from_numpy(category)


def argmax_at_image_size(logits: Tensor, geometries: Sequence[ImageGeometry], *, align_corners: bool) -> list[Tensor]:
    """Return the argmax category of every pixel of each image of a batch, at the image's own size.

    If an image entered the network at another size, the logits are upsampled to the network's input, cropped to the
    part that was image, and resized to the image's size (pixels as areas); the argmax comes last. This is what
    detectron2's ``sem_seg_postprocess`` does for Panoptic-DeepLab.

    Args:
        logits: float [B, K, h, w].
        geometries: sizes of each image.
        align_corners: how logits are upsampled to the network's input.

    Returns:
        Category ids, integers [H, W] for each image, on the device of the logits.

    Raises:
        InvalidArgumentError: the number of geometries differs from the number of images.
    """
    if len(logits) != len(geometries):
        raise InvalidArgumentError(f"expected one size for each of the {len(logits)} images, got {len(geometries)}")
    found = []
    for planes, geometry in zip(logits, geometries, strict=True):
        size, inference_size, padded_size = geometry.size, geometry.inference_size, geometry.padded_size
        if geometry.is_resized:
            seen = upsampled(finite_values(planes), padded_size, inference_size, align_corners)
            found.append(upsampled_argmax(seen, size, size))
        else:
            found.append(upsampled_argmax(planes, padded_size, size, align_corners=align_corners))
    return found


def argmax_over_planes(logits: Tensor, whole: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the category of every pixel, int64; upsamples plane by plane, as together they take over 160 MB."""
    best = whole(finite_values(logits[0]))
    semantic = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
    for c in range(1, logits.shape[0]):
        value = whole(finite_values(logits[c]))
        semantic.masked_fill_(value > best, c)
        best = torch.maximum(best, value)
    return semantic
