"""Size ranges of objects for average precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.overlaps import require_categories
from panscape.panoptic import PanopticMap

LARGEST_AREA = 1e10
"""Upper end in pixels of ranges without a limit, as in pycocotools."""

COCO_SIZES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, LARGEST_AREA)}
)
"""Smallest and largest area of each size range in pixels, both inclusive, as in pycocotools."""

PERCENTILES = (0.0, 25.0, 50.0, 75.0, 99.0, 100.0)
"""Default limits of the size ranges of :func:`size_percentiles`."""


def object_areas(truth: PanopticMap, labels: LabelSpace) -> Tensor:
    """Return the areas of the true objects of an image, int64, in the order of their segments; crowds are excluded.

    Raises:
        InvalidArgumentError: the truth has a category that the label space lacks.
    """
    require_categories(labels, truth, truth)
    areas = truth.areas().cpu()
    is_thing = torch.tensor([category.is_thing for category in labels])[truth.category.cpu()]
    is_crowd = torch.zeros_like(is_thing) if truth.crowd is None else truth.crowd.cpu()
    return areas[is_thing & ~is_crowd & (areas > 0)]


def require_percentiles(percentiles: Sequence[float]) -> tuple[float, ...]:
    """Return percentiles as floats.

    Raises:
        InvalidArgumentError: they do not ascend from 0 to 100.
    """
    limits = tuple(float(p) for p in percentiles)
    if len(limits) < 2 or limits[0] != 0 or limits[-1] != 100 or any(a >= b for a, b in pairwise(limits)):
        raise InvalidArgumentError(f"expected percentiles that ascend from 0 to 100, got {tuple(percentiles)}")
    return limits


def size_percentiles(
    areas: Tensor | Iterable[Tensor], percentiles: Sequence[float] = PERCENTILES
) -> dict[str, tuple[float, float]]:
    """Divide the objects of a dataset into size ranges between percentiles of their areas.

    Source: Porzi et al., "Improving Panoptic Segmentation at All Scales" (CVPR 2021), Figure 5: five ranges of the
    validation objects of Mapillary Vistas, the largest above the 99th percentile. The paper does not state the other
    limits; those of :data:`PERCENTILES` are ours.

    Args:
        areas: areas of the objects in pixels, of the whole dataset or one tensor per image (see :func:`object_areas`).
        percentiles: ascending from 0 to 100; N percentiles give N - 1 ranges.

    Returns:
        By name ("0-25%"), the smallest and the largest area, both inclusive. Each area is in exactly one range; an area
        at a percentile is in the range below it. The first range starts at 0 and the last one has no limit. A range
        between two percentiles of equal area would be empty and is left out.

    Raises:
        InvalidArgumentError: the percentiles do not ascend from 0 to 100, or there is no object.
    """
    limits = require_percentiles(percentiles)
    every = areas if isinstance(areas, Tensor) else torch.cat([torch.zeros(0, dtype=torch.int64), *areas])
    if every.numel() == 0:
        raise InvalidArgumentError("expected the areas of at least one object, got none")
    inner = [math.floor(edge) for edge in np.percentile(every.cpu().numpy(), limits[1:-1])]
    lows, highs = [0, *(edge + 1 for edge in inner)], [*inner, LARGEST_AREA]
    names = [f"{a:g}-{b:g}%" for a, b in pairwise(limits)]
    return {name: (low, high) for name, low, high in zip(names, lows, highs, strict=True) if low <= high}
