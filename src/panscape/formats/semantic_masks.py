"""One category a pixel, as most label PNGs have it; objects are the connected parts of each thing category."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from panscape.errors import InvalidAnnotationError
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

# Diagonal neighbours belong together: thin objects stay whole at low resolution.
_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def from_semantic_mask(numbers: NDArray[Any], labels: LabelSpace, *, min_area: int, void: int) -> PanopticMap:
    """Make a map of one category a pixel.

    Each stuff category is one segment. Of a thing category every part connected over edges or corners is an object. A
    part of fewer than ``min_area`` pixels is void: too small to be told from a slip of the brush, so it is neither
    learnt nor counted.

    Args:
        numbers: non-negative integers [H, W], source ids of ``labels``, or ``void``.
        labels: the categories.
        min_area: of an object, in pixels.
        void: the number of pixels without category.

    Returns:
        A map; stuff first, then the objects category by category.

    Raises:
        InvalidAnnotationError: a number is neither a category nor ``void``.
    """
    present = np.flatnonzero(np.bincount(numbers.ravel())).tolist()
    unknown = [number for number in present if number != void and number not in labels.id_of_source]
    if unknown:
        raise InvalidAnnotationError(
            f"expected numbers of label space {labels.name!r} ({', '.join(map(str, sorted(labels.id_of_source)))}; "
            f"void {void}), got {', '.join(map(str, unknown[:5]))}; give the label space and void of these labels"
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
    """Number the parts of ``mask`` in ``ids`` from ``last + 1`` on, and return how many they are."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    parts, num_parts = ndimage.label(mask[box], _NEIGHBOURS)
    is_object = np.bincount(parts.ravel(), minlength=num_parts + 1) >= min_area
    is_object[0] = False
    number = np.where(is_object, last + np.cumsum(is_object), 0).astype(np.int32)
    ids[box] += number[parts]  # zero there so far: a pixel has one category
    return int(is_object.sum())
