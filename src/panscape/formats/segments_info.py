"""Id images with a list of segment descriptions (``segments_info``), the basis of most formats, to maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.panoptic import PanopticMap


class SegmentInfo(NamedTuple):
    """The description of one segment in a file.

    Attributes:
        number: its id in the id image.
        category: id in the label space.
        score: in 0..1; None without a score.
        is_crowd: whether it is a group annotation.
        area: in pixels, as stated in the file; None if not stated.
    """

    number: int
    category: int
    score: float | None = None
    is_crowd: bool = False
    area: int | None = None


def map_from_id_image(
    numbers: NDArray[Any], segments: Sequence[SegmentInfo], void: Collection[int] = (0,)
) -> tuple[PanopticMap, list[int]]:
    """Create a map from an id image.

    Args:
        numbers: integers [H, W] that fit int64.
        segments: with unique numbers; a segment may have no pixels.
        void: numbers of void; negative numbers are always void. A described number is never void.

    Returns:
        A map whose row ``i`` is ``segments[i]``, with scores if every segment has one; and the undescribed numbers that
        are not void, ascending. These are void in the map.
    """
    row_of = {segment.number: row for row, segment in enumerate(segments, start=1)}
    starts, unique, which = _runs(numbers)
    row = np.array([row_of.get(number, 0) for number in unique.tolist()], dtype=np.int32)
    ids = np.repeat(row[which], np.diff(starts, append=numbers.size)).reshape(numbers.shape)
    scores = [s.score for s in segments if s.score is not None]
    crowd = [s.is_crowd for s in segments]
    panoptic = PanopticMap(
        torch.from_numpy(ids),
        torch.tensor([s.category for s in segments], dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float32) if segments and len(scores) == len(segments) else None,
        torch.tensor(crowd, dtype=torch.bool) if any(crowd) else None,
    )
    left = unique[row == 0].tolist()
    return panoptic, [number for number in left if number >= 0 and number not in void]


def unique_ids(numbers: NDArray[Any]) -> list[int]:
    """Return the numbers that occur in ``numbers``, integers [H, W], ascending."""
    found: list[int] = _runs(numbers)[1].tolist()
    return found


def _runs(numbers: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    """Split into runs of equal numbers in row-major order; sorting runs is about 100 times cheaper than sorting pixels.

    Returns:
        The start of each run, the unique numbers, ascending, and the index of the number of each run among them.
    """
    flat = numbers.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size:
        starts = np.concatenate([[0], starts])
    unique, which = np.unique(flat[starts], return_inverse=True)
    return starts, unique, which
