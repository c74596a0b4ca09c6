"""Outputs of one image as plain tensors, of each kind, and the calls that make maps of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from center_scenes import center_scene
from torch import Tensor
from torch.nn import functional as F

from panscape import Category, LabelSpace, PanopticMap
from panscape.geometry import ImageGeometry
from panscape.postprocess import map_from_centers, map_from_dense_boxes, map_from_detections, map_from_queries

SIX = LabelSpace("six", tuple(Category(f"c{i}", i in (2, 3, 5), 10 * i, (i, 0, 0)) for i in range(6)))
SIZE, SEEN, PADDED = (120, 190), (90, 141), (96, 144)
SIZES = {"inference_size": SEEN, "padded_size": PADDED}
GEOMETRY = ImageGeometry.of(SIZE, SEEN, PADDED)


def queries() -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    masks = F.interpolate(8 * torch.randn(1, 9, 4, 6, generator=g), (24, 36), mode="bicubic")[0]
    return 5 * torch.randn(9, 7, generator=g), masks


def centers() -> tuple[Tensor, ...]:
    logits, center, offset = center_scene(9, 0)
    return logits, center[None], offset


def detections() -> tuple[Tensor, ...]:
    """Masks, category, score, semantic logits, boxes."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(8, 2, generator=g) * 80 - 10
    boxes = torch.cat([corner, corner + 10 + 60 * torch.rand(8, 2, generator=g)], dim=1)
    category = torch.tensor(SIX.thing_ids)[torch.randint(3, (8,), generator=g)]
    masks = 4 * torch.randn(8, 14, 14, generator=g) + 2
    return masks, category, torch.rand(8, generator=g), centers()[0], boxes


def dense_boxes() -> tuple[Tensor, ...]:
    """Semantic logits at stride 8, box categories, boxes and center-ness of two levels, levelness."""
    g = torch.Generator().manual_seed(0)
    num = 12 * 18 + 6 * 9
    semantic = F.interpolate(6 * torch.randn(1, 6, 4, 6, generator=g), (12, 18), mode="bilinear")[0]
    levelness = torch.randn(3, 24, 36, generator=g)
    return semantic, torch.randn(3, num, generator=g) + 1, 40 * torch.rand(4, num, generator=g), torch.randn(
        num, generator=g
    ), levelness  # fmt: skip


QUERY_OPTIONS = {"score_threshold": 0.3, "overlap_threshold": 0.05}


def of_queries(parts: Any, **options: Any) -> PanopticMap:
    return map_from_queries(*parts, SIZE, rule="eomt", **SIZES, **QUERY_OPTIONS, **options)


def of_centers(parts: Any, **options: Any) -> PanopticMap:
    return map_from_centers(*parts, SIZE, stuff_area=30, **SIZES, **options)


def of_detections(parts: Any, **options: Any) -> PanopticMap:
    masks, category, score, semantic, boxes = parts
    options = {"stuff_area": 30, "min_score": 0.2, **options}
    return map_from_detections(masks, category, score, semantic, SIZE, boxes=boxes, **SIZES, **options)


def of_dense_boxes(parts: Any, **options: Any) -> PanopticMap:
    options = {"stuff_area": 30, "min_score": 0.1, **options}
    return map_from_dense_boxes(*parts[:4], SIZE, levelness=parts[4], **SIZES, **options)


KINDS: dict[str, tuple[Callable[..., PanopticMap], Callable[[], tuple[Tensor, ...]]]] = {
    "queries": (of_queries, queries),
    "centers": (of_centers, centers),
    "detections": (of_detections, detections),
    "dense boxes": (of_dense_boxes, dense_boxes),
}
