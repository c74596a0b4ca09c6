"""Synthetic street-like scenes for the benchmarks: stuff regions under ellipses of things, and matching outputs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.representations.regions import RegionRepresentation
from panscape.representations.regions.oracles import perfect_masks

SIZE = (1024, 2048)
NUM_CATEGORIES = 19
THINGS = tuple(range(11, 19))
STRIDE = 4


class DetectedMasks(NamedTuple):
    """Detections of one image: xyxy boxes in pixels, things from 0, scores and logits of the cells of masks."""

    boxes: Tensor
    thing: Tensor
    score: Tensor
    masks: Tensor


class Outputs(NamedTuple):
    """Outputs of a center-based network for one image, at stride 4; offsets in pixels of the image."""

    semantic_logits: Tensor
    center: Tensor
    offset: Tensor


def street_map(seed: int = 0, num_things: int = 45, size: tuple[int, int] = SIZE) -> PanopticMap:
    """Draw eleven regions of stuff and ellipses of things, about 23 % of the pixels with 45 of them."""
    g = torch.Generator().manual_seed(seed)
    height, width = size
    coarse = F.interpolate(torch.randn(1, 11, 5, 9, generator=g), size, mode="bicubic")[0]
    ids = coarse.argmax(0).int() + 1
    category = list(range(11))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    scale = height * (45 / max(num_things, 1)) ** 0.5
    for i in range(num_things):
        place, shape = torch.rand(2, generator=g), torch.rand(2, generator=g)
        cy, cx = float(place[0]) * height, float(place[1]) * width
        ry, rx = ((0.02 + 0.11 * shape**2) * scale).tolist()
        category.append(THINGS[i % len(THINGS)])
        ids[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1] = len(category)
    return PanopticMap(ids, torch.tensor(category)).compact()


def outputs_of(truth: PanopticMap, seed: int = 0, noise: float = 0.5) -> Outputs:
    """Return noisy outputs for the scene ``truth``: smooth logits, and offsets with errors of a pixel or two."""
    g = torch.Generator().manual_seed(seed)
    height, width = truth.size[0] // STRIDE, truth.size[1] // STRIDE
    small = truth.resize(height, width)
    is_thing = truth.category >= THINGS[0]
    logits = F.one_hot(small.semantic(void=0), NUM_CATEGORIES).permute(2, 0, 1).float() * 10
    logits = F.avg_pool2d(logits[None], 3, 1, 1)[0]
    logits += (
        noise
        * F.interpolate(
            torch.randn(1, NUM_CATEGORIES, height // 4, width // 4, generator=g), (height, width), mode="bilinear"
        )[0]
    )
    center, offset = torch.zeros(height, width), torch.zeros(2, height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for row in range(truth.num_segments):
        mask = small.ids == row + 1
        if is_thing[row] and mask.any():
            cy, cx = y[mask].float().mean(), x[mask].float().mean()
            # Shift the peak by a fraction of a pixel: exact symmetry gives plateaus, whose maximum depends on rounding.
            peak, down, right = torch.rand(3, generator=g).tolist()
            squared = (y - cy - down / 2) ** 2 + (x - cx - right / 2) ** 2
            center = torch.maximum(center, (0.5 + peak / 2) * torch.exp(-squared / (2 * 2.5**2)))
            offset[0][mask], offset[1][mask] = (cy - y[mask]) * STRIDE, (cx - x[mask]) * STRIDE
    return Outputs(logits, center, offset + torch.randn(offset.shape, generator=g))


def detections_of(truth: PanopticMap, num_cells: int, seed: int = 0) -> DetectedMasks:
    """Return noisy detections for the scene ``truth``: boxes with errors of a few percent, and frayed masks."""
    g = torch.Generator().manual_seed(seed)
    targets = RegionRepresentation().encode(truth, LabelSpace.load("cityscapes"), truth.size)
    found = perfect_masks(type(targets)(*(part[None] for part in targets)), num_cells)
    boxes, thing, masks = (found[name][0] for name in ("mask_boxes", "mask_category", "masks"))
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    limit = torch.tensor([truth.size[1], truth.size[0]] * 2)
    boxes = torch.minimum((boxes + 0.03 * sides * torch.randn(boxes.shape, generator=g)).clamp(min=0), limit)
    masks = F.avg_pool2d(masks.sign() * 4, 3, 1, 1) + torch.randn(masks.shape, generator=g)
    score = 0.5 + 0.5 * torch.rand(len(boxes), generator=g).sort(descending=True).values
    return DetectedMasks(boxes, thing, score, masks)
