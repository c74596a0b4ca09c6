"""Id images with a list of segment descriptions (``segments_info``), the basis of most formats, to maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.geometry import Size
from panscape.ops.runs import fill_runs, run_ends, run_extents
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


class IdRuns(NamedTuple):
    """An id image as its runs of equal numbers.

    Attributes:
        size: of the image.
        numbers: the numbers that occur, ascending, N integers.
        ends: of the runs, see :func:`panscape.ops.runs.run_ends`.
        which: int64 [R], the position of the number of each run in ``numbers``.
    """

    size: Size
    numbers: NDArray[Any]
    ends: NDArray[np.int64]
    which: NDArray[np.int64]

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> Self:
        """Split an id image into runs.

        Args:
            pixels: integers [H, W] that fit int64, or uint8 [H, W, 3], red + 256 green + 65536 blue.
        """
        ends = run_ends(pixels)
        values = pixels.reshape(-1, *pixels.shape[2:])[ends - 1]
        if pixels.ndim == 3:
            values = values.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        numbers, which = np.unique(values, return_inverse=True)
        return cls(Size(*pixels.shape[:2]), numbers, ends, which)

    def filled(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return an image with other numbers, int32 [H, W].

        Args:
            values: int32 [N], for each of ``numbers``.
        """
        return fill_runs(self.ends, values[self.which], self.size)

    def areas(self) -> NDArray[np.int64]:
        """Return the number of pixels of each of ``numbers``, int64 [N]."""
        return run_extents(self.ends, self.which, self.size.width, len(self.numbers))[0]


def map_from_id_image(
    numbers: NDArray[Any] | IdRuns, segments: Sequence[SegmentInfo], void: Collection[int] = (0,)
) -> tuple[PanopticMap, list[int]]:
    """Create a map from an id image.

    Args:
        numbers: integers [H, W] that fit int64, or their runs.
        segments: with unique numbers; a segment may have no pixels.
        void: numbers of void; negative numbers are always void. A described number is never void.

    Returns:
        A map whose row ``i`` is ``segments[i]``, with scores if every segment has one; and the undescribed numbers that
        are not void, ascending. These are void in the map.
    """
    row_of = {segment.number: row for row, segment in enumerate(segments, start=1)}
    runs = numbers if isinstance(numbers, IdRuns) else IdRuns.of(numbers)
    present = runs.numbers.tolist()
    row = np.array([row_of.get(number, 0) for number in present], dtype=np.int32)
    scores = [s.score for s in segments if s.score is not None]
    crowd = [s.is_crowd for s in segments]
    panoptic = PanopticMap(
        torch.from_numpy(runs.filled(row)),
        torch.tensor([s.category for s in segments], dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float32) if segments and len(scores) == len(segments) else None,
        torch.tensor(crowd, dtype=torch.bool) if any(crowd) else None,
    )
    return panoptic, [n for n in present if n not in row_of and n >= 0 and n not in void]


def unique_ids(numbers: NDArray[Any]) -> list[int]:
    """Return the numbers that occur in ``numbers``, integers of any shape, ascending."""
    found: list[int] = IdRuns.of(numbers.reshape(1, -1)).numbers.tolist()
    return found
