"""`MapArrays`: a panoptic map as arrays, for what runs on the CPU, with and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.ops.runs import run_ends, run_extents


@dataclass(frozen=True, slots=True, eq=False)
class MapArrays:
    """The arrays of a :class:`~panscape.panoptic.PanopticMap`, which checks them; here they are not checked.

    Compiled code makes, draws and writes maps in this form. It needs no torch, which takes seconds to import.

    Attributes:
        ids: int32 [H, W], values in 0..S; 0 is void.
        category: int64 [S].
        score: float32 [S] in 0..1, or None.
        crowd: bool [S], or None.
        labels: label space of the categories, or None.
        provenance: see :class:`~panscape.panoptic.PanopticMap`.
    """

    ids: NDArray[np.int32]
    category: NDArray[np.int64]
    score: NDArray[np.float32] | None = None
    crowd: NDArray[np.bool_] | None = None
    labels: LabelSpace | None = None
    provenance: Mapping[str, Any] | None = None

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return Size(*self.ids.shape)

    @property
    def num_segments(self) -> int:
        """Number of segments, including those without pixels."""
        return len(self.category)

    def extents(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return area and box of every segment: int64 [S], and int64 [S, 4], xyxy, half-open; zeros if it is empty."""
        ends = run_ends(self.ids)
        areas, boxes = run_extents(ends, self.ids.reshape(-1)[ends - 1], self.size.width, self.num_segments + 1)
        return areas[1:], boxes[1:]

    def resize(self, height: int, width: int) -> MapArrays:
        """Return the map resized by nearest-neighbor sampling, as :meth:`~panscape.panoptic.PanopticMap.resize`."""
        rows, columns = (np.arange(new) * old // new for old, new in zip(self.size, (height, width), strict=True))
        return replace(self, ids=self.ids[:, columns][rows])

    def compact(self) -> MapArrays:
        """Return the map without segments that have no pixels."""
        present = self.extents()[0] > 0
        return self if present.all() else self.select(present)

    def select(self, keep: NDArray[np.bool_]) -> MapArrays:
        """Return the map with only the selected segments, bool [S]; the pixels of the others become void."""
        table = np.zeros(self.num_segments + 1, np.int32)
        table[1:][keep] = np.arange(1, np.count_nonzero(keep) + 1)
        return replace(
            self,
            ids=table[self.ids],
            category=self.category[keep],
            score=None if self.score is None else self.score[keep],
            crowd=None if self.crowd is None else self.crowd[keep],
        )
