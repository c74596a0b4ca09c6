"""`PanopticMap`: every pixel once, its category and its object. Truth and prediction are the same type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from panscape.errors import InvalidMapError
from panscape.geometry import Size

if TYPE_CHECKING:
    from panscape.labels import LabelSpace


@dataclass(frozen=True, slots=True, eq=False)
class PanopticMap:
    """An image taken apart into segments.

    Void is 0, everywhere and always. A pixel of value ``s`` belongs to the segment described by row ``s - 1`` of the
    other fields; a row may be without pixels (see :meth:`compact`).

    Attributes:
        ids: int32 [H, W], values in 0..S; 0 is void.
        category: int64 [S], category ids of a :class:`~panscape.labels.LabelSpace`.
        score: float32 [S] in 0..1, or None where there is no measure of confidence (truth).
        crowd: bool [S], segments that stand for many objects at once; None means that there are none.

    Raises:
        InvalidMapError: a part has another type, shape or range, or parts contradict each other.
    """

    ids: Tensor
    category: Tensor
    score: Tensor | None = None
    crowd: Tensor | None = None

    def __post_init__(self) -> None:
        _require(self.ids, "ids", torch.int32, 2, "[H, W]")
        _require(self.category, "category", torch.int64, 1, "[S]")
        rows = self.category.shape[0]
        for name, part, dtype in (("score", self.score, torch.float32), ("crowd", self.crowd, torch.bool)):
            if part is not None:
                _require(part, name, dtype, 1, "[S]")
                if part.shape[0] != rows:
                    raise InvalidMapError(
                        f"expected one {name} for each of the {rows} segments in category, got {part.shape[0]}"
                    )
        parts = (self.ids, self.category, self.score, self.crowd)
        devices = sorted({str(part.device) for part in parts if part is not None})
        if len(devices) > 1:
            raise InvalidMapError(f"expected all parts on one device, got {', '.join(devices)}; move them first")
        if self.ids.numel():
            low, high = (int(v) for v in torch.stack(self.ids.aminmax()))
            if low < 0 or high > rows:
                raise InvalidMapError(
                    f"expected ids in 0..{rows} (0 is void, {rows} segments are described), got {low}..{high}; "
                    "describe every id, or read the annotation with panscape.formats"
                )
        if rows and int(self.category.min()) < 0:
            raise InvalidMapError(
                f"expected category ids from 0 on, got {int(self.category.min())}; pixels without category are void (0)"
            )
        if rows and self.score is not None:
            lowest, highest = (float(v) for v in torch.stack(self.score.aminmax()))
            if not (lowest >= 0 and highest <= 1):  # also when one is not a number
                raise InvalidMapError(
                    f"expected scores in 0..1, got {lowest:g}..{highest:g}; give probabilities, not logits or percent"
                )

    # What it holds

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return Size(*self.ids.shape)

    @property
    def num_segments(self) -> int:
        """Number of described segments, those without pixels included."""
        return self.category.shape[0]

    def __repr__(self) -> str:
        height, width = self.size
        return f"PanopticMap({height}x{width}, {self.num_segments} segments)"

    def semantic(self, *, void: int) -> Tensor:
        """Return the category of every pixel, int64 [H, W]; pixels of no segment get ``void``."""
        table = torch.cat([self.category.new_tensor([void]), self.category])
        return table[self.ids.long()]

    def masks(self) -> Tensor:
        """Return one mask per segment, bool [S, H, W]."""
        rows = torch.arange(1, self.num_segments + 1, dtype=torch.int32, device=self.ids.device)
        return self.ids[None] == rows[:, None, None]

    def areas(self) -> Tensor:
        """Return the number of pixels of every segment, int64 [S]."""
        return torch.bincount(self.ids.flatten().long(), minlength=self.num_segments + 1)[1:]

    def boxes(self) -> Tensor:
        """Return the tight box of every segment, float32 [S, 4], xyxy in pixels, half-open; zeros without pixels."""
        width = self.size.width
        # Runs of equal ids along the rows have the same extent as the pixels and are a hundred times fewer.
        is_start = torch.ones_like(self.ids, dtype=torch.bool)
        is_start[:, 1:] = self.ids[:, 1:] != self.ids[:, :-1]
        y, start = is_start.nonzero(as_tuple=True)
        stop = torch.cat([start[1:], start.new_zeros(1)])[: len(start)]
        stop[stop == 0] = width  # the next run begins a row, so this one ends its own
        index = self.ids[y, start].long()
        extent = []
        for low, high in ((start, stop), (y, y + 1)):
            first = torch.full((self.num_segments + 1,), torch.iinfo(torch.int64).max, device=index.device)
            last = torch.zeros_like(first)
            extent.append((first.scatter_reduce(0, index, low, "amin"), last.scatter_reduce(0, index, high, "amax")))
        (left, right), (top, bottom) = extent
        boxes = torch.stack([left, top, right, bottom], dim=1)[1:]
        return torch.where(boxes[:, 2:3] > 0, boxes, torch.zeros_like(boxes)).float()

    def equals(self, other: PanopticMap) -> bool:
        """Return whether both describe the same segments, whatever their order; scores are not compared."""
        if self.size != other.size:
            return False
        mine, theirs = self.compact(), other.compact()
        if mine.num_segments != theirs.num_segments:
            return False
        # Each pair of ids that shares a pixel, packed into one number: those sort an order faster than rows.
        factor = theirs.num_segments + 1
        packed = torch.unique(mine.ids.long() * factor + theirs.ids)
        pairs = torch.stack([packed // factor, packed % factor])
        # One partner each, both ways, and void with void alone.
        if any(len(torch.unique(side)) != len(packed) for side in pairs) or (pairs[0] > 0).ne(pairs[1] > 0).any():
            return False
        a, b = pairs[:, pairs[0] > 0] - 1
        return torch.equal(mine.category[a], theirs.category[b]) and torch.equal(
            mine._crowd_or_false()[a], theirs._crowd_or_false()[b]
        )

    def _crowd_or_false(self) -> Tensor:
        return torch.zeros_like(self.category, dtype=torch.bool) if self.crowd is None else self.crowd

    # New maps from this one

    @classmethod
    def empty(cls, size: tuple[int, int]) -> PanopticMap:
        """Return a map of ``size`` that is void everywhere."""
        return cls(torch.zeros(tuple(size), dtype=torch.int32), torch.zeros(0, dtype=torch.int64))

    def to(self, device: torch.device | str) -> PanopticMap:
        """Return the map on ``device``."""
        return PanopticMap(
            self.ids.to(device),
            self.category.to(device),
            None if self.score is None else self.score.to(device),
            None if self.crowd is None else self.crowd.to(device),
        )

    def select(self, keep: Tensor) -> PanopticMap:
        """Return the map with only the segments chosen; the pixels of the others become void.

        Args:
            keep: bool [S].
        """
        if keep.shape != self.category.shape or keep.dtype != torch.bool:
            raise InvalidMapError(f"expected keep as bool [{self.num_segments}], got {keep.dtype} {list(keep.shape)}")
        table = torch.zeros(self.num_segments + 1, dtype=torch.int32, device=self.ids.device)
        table[1:][keep] = torch.arange(1, int(keep.sum()) + 1, dtype=torch.int32, device=self.ids.device)
        return PanopticMap(
            table[self.ids.long()],
            self.category[keep],
            None if self.score is None else self.score[keep],
            None if self.crowd is None else self.crowd[keep],
        )

    def compact(self) -> PanopticMap:
        """Return the map without the descriptions that no pixel uses."""
        present = self.areas() > 0
        return self if bool(present.all()) else self.select(present)

    def crop(self, top: int, left: int, height: int, width: int) -> PanopticMap:
        """Return the window of ``height`` x ``width`` pixels whose first pixel is (``top``, ``left``).

        Raises:
            InvalidMapError: the window leaves the map.
        """
        if min(top, left) < 0 or min(height, width) < 1 or top + height > self.size[0] or left + width > self.size[1]:
            raise InvalidMapError(
                f"expected a window inside {self.size[0]}x{self.size[1]}, "
                f"got rows {top}..{top + height}, columns {left}..{left + width}"
            )
        return replace(self, ids=self.ids[top : top + height, left : left + width].contiguous())

    def pad(self, height: int, width: int) -> PanopticMap:
        """Return the map extended to ``height`` x ``width`` with void on the right and at the bottom.

        Raises:
            InvalidMapError: the new size is smaller than the map.
        """
        rows, columns = height - self.size[0], width - self.size[1]
        if rows < 0 or columns < 0:
            raise InvalidMapError(f"expected a size of at least {self.size[0]}x{self.size[1]}, got {height}x{width}")
        return replace(self, ids=torch.nn.functional.pad(self.ids, (0, columns, 0, rows)))

    def resize(self, height: int, width: int) -> PanopticMap:
        """Return the map sampled at ``height`` x ``width``: output row i shows row floor(i * H / height)."""
        if min(height, width) < 1:
            raise InvalidMapError(f"expected a size of at least 1x1, got {height}x{width}")
        rows = torch.arange(height, device=self.ids.device) * self.size[0] // height
        columns = torch.arange(width, device=self.ids.device) * self.size[1] // width
        return replace(self, ids=self.ids[rows[:, None], columns])

    def flip(self) -> PanopticMap:
        """Return the map with left and right exchanged."""
        return replace(self, ids=self.ids.flip(1))

    def paste(self, other: PanopticMap, top: int, left: int) -> PanopticMap:
        """Return the map with ``other`` laid over it; where ``other`` is void, this map shows through.

        The result has scores only if both maps have them, since the segments of the other map have no confidence that
        could be written down. It has crowds if either map has.

        Args:
            other: the map on top; it may leave this map on any side and is then cut.
            top: row of this map at which the first row of ``other`` lies.
            left: the same for columns.
        """
        rows = slice(max(top, 0), max(min(top + other.size[0], self.size[0]), 0))
        columns = slice(max(left, 0), max(min(left + other.size[1], self.size[1]), 0))
        part = other.ids[rows.start - top : max(rows.stop - top, 0), columns.start - left : max(columns.stop - left, 0)]
        ids = self.ids.clone()
        if part.numel():
            ids[rows, columns] = torch.where(part > 0, part + self.num_segments, ids[rows, columns])
        score = None
        if self.score is not None and other.score is not None:
            score = torch.cat([self.score, other.score])
        crowd = None
        if self.crowd is not None or other.crowd is not None:
            crowd = torch.cat([self._crowd_or_false(), other._crowd_or_false()])
        return PanopticMap(ids, torch.cat([self.category, other.category]), score, crowd)

    # To other formats; the formats themselves are panscape.formats

    def to_coco(self, labels: LabelSpace | None = None) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return COCO panoptic form: uint8 [H, W, 3] with ids as R + 256 G + 65536 B, and its segments_info.

        Args:
            labels: gives segments their ``category_id`` as in the dataset's files; without it, the position.
        """
        from panscape.formats import encode_coco

        return encode_coco(self, labels)

    def save(self, path: str | Path, labels: LabelSpace | None = None) -> None:
        """Write ``path`` (.png) in COCO panoptic form with its segments_info beside it (.json), whole or not at all.

        Args:
            path: where; the folder must exist.
            labels: as in :meth:`to_coco`.
        """
        from panscape.formats import save_coco

        save_coco(self, Path(path), labels)


def _require(part: Tensor, name: str, dtype: torch.dtype, ndim: int, shape: str) -> None:
    if not isinstance(part, Tensor):
        raise InvalidMapError(f"expected {name} as a {dtype} tensor {shape}, got {type(part).__name__}")
    if part.dtype != dtype or part.ndim != ndim:
        raise InvalidMapError(f"expected {name} as {dtype} {shape}, got {part.dtype} {list(part.shape)}")


def stack_masks(masks: Tensor, category: Sequence[int] | Tensor) -> PanopticMap:
    """Build a map from masks; where they overlap, the later one is on top.

    Args:
        masks: bool [S, H, W].
        category: category id of each mask.

    Raises:
        InvalidMapError: the masks have another type or shape, or there are not as many categories.
    """
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise InvalidMapError(f"expected masks as bool [S, H, W], got {masks.dtype} {list(masks.shape)}")
    category = torch.as_tensor(category, dtype=torch.int64, device=masks.device)
    if category.shape != masks.shape[:1]:
        raise InvalidMapError(f"expected one category for each of {len(masks)} masks, got {list(category.shape)}")
    ids = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    for row, mask in enumerate(masks, start=1):
        ids[mask] = row
    return PanopticMap(ids, category)
