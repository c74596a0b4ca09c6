"""How a `PanopticMap` is cropped, padded, resized, flipped, turned and pasted; each method returns a new map."""

# mypy: disable-error-code="misc"
# (the only subclass is PanopticMap, so that `self` is one)

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from panscape.errors import InvalidMapError
from panscape.ops.boxes import cut_off_sides, touching_sides

if TYPE_CHECKING:
    from panscape.panoptic import PanopticMap


class MapTransforms:
    """The methods of :class:`~panscape.panoptic.PanopticMap` that change its pixels' places."""

    __slots__ = ()

    def crop(self: PanopticMap, top: int, left: int, height: int, width: int) -> PanopticMap:
        """Return the window of ``height`` x ``width`` pixels whose first pixel is (``top``, ``left``).

        Raises:
            InvalidMapError: the window exceeds the map.
        """
        if min(top, left) < 0 or min(height, width) < 1 or top + height > self.size[0] or left + width > self.size[1]:
            raise InvalidMapError(
                f"expected a window inside {self.size[0]}x{self.size[1]}, "
                f"got rows {top}..{top + height}, columns {left}..{left + width}"
            )
        valid = self.valid
        if valid is not None:
            x = [min(max(edge - left, 0), width) for edge in valid[0::2]]
            y = [min(max(edge - top, 0), height) for edge in valid[1::2]]
            valid = (x[0], y[0], x[1], y[1])
        window = replace(self, ids=self.ids[top : top + height, left : left + width].contiguous(), valid=valid)
        if self.cut_off is None:
            return window
        boxes, visible = self.boxes(), window.boxes()
        cut_off = cut_off_sides(boxes - boxes.new_tensor([left, top, left, top]), visible, window.size)
        # A side of the map itself stays as it was.
        inside = torch.tensor([left > 0, top > 0, left + width < self.size.width, top + height < self.size.height])
        before = self.cut_off & ~inside.to(self.cut_off.device) & touching_sides(visible, window.size)
        return replace(window, cut_off=cut_off | before)

    def pad(self: PanopticMap, height: int, width: int) -> PanopticMap:
        """Return the map extended to ``height`` x ``width`` with void on the right and at the bottom.

        Raises:
            InvalidMapError: the new size is smaller than the map.
        """
        rows, columns = height - self.size[0], width - self.size[1]
        if rows < 0 or columns < 0:
            raise InvalidMapError(f"expected a size of at least {self.size[0]}x{self.size[1]}, got {height}x{width}")
        valid = self.valid or (0, 0, self.size.width, self.size.height)
        return replace(self, ids=torch.nn.functional.pad(self.ids, (0, columns, 0, rows)), valid=valid)

    def resize(self: PanopticMap, height: int, width: int) -> PanopticMap:
        """Return the map resized by nearest-neighbor sampling: output row i is input row floor(i * H / height)."""
        if min(height, width) < 1:
            raise InvalidMapError(f"expected a size of at least 1x1, got {height}x{width}")
        rows = torch.arange(height, device=self.ids.device) * self.size[0] // height
        columns = torch.arange(width, device=self.ids.device) * self.size[1] // width
        return self.take(rows, columns)

    def take(self: PanopticMap, rows: Tensor, columns: Tensor) -> PanopticMap:
        """Return the map resized to these of its rows and columns, int64 [h] and [w], ascending."""
        valid = self.valid
        if valid is not None:
            left, right = torch.searchsorted(columns, columns.new_tensor(valid[0::2])).tolist()
            top, bottom = torch.searchsorted(rows, rows.new_tensor(valid[1::2])).tolist()
            valid = (left, top, right, bottom)
        return replace(self, ids=self.ids[rows[:, None], columns], valid=valid)

    def flip(self: PanopticMap) -> PanopticMap:
        """Return the horizontally flipped map."""
        cut_off = None if self.cut_off is None else self.cut_off[:, [2, 1, 0, 3]]
        valid = self.valid
        if valid is not None:
            left, top, right, bottom = valid
            valid = (self.size.width - right, top, self.size.width - left, bottom)
        return replace(self, ids=self.ids.flip(1), cut_off=cut_off, valid=valid)

    def rot90(self: PanopticMap, turns: int) -> PanopticMap:
        """Return the map rotated counter-clockwise by ``turns`` right angles."""
        # The left side of the result was the top; a quarter turn moves each side by one place.
        cut_off = None if self.cut_off is None else self.cut_off.roll(-turns, dims=1)
        valid, (height, width) = self.valid, self.size
        for _ in range(turns % 4 if valid else 0):
            left, top, right, bottom = valid
            valid = (top, width - right, bottom, width - left)
            height, width = width, height
        return replace(self, ids=self.ids.rot90(turns, (0, 1)).contiguous(), cut_off=cut_off, valid=valid)

    def paste(self: PanopticMap, other: PanopticMap, top: int, left: int) -> PanopticMap:
        """Return the map with ``other`` pasted on top; void pixels of ``other`` are transparent.

        The result has scores, and records what was cut off, only if both maps do, since those of the other are
        unknown. It has crowds if either map has. Its valid part is that of this map. It has a provenance if both have
        the same.

        Args:
            other: the map on top; it is cropped if it exceeds this map.
            top: row of this map for the first row of ``other``.
            left: column of this map for the first column of ``other``.

        Raises:
            InvalidMapError: the maps have different label spaces.
        """
        rows = slice(max(top, 0), max(min(top + other.size[0], self.size[0]), 0))
        columns = slice(max(left, 0), max(min(left + other.size[1], self.size[1]), 0))
        height, width = rows.stop - rows.start, columns.stop - columns.start
        ids = self.ids.clone()
        if height > 0 and width > 0:
            other = other.crop(rows.start - top, columns.start - left, height, width)
            ids[rows, columns] = torch.where(other.ids > 0, other.ids + self.num_segments, ids[rows, columns])
        score = None
        if self.score is not None and other.score is not None:
            score = torch.cat([self.score, other.score])
        crowd = None
        if self.crowd is not None or other.crowd is not None:
            crowd = torch.cat([self._crowd_or_false(), other._crowd_or_false()])
        cut_off = None
        if self.cut_off is not None and other.cut_off is not None:
            cut_off = torch.cat([self.cut_off, other.cut_off])
        labels = self.labels if other.labels is None else other.labels
        if self.labels is not None and labels != self.labels:
            raise InvalidMapError(
                f"expected maps of one label space, got {self.labels.name!r} and {other.labels.name!r}"  # type: ignore[union-attr]
            )
        return replace(
            self,
            ids=ids,
            category=torch.cat([self.category, other.category]),
            score=score,
            crowd=crowd,
            labels=labels,
            cut_off=cut_off,
            provenance=self.provenance if self.provenance == other.provenance else None,
        )
