"""The likeliest category of every pixel, from logits at a lower resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import check_within
from panscape.kernels.bilinear import cells, enlarge, finite
from panscape.kernels.bilinear_compiled import enlarged
from panscape.kernels.center_decoding import first_largest
from panscape.kernels.center_grouping_compiled import group


def likeliest_category(
    logits: Tensor, padded_size: tuple[int, int], size: tuple[int, int], *, align_corners: bool = False
) -> Tensor:
    """Enlarge logits bilinearly and return the first largest one's plane for every pixel.

    Implementations for processor and devices agree in every pixel. The enlarged logits never exist as a whole.

    Args:
        logits: float [C, h, w]; those that are not a number are the lowest.
        padded_size: height and width to which the planes are enlarged.
        size: height and width of the part in the top left corner that is computed.
        align_corners: as in :func:`panscape.kernels.bilinear.taps`; without, pixels are areas.

    Returns:
        Integers [size].
    """
    planes = logits.detach().float()
    if planes.device.type != "cpu":
        return first_largest(planes, lambda plane: enlarge(plane, padded_size, size, align_corners))
    rows = cells(planes.shape[1], padded_size[0], align_corners, size[0])
    columns = cells(planes.shape[2], padded_size[1], align_corners, size[1])
    # Grouping without centres leaves every pixel its category.
    num_categories, no_offset = len(planes), np.zeros((2, 0, 0), dtype=np.float32)
    nothing, no_points = np.zeros(num_categories, dtype=np.bool_), np.zeros((0, 2), dtype=np.int32)
    category, _, _ = group(planes.contiguous().numpy(), no_offset, rows, columns, nothing, no_points)
    return torch.from_numpy(category)


def likeliest_categories(
    logits: Tensor,
    padded_size: tuple[int, int],
    working_sizes: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[int, int]],
    *,
    align_corners: bool,
) -> list[Tensor]:
    """Return the likeliest category of every pixel of each image of a batch, at the image's own size.

    Where the network saw an image at another size, the logits are enlarged to the network's input, cut to what was
    image in it, and resized to the image, pixels being areas; then the largest is taken. So detectron2's
    ``sem_seg_postprocess`` does it for Panoptic-DeepLab.

    Args:
        logits: float [B, K, h, w].
        padded_size: height and width of the network's input.
        working_sizes: height and width of each image as it entered the network, before padding.
        sizes: height and width of each image itself.
        align_corners: how logits are enlarged to the network's input.

    Returns:
        Category ids, integers [H, W] for each image, on the device of the logits.

    Raises:
        InvalidArgumentError: there are not as many sizes as images, or one of them is impossible.
    """
    if not len(logits) == len(working_sizes) == len(sizes):
        raise InvalidArgumentError(
            f"expected one size and one working size for each of the {len(logits)} images, got {len(sizes)} and "
            f"{len(working_sizes)}"
        )
    found = []
    for planes, working_size, size in zip(logits, working_sizes, sizes, strict=True):
        check_within(working_size, padded_size)
        if tuple(working_size) == tuple(size):
            found.append(likeliest_category(planes, padded_size, size, align_corners=align_corners))
            continue
        if min(size) < 1:
            raise InvalidArgumentError(f"expected images of at least 1x1 pixels, got {size[0]}x{size[1]}")
        seen = enlarged(finite(planes), padded_size, working_size, align_corners)
        found.append(likeliest_category(seen, size, size))
    return found
