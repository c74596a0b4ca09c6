"""Checks and the centre criterion that the implementations of centre decoding in torch share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.representations.centers.decode_config import CenterDecoding


def is_center(heat: Tensor, decoding: CenterDecoding) -> Tensor:
    """Return which pixels of heatmaps [..., H, W] are centres."""
    height, width = heat.shape[-2:]
    kernel = decoding.nms_kernel
    kept = torch.where(heat > decoding.threshold, heat, -1.0)
    # max_pool2d pads with minus infinity.
    highest = F.max_pool2d(kept.reshape(-1, 1, height, width), kernel, stride=1, padding=kernel // 2)
    center = (kept == highest.reshape(heat.shape)) & (kept > 0)
    if not decoding.join_peaks:
        return center
    # Two centres in each other's windows are equally high. float64 represents the pixel counts of any image exactly.
    place = -torch.arange(height * width, device=heat.device, dtype=torch.float64).reshape(height, width)
    places = torch.where(center, place, -torch.inf).reshape(-1, 1, height, width)
    return center & (place == F.max_pool2d(places, kernel, stride=1, padding=kernel // 2).reshape(heat.shape))


def rounded_root(squared: Tensor) -> Tensor:
    """Return the correctly rounded float32 square root; torch's own on CPUs is off by a bit for every fifth value."""
    return squared.double().sqrt().float() if squared.device.type == "cpu" else squared.sqrt()


def thing_table(thing_ids: Collection[int], num_categories: int, device: torch.device) -> Tensor:
    """Return which categories are things, bool [C]."""
    table = [c in thing_ids for c in range(num_categories)]
    return torch.tensor(table, dtype=torch.bool, device=device)


def check_outputs(
    semantic_logits: Tensor,
    center: Tensor,
    offset: Tensor,
    geometries: Sequence[ImageGeometry],
    thing_ids: Collection[int],
) -> None:
    """Check that the shapes of batched outputs, geometries and thing ids match each other."""
    if semantic_logits.ndim != 4 or 0 in semantic_logits.shape:
        shape = list(semantic_logits.shape)
        raise InvalidArgumentError(f"expected logits as [B, C, h, w], one plane per category, got {shape}")
    batch, num_categories, height, width = semantic_logits.shape
    for name, part, expected in (
        ("center", center, [batch, height, width]),
        ("offset", offset, [batch, 2, height, width]),
    ):
        if list(part.shape) != expected:
            raise InvalidArgumentError(
                f"expected {name} as {expected} to go with logits {list(semantic_logits.shape)}, got {list(part.shape)}"
            )
    if len(geometries) != batch:
        raise InvalidArgumentError(f"expected one size for each of the {batch} images, got {len(geometries)}")
    padded_sizes = {tuple(geometry.padded_size) for geometry in geometries}
    if len(padded_sizes) > 1:
        raise InvalidArgumentError(f"expected one padded size for the whole batch, got {sorted(padded_sizes)}")
    if any(not 0 <= c < num_categories for c in thing_ids):
        raise InvalidArgumentError(f"expected things among the {num_categories} categories, got {sorted(thing_ids)}")
