"""Outputs with the certainty of the ground truth, to measure how much each part of a network costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.representations.regions.encode import encode_regions
from panscape.representations.regions.losses import objects_of, sample_at_cells
from panscape.representations.regions.types import RegionTargets

SURE = 20.0
"""A logit whose probability rounds to 1."""


def targets_of_all_objects(truth: PanopticMap, labels: LabelSpace, device: torch.device) -> RegionTargets:
    """Return the targets of one image, a batch of one, without padding and with every object.

    Args:
        truth: ground truth, on any device.
        labels: label space.
        device: device of the targets.
    """
    targets = encode_regions(truth.to("cpu"), labels, truth.size, max(1, len(truth)))
    return RegionTargets(*(t.to(device)[None] for t in targets))


def perfect_masks(targets: RegionTargets, num_cells: int) -> dict[str, Any]:
    """Return the masks of all objects of one image, by the names of :class:`RegionOutputs`.

    Args:
        targets: a batch of one.
        num_cells: cells along each side of a mask.
    """
    (objects,) = objects_of(targets)
    segment = sample_at_cells(targets.segment[0], objects.box, num_cells)
    number = torch.arange(1, len(objects.box) + 1, device=segment.device)
    return {
        "mask_boxes": objects.box[None],
        "mask_category": objects.category[None] - 1,
        "mask_score": torch.ones_like(objects.box[None, :, 0]),
        "masks": torch.where(segment == number[:, None, None], SURE, -SURE)[None],
    }


def perfect_semantic(logits: Tensor, padded_size: tuple[int, int], known: Tensor, categories: Tensor) -> Tensor:
    """Return semantic logits of one image at its size, which are certain where the category is known.

    Args:
        logits: of a padded input, float [1, K, h, w].
        padded_size: height and width of the padded input.
        known: category of every pixel, negative for void, int64 [1, H, W].
        categories: category of each channel, int64 [K].
    """
    height, width = known.shape[1:]
    whole = F.interpolate(logits.float(), size=padded_size, mode="bilinear", align_corners=False)
    perfect = torch.where(known[:, None] == categories[:, None, None], SURE, -SURE)
    return torch.where(known[:, None] >= 0, perfect, whole[..., :height, :width])
