"""Outputs of centres brought from the size at which a network saw a picture to that of the picture itself."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import check_within
from panscape.kernels.bilinear import finite
from panscape.kernels.bilinear_compiled import enlarged


def outputs_for_picture(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    padded_size: tuple[int, int],
    working_size: tuple[int, int],
    size: tuple[int, int],
    *,
    align_corners: bool,
    scale_offsets: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the first of the two steps in which outputs come to a picture's size: to the size the network saw it at.

    As in Panoptic-DeepLab's code, outputs are enlarged to the network's input, cut to what was picture in it, and then
    resized to the picture, pixels being areas. Only the first step is done here, and what it gives is small where
    networks see pictures small. The second is done by whoever enlarges the result from ``working_size`` to ``size``
    with corners not aligned, as grouping does with ``size`` for the padded size.

    Args:
        semantic_logits: float [..., C, h, w], one plane a category.
        center: float [..., h, w].
        offset: float [..., 2, h, w], (dy, dx) in pixels of the network's input.
        padded_size: height and width of the network's input.
        working_size: height and width of the picture in its top left corner.
        size: the picture's own height and width.
        align_corners: how outputs are enlarged to the network's input.
        scale_offsets: whether offsets become as much longer as the picture is larger than what the network saw.

    Returns:
        Logits, centre and offset, float32, with height and width of ``working_size``; offsets in pixels of the picture
        if they are scaled, else in those of the network's input.

    Raises:
        InvalidArgumentError: a size is empty, or the working size exceeds the padded one.
    """
    check_within(working_size, padded_size)
    if min(size) < 1:
        raise InvalidArgumentError(f"expected a picture of at least 1x1 pixels, got {size[0]}x{size[1]}")
    semantic, heat, shift = (
        enlarged(part, padded_size, working_size, align_corners)
        for part in (finite(semantic_logits), finite(center), finite(offset, nan=0))
    )
    if scale_offsets:
        factor = [full / seen for full, seen in zip(size, working_size, strict=True)]
        shift = shift * torch.tensor(factor, device=shift.device)[:, None, None]
    return semantic, heat, shift
