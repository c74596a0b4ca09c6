"""A number for every pixel and a description of every number, as most formats have it, to a map."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.panoptic import PanopticMap


class SegmentInfo(NamedTuple):
    """What a file says of one segment.

    Attributes:
        number: of its pixels.
        category: id in the label space.
        score: in 0..1; None if there is none.
        is_crowd: whether it stands for many objects.
        area: in pixels, as the file says; None if it says nothing.
    """

    number: int
    category: int
    score: float | None = None
    is_crowd: bool = False
    area: int | None = None


def map_from_id_image(
    numbers: NDArray[Any], segments: Sequence[SegmentInfo], void: Collection[int] = (0,)
) -> tuple[PanopticMap, list[int]]:
    """Make a map of numbered pixels.

    Args:
        numbers: integers [H, W] that fit int64.
        segments: each with a number of its own; a segment may be without pixels.
        void: numbers of no segment; negative ones are void in any case. A number that is described is none of them.

    Returns:
        A map whose row ``i`` is ``segments[i]``, with scores if every segment has one; and the numbers, ascending, that
        are neither void nor described: they are void in the map.
    """
    row_of = {segment.number: row for row, segment in enumerate(segments, start=1)}
    starts, different, which = _runs(numbers)
    row = np.array([row_of.get(number, 0) for number in different.tolist()], dtype=np.int32)
    ids = np.repeat(row[which], np.diff(starts, append=numbers.size)).reshape(numbers.shape)
    scores = [s.score for s in segments if s.score is not None]
    crowd = [s.is_crowd for s in segments]
    panoptic = PanopticMap(
        torch.from_numpy(ids),
        torch.tensor([s.category for s in segments], dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float32) if segments and len(scores) == len(segments) else None,
        torch.tensor(crowd, dtype=torch.bool) if any(crowd) else None,
    )
    left = different[row == 0].tolist()
    return panoptic, [number for number in left if number >= 0 and number not in void]


def unique_ids(numbers: NDArray[Any]) -> list[int]:
    """Return the numbers that occur in ``numbers``, integers [H, W], ascending."""
    found: list[int] = _runs(numbers)[1].tolist()
    return found


def _runs(numbers: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    """Take apart into runs of equal numbers, row after row: a hundred times fewer to sort or look up than pixels.

    Returns:
        Where each run begins, the numbers that occur, ascending, and for each run the place of its number among them.
    """
    flat = numbers.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size:
        starts = np.concatenate([[0], starts])
    different, which = np.unique(flat[starts], return_inverse=True)
    return starts, different, which
