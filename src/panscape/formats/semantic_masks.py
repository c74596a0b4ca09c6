"""Semantic masks, as in most label PNGs, to maps; objects are the connected components of each thing category."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from panscape.errors import InvalidAnnotationError
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

# 8-connectivity: thin objects stay connected at low resolution.
_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def from_semantic_mask(numbers: NDArray[Any], labels: LabelSpace, *, min_area: int, void: int) -> PanopticMap:
    """Create a map from a semantic mask.

    Each stuff category is one segment. Each 8-connected component of a thing category is an object. Components of fewer
    than ``min_area`` pixels are void: they may be annotation noise, and are ignored in training and evaluation.

    Args:
        numbers: non-negative integers [H, W], source ids of ``labels``, or ``void``.
        labels: the categories.
        min_area: minimum area of an object in pixels.
        void: the value of pixels without category.

    Returns:
        A map with stuff first, then the objects by category.

    Raises:
        InvalidAnnotationError: a number is neither a category nor ``void``.
    """
    present = np.flatnonzero(np.bincount(numbers.ravel())).tolist()
    unknown = [number for number in present if number != void and number not in labels.id_of_source]
    if unknown:
        raise InvalidAnnotationError(
            f"expected numbers of label space {labels.name!r} ({', '.join(map(str, sorted(labels.id_of_source)))}; "
            f"void {void}), got {', '.join(map(str, unknown[:5]))}; use their label space, and their void "
            f"value (--data.void in training)"
        )
    found = [(labels.id_of_source[number], number) for number in present if number != void]
    category = [c for c, _ in found if not labels[c].is_thing]
    table = np.zeros(max(present, default=0) + 1, np.int32)
    for row, c in enumerate(category, start=1):
        table[labels[c].source_id] = row
    ids = table[numbers]
    for c, number in found:
        if labels[c].is_thing:
            num_objects = _add_objects(ids, numbers == number, len(category), min_area)
            category.extend([c] * num_objects)
    return PanopticMap(torch.from_numpy(ids), torch.tensor(category, dtype=torch.int64))


def _add_objects(ids: NDArray[np.int32], mask: NDArray[np.bool_], last: int, min_area: int) -> int:
    """Number the components of ``mask`` in ``ids`` from ``last + 1`` on, and return their number."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    parts, num_parts = ndimage.label(mask[box], _NEIGHBOURS)
    is_object = np.bincount(parts.ravel(), minlength=num_parts + 1) >= min_area
    is_object[0] = False
    number = np.where(is_object, last + np.cumsum(is_object), 0).astype(np.int32)
    ids[box] += number[parts]  # zero there so far, as a pixel has one category
    return int(is_object.sum())
