"""Semantic masks, as in most label PNGs, to maps; objects are the connected components of each thing category."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from panscape.errors import InvalidAnnotationError, InvalidArgumentError, listed
from panscape.formats.segments_info import SegmentInfo, map_from_id_image, unique_ids
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap

# 8-connectivity: thin objects stay connected at low resolution.
_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_NO_VOID = -1  # occurs in no mask
_MANY = 8

USUAL_VOID = 255
"""The number of void in most masks."""

INTERPOLATED = (
    "most numbers fill no square of 3x3 pixels, as in masks that were saved as JPEG or resized with interpolation; "
    "make them again from the originals, as PNG and with nearest-neighbor resizing"
)
"""The reason for the numbers in a mask of which :func:`is_interpolated` is true."""


def void_number(labels: LabelSpace, void: int | None) -> int:
    """Return the number of void in masks of ``labels``.

    Args:
        labels: the categories.
        void: the number; -1 for none; by default 255, or none if that is a category.
    """
    if void is not None:
        return void
    return _NO_VOID if USUAL_VOID in labels.id_of_source else USUAL_VOID


def require_mask_options(labels: LabelSpace, min_area: int, void: int | None) -> None:
    """Check the options of :func:`from_semantic_mask`.

    Raises:
        InvalidArgumentError: ``min_area`` is below 1 pixel, or ``void`` is a category.
    """
    if min_area < 1:
        raise InvalidArgumentError(f"expected min_area of at least 1 pixel, got {min_area}")
    if void is not None and void in labels.id_of_source:
        raise InvalidArgumentError(
            f"expected a void value that is no category of {labels.name!r}, got void={void}, "
            f"which is {labels[labels.id_of_source[void]].name!r}"
        )


def is_interpolated(numbers: NDArray[Any]) -> bool:
    """Return whether most numbers of a mask are artefacts of interpolation or of JPEG: many, and all of them thin.

    Args:
        numbers: integers [H, W].
    """
    present = unique_ids(numbers)
    if len(present) <= _MANY:
        return False
    rows = (numbers[:, :-2] == numbers[:, 1:-1]) & (numbers[:, 1:-1] == numbers[:, 2:])
    middle = numbers[:, 1:-1]
    is_solid = rows[:-2] & rows[1:-1] & rows[2:] & (middle[:-2] == middle[1:-1]) & (middle[1:-1] == middle[2:])
    num_thin = len(present) - len(unique_ids(numbers[1:-1, 1:-1][is_solid]))
    return num_thin >= _MANY and 2 * num_thin > len(present)


def unknown_numbers(numbers: NDArray[Any], labels: LabelSpace, void: int) -> list[int]:
    """Return the numbers of a mask that are neither a category of ``labels`` nor ``void``, ascending."""
    return [number for number in unique_ids(numbers) if number != void and number not in labels.id_of_source]


def describe_unknown(numbers: NDArray[Any], labels: LabelSpace, void: int, unknown: list[int]) -> str:
    """Return the error about :func:`unknown_numbers` of a mask: the known ones, the area of the others, and the fix."""
    known = ", ".join(map(str, sorted(labels.id_of_source))) + (f"; void {void}" if void != _NO_VOID else "")
    remedy = "use their label space, and their void value (--data.void in training, --void in evaluation)"
    return (
        f"expected numbers of label space {labels.name!r} ({known}), got {listed(unknown)} in "
        f"{np.isin(numbers, unknown).sum()} of {numbers.size} pixels; "
        f"{INTERPOLATED if is_interpolated(numbers) else remedy}"
    )


def from_semantic_mask(numbers: NDArray[Any], labels: LabelSpace, *, min_area: int, void: int) -> PanopticMap:
    """Create a map from a semantic mask.

    Each stuff category is one segment. Each 8-connected component of a thing category is an object. Components of fewer
    than ``min_area`` pixels are void: they may be annotation noise, and are ignored in training and evaluation.

    Args:
        numbers: integers [H, W], source ids of ``labels``, or ``void``.
        labels: the categories.
        min_area: minimum area of an object in pixels.
        void: the value of pixels without category.

    Returns:
        A map of ``labels`` with stuff first, then the objects by category.

    Raises:
        InvalidAnnotationError: a number is neither a category nor ``void``.
    """
    unknown = unknown_numbers(numbers, labels, void)
    if unknown:
        raise InvalidAnnotationError(describe_unknown(numbers, labels, void, unknown))
    present = unique_ids(numbers)
    found = [(labels.id_of_source[number], number) for number in present if number != void]
    stuff = [SegmentInfo(number, c) for c, number in found if not labels[c].is_thing]
    ids = map_from_id_image(numbers, stuff)[0].ids.numpy()
    category = [segment.category for segment in stuff]
    for c, number in found:
        if labels[c].is_thing:
            num_objects = _add_objects(ids, numbers == number, len(category), min_area)
            category.extend([c] * num_objects)
    return PanopticMap(torch.from_numpy(ids), torch.tensor(category, dtype=torch.int64), labels=labels)


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
