"""Sizes of objects: the ranges in which average precision is reported."""

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
"""Pixels; the upper end of ranges without one, as in pycocotools."""

COCO_SIZES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, LARGEST_AREA)}
)
"""Least and largest area of each class of objects in pixels, both included, as in pycocotools."""

PERCENTILES = (0.0, 25.0, 50.0, 75.0, 99.0, 100.0)
"""Between which :func:`size_percentiles` makes a class by default."""


def object_areas(truth: PanopticMap, labels: LabelSpace) -> Tensor:
    """Return the areas of a truth's objects, int64, in the order of their segments; crowds are no objects.

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
    """Divide the objects of a set into classes by size, each between two percentiles of their areas.

    So do Porzi et al. in Figure 5 of "Improving Panoptic Segmentation at All Scales" (CVPR 2021): five classes of
    Mapillary Vistas' validation objects, the largest being those above the 99th percentile. The other limits are not in
    its text; those of :data:`PERCENTILES` are ours.

    Args:
        areas: pixels of each object: of the whole set, or one tensor an image (see :func:`object_areas`).
        percentiles: ascending from 0 to 100; one class less than there are numbers.

    Returns:
        By name ("0-25%"), the least and the largest area, both included. Each area is in one class: at a percentile, in
        the class below. The first class begins at 0 and the last has no end. Between two percentiles of equal area no
        object can be: that class is left out.

    Raises:
        InvalidArgumentError: percentiles that do not ascend from 0 to 100, or no object.
    """
    limits = require_percentiles(percentiles)
    every = areas if isinstance(areas, Tensor) else torch.cat([torch.zeros(0, dtype=torch.int64), *areas])
    if every.numel() == 0:
        raise InvalidArgumentError("expected the areas of at least one object, got none; percentiles need objects")
    inner = [math.floor(edge) for edge in np.percentile(every.cpu().numpy(), limits[1:-1])]
    lows, highs = [0, *(edge + 1 for edge in inner)], [*inner, LARGEST_AREA]
    names = [f"{a:g}-{b:g}%" for a, b in pairwise(limits)]
    return {name: (low, high) for name, low, high in zip(names, lows, highs, strict=True) if low <= high}
