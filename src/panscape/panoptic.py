"""`PanopticMap`: the category and instance of every pixel; the type of both ground truth and prediction."""

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
    """A panoptic segmentation: every pixel belongs to one segment or is void.

    Void is always 0. A pixel of value ``s`` belongs to the segment in row ``s - 1`` of the other fields; a row may
    have no pixels (see :meth:`compact`).

    Attributes:
        ids: int32 [H, W], values in 0..S; 0 is void.
        category: int64 [S], category ids of a :class:`~panscape.labels.LabelSpace`.
        score: float32 [S] in 0..1, or None if there is no confidence (ground truth).
        crowd: bool [S], segments that annotate a group of objects; None if there are none.

    Raises:
        InvalidMapError: a part has another type, shape or range, or parts are inconsistent.
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
                    f"expected ids in 0..{rows} (0 is void, category has {rows} segments), got {low}..{high}; "
                    "give a category for every id, or read the annotation with panscape.formats"
                )
        if rows and int(self.category.min()) < 0:
            raise InvalidMapError(
                f"expected category ids of at least 0, got {int(self.category.min())}; use void (0) for no category"
            )
        if rows and self.score is not None:
            lowest, highest = (float(v) for v in torch.stack(self.score.aminmax()))
            if not (lowest >= 0 and highest <= 1):  # also true for NaN
                raise InvalidMapError(
                    f"expected scores in 0..1, got {lowest:g}..{highest:g}; give probabilities, not logits or percent"
                )

    # Content

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return Size(*self.ids.shape)

    @property
    def num_segments(self) -> int:
        """Number of segments, including those without pixels."""
        return self.category.shape[0]

    def __repr__(self) -> str:
        height, width = self.size
        return f"PanopticMap({height}x{width}, {self.num_segments} segments)"

    def semantic(self, *, void: int) -> Tensor:
        """Return the category of every pixel, int64 [H, W]; void pixels get ``void``."""
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
        """Return the tight box of every segment, float32 [S, 4], xyxy in pixels, half-open; zeros if it is empty."""
        width = self.size.width
        # Runs of equal ids along rows have the same extent as the pixels, and there are a hundred times fewer.
        is_start = torch.ones_like(self.ids, dtype=torch.bool)
        is_start[:, 1:] = self.ids[:, 1:] != self.ids[:, :-1]
        y, start = is_start.nonzero(as_tuple=True)
        stop = torch.cat([start[1:], start.new_zeros(1)])[: len(start)]
        stop[stop == 0] = width  # the next run begins a row, so this one ends at the border
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
        """Return whether both have the same segments in any order; scores are not compared."""
        if self.size != other.size:
            return False
        mine, theirs = self.compact(), other.compact()
        if mine.num_segments != theirs.num_segments:
            return False
        # Each pair of ids that shares a pixel, packed into one integer: sorts an order of magnitude faster than rows.
        factor = theirs.num_segments + 1
        packed = torch.unique(mine.ids.long() * factor + theirs.ids)
        pairs = torch.stack([packed // factor, packed % factor])
        # A one-to-one mapping, with void only to void.
        if any(len(torch.unique(side)) != len(packed) for side in pairs) or (pairs[0] > 0).ne(pairs[1] > 0).any():
            return False
        a, b = pairs[:, pairs[0] > 0] - 1
        return torch.equal(mine.category[a], theirs.category[b]) and torch.equal(
            mine._crowd_or_false()[a], theirs._crowd_or_false()[b]
        )

    def _crowd_or_false(self) -> Tensor:
        return torch.zeros_like(self.category, dtype=torch.bool) if self.crowd is None else self.crowd

    # Derived maps

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
        """Return the map with only the selected segments; the pixels of the others become void.

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
        """Return the map without segments that have no pixels."""
        present = self.areas() > 0
        return self if bool(present.all()) else self.select(present)

    def crop(self, top: int, left: int, height: int, width: int) -> PanopticMap:
        """Return the window of ``height`` x ``width`` pixels whose first pixel is (``top``, ``left``).

        Raises:
            InvalidMapError: the window exceeds the map.
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
        """Return the map resized by nearest-neighbor sampling: output row i is input row floor(i * H / height)."""
        if min(height, width) < 1:
            raise InvalidMapError(f"expected a size of at least 1x1, got {height}x{width}")
        rows = torch.arange(height, device=self.ids.device) * self.size[0] // height
        columns = torch.arange(width, device=self.ids.device) * self.size[1] // width
        return replace(self, ids=self.ids[rows[:, None], columns])

    def flip(self) -> PanopticMap:
        """Return the horizontally flipped map."""
        return replace(self, ids=self.ids.flip(1))

    def paste(self, other: PanopticMap, top: int, left: int) -> PanopticMap:
        """Return the map with ``other`` pasted on top; void pixels of ``other`` are transparent.

        The result has scores only if both maps have them, since the segments of a map without scores have no
        confidence. It has crowds if either map has.

        Args:
            other: the map on top; it is cropped if it exceeds this map.
            top: row of this map for the first row of ``other``.
            left: column of this map for the first column of ``other``.
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

    # Conversion to other formats; see panscape.formats

    def to_coco(self, labels: LabelSpace | None = None) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return COCO panoptic format: uint8 [H, W, 3] with ids as R + 256 G + 65536 B, and its segments_info.

        Args:
            labels: defines the ``category_id`` of segments as in the dataset's files; without it, the category id.
        """
        from panscape.formats import encode_coco

        return encode_coco(self, labels)

    def save(self, path: str | Path, labels: LabelSpace | None = None) -> None:
        """Write ``path`` (.png) in COCO panoptic format and its segments_info beside it (.json), atomically.

        Args:
            path: the file to write; its folder must exist.
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
    """Build a map from masks; a later mask covers earlier ones.

    Args:
        masks: bool [S, H, W].
        category: category id of each mask.

    Raises:
        InvalidMapError: the masks have another type or shape, or the number of categories differs.
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
