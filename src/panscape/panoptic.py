"""`PanopticMap`: the category and instance of every pixel; the type of both ground truth and prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError, InvalidMapError, listed
from panscape.geometry import Size
from panscape.interchange import Interchange
from panscape.labels import LabelSpace
from panscape.map_arrays import MapArrays
from panscape.map_transforms import MapTransforms
from panscape.segment import Segment


@dataclass(frozen=True, slots=True, eq=False)
class PanopticMap(Interchange, MapTransforms):
    """A panoptic segmentation: every pixel belongs to one segment or is void.

    Void is always 0. A pixel of value ``s`` belongs to the segment in row ``s - 1`` of the other fields; a row may
    have no pixels (see :meth:`compact`).

    ``len(map)`` is the number of segments, ``for segment in map`` yields each :class:`~panscape.segment.Segment`,
    ``np.asarray(map)`` is the array of ids, and ``==`` compares the content.

    Attributes:
        ids: int32 [H, W], values in 0..S; 0 is void.
        category: int64 [S], category ids of a :class:`~panscape.labels.LabelSpace`.
        score: float32 [S] in 0..1, or None if there is no confidence (ground truth).
        crowd: bool [S], segments that annotate a group of objects; None if there are none.
        labels: the label space of the category ids; maps that a model predicts have it. Maps derived from this one
            have the same.
        cut_off: whether the segment continues beyond its left, top, right and bottom side, where an image was cropped;
            bool [S, 4], or None if that is not recorded. Cropping records it in maps that have it.
        valid: left, top, right and bottom of the part that is not padding, in pixels, half-open; None for the whole
            map. Padding records it.
        provenance: what made a predicted map, as plain JSON values: the weights, their data and licence, see
            :class:`~panscape.models.saving.Saving`; None if it is not known. Maps derived from this one have the same;
            it is not compared.

    Raises:
        InvalidMapError: a part has another type or shape, or parts are inconsistent; or, of parts on the CPU, a value
            is out of range. On other devices values are not checked, as that would wait for the device.
    """

    ids: Tensor
    category: Tensor
    score: Tensor | None = None
    crowd: Tensor | None = None
    labels: LabelSpace | None = None
    cut_off: Tensor | None = None
    valid: tuple[int, int, int, int] | None = None
    provenance: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _require(self.ids, "ids", torch.int32, 2, "[H, W]")
        _require(self.category, "category", torch.int64, 1, "[S]")
        rows = self.category.shape[0]
        for name, part, dtype, shape in (
            ("score", self.score, torch.float32, [rows]),
            ("crowd", self.crowd, torch.bool, [rows]),
            ("cut_off", self.cut_off, torch.bool, [rows, 4]),
        ):
            if part is not None:
                _require(part, name, dtype, len(shape), "[S]" if len(shape) == 1 else "[S, 4]")
                if list(part.shape) != shape:
                    raise InvalidMapError(
                        f"expected one {name} for each of the {rows} segments in category, got {list(part.shape)}"
                    )
        parts = (self.ids, self.category, self.score, self.crowd, self.cut_off)
        devices = sorted({str(part.device) for part in parts if part is not None})
        if len(devices) > 1:
            raise InvalidMapError(f"expected all parts on one device, got {', '.join(devices)}; move them first")
        if self.valid is not None:
            left, top, right, bottom = self.valid
            if not (0 <= left <= right <= self.size.width and 0 <= top <= bottom <= self.size.height):
                raise InvalidMapError(
                    f"expected valid as left, top, right, bottom inside of {self.size[0]}x{self.size[1]} pixels, got "
                    f"{self.valid}"
                )
        if self.ids.is_cpu:
            self._check_values()

    def _check_values(self) -> None:
        rows = len(self)
        if self.ids.numel():
            low, high = (int(v) for v in torch.stack(self.ids.aminmax()))
            if low < 0 or high > rows:
                raise InvalidMapError(
                    f"expected ids in 0..{rows} (0 is void, category has {rows} segments), got {low}..{high}; "
                    "give a category for every id, or read the annotation with panscape.formats"
                )
        if not rows:
            return
        lowest, highest = (int(v) for v in torch.stack(self.category.aminmax()))
        if lowest < 0:
            raise InvalidMapError(f"expected category ids of at least 0, got {lowest}; use void (0) for no category")
        if self.labels is not None and highest >= len(self.labels):
            raise InvalidMapError(
                f"expected category ids in 0..{len(self.labels) - 1}, the positions in label space "
                f"{self.labels.name!r}, got {highest}; give the label space of these ids"
            )
        if self.score is not None:
            least, most = (float(v) for v in torch.stack(self.score.aminmax()))
            if not (least >= 0 and most <= 1):  # also true for NaN
                raise InvalidMapError(
                    f"expected scores in 0..1, got {least:g}..{most:g}; give probabilities, not logits or percent"
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

    def __len__(self) -> int:
        return self.category.shape[0]

    def __bool__(self) -> bool:
        return True  # a map without segments is a result too; test len()

    def __iter__(self) -> Iterator[Segment]:
        areas, boxes = self.areas().tolist(), self.boxes().tolist()
        scores = [None] * len(self) if self.score is None else self.score.tolist()
        crowds = self._crowd_or_false().tolist()
        for row, category in enumerate(self.category.tolist()):
            known = None if self.labels is None else self.labels[category]
            left, top, right, bottom = boxes[row]
            box = (left, top, right, bottom)
            yield Segment(row + 1, category, known, scores[row], crowds[row], areas[row], box, self.ids)

    def __repr__(self) -> str:
        height, width = self.size
        labels = "" if self.labels is None else f" of {self.labels.name}"
        return f"PanopticMap({height}x{width}, {len(self)} segments{labels})"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        array = np.array(self.ids.cpu().numpy(), dtype=dtype, copy=copy)
        array.flags.writeable = bool(copy)  # a view of the map must not change it
        return array

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same segments in any order, with equal scores; on any devices."""
        if not isinstance(other, PanopticMap):
            return NotImplemented
        mine, theirs = self.to("cpu").compact(), other.to("cpu").compact()
        pairs = mine._matching_rows(theirs)
        if pairs is None or (mine.score is None) != (theirs.score is None):
            return False
        if mine.labels is not None and theirs.labels is not None and mine.labels != theirs.labels:
            return False
        if mine.score is None or theirs.score is None:
            return True
        return torch.equal(mine.score[pairs[0]], theirs.score[pairs[1]])

    __hash__ = None  # type: ignore[assignment]  # as of all containers that are compared by content

    def for_category(self, category: int | str) -> PanopticMap:
        """Return the map with only the segments of one category; the other pixels become void.

        Args:
            category: its id, or its name if the map has labels.

        Raises:
            InvalidMapError: a name is given, but the map has no labels; or the id is negative or beyond the labels.
            UnknownNameError: no category has this name; the closest names are suggested.
        """
        return self.select(self.category == _category_id(category, self.labels))

    def semantic(self, *, void: int) -> Tensor:
        """Return the category of every pixel, int64 [H, W]; void pixels get ``void``.

        Raises:
            InvalidArgumentError: ``void`` is not an integer of 64 bits.
        """
        if not hasattr(void, "__index__") or not -(2**63) <= int(void) < 2**63:
            raise InvalidArgumentError(f"expected void as an integer, such as 255, got {void!r}")
        table = torch.cat([self.category.new_tensor([void]), self.category])
        return table[self.ids.long()]

    def masks(self) -> Tensor:
        """Return one mask per segment, bool [S, H, W]."""
        rows = torch.arange(1, self.num_segments + 1, dtype=torch.int32, device=self.ids.device)
        return self.ids[None] == rows[:, None, None]

    def areas(self) -> Tensor:
        """Return the number of pixels of every segment, int64 [S]."""
        index, _, start, stop = self._runs()
        return index.new_zeros(self.num_segments + 1).index_add_(0, index, stop - start)[1:]

    def boxes(self) -> Tensor:
        """Return the tight box of every segment, float32 [S, 4], xyxy in pixels, half-open; zeros if it is empty."""
        index, y, start, stop = self._runs()
        extent = []
        for low, high in ((start, stop), (y, y + 1)):
            first = torch.full((self.num_segments + 1,), torch.iinfo(torch.int64).max, device=index.device)
            last = torch.zeros_like(first)
            extent.append((first.scatter_reduce(0, index, low, "amin"), last.scatter_reduce(0, index, high, "amax")))
        (left, right), (top, bottom) = extent
        boxes = torch.stack([left, top, right, bottom], dim=1)[1:]
        return torch.where(boxes[:, 2:3] > 0, boxes, torch.zeros_like(boxes)).float()

    def _runs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return id, row, first and past-the-last column of all runs of equal ids along rows, int64 [R] each.

        They have the area and extent of the pixels, and there are a hundred times fewer.
        """
        height, width = self.size
        is_start = torch.ones_like(self.ids, dtype=torch.bool)
        is_start[:, 1:] = self.ids[:, 1:] != self.ids[:, :-1]
        flat = is_start.flatten()
        # NumPy finds them in a tenth of torch's time.
        at = torch.from_numpy(np.flatnonzero(flat.numpy())) if flat.is_cpu else flat.nonzero().flatten()
        end = torch.cat([at[1:], at.new_full((min(1, len(at)),), height * width)])
        y = at // max(width, 1)
        return self.ids.flatten()[at].long(), y, at - y * width, end - y * width

    def equals(self, other: PanopticMap) -> bool:
        """Return whether both have the same segments in any order; scores are not compared.

        Raises:
            InvalidArgumentError: ``other`` is not a map.
        """
        if not isinstance(other, PanopticMap):
            raise InvalidArgumentError(f"expected a PanopticMap to compare with, got {type(other).__name__}")
        return self.compact()._matching_rows(other.compact()) is not None

    def _matching_rows(self, other: PanopticMap) -> Tensor | None:
        """Return the rows of equal segments, int64 [2, S], of compact maps; None if the segments differ."""
        if self.size != other.size or len(self) != len(other):
            return None
        # Each pair of ids that shares a pixel, packed into one integer: sorts an order of magnitude faster than rows.
        factor = len(other) + 1
        packed = torch.unique(self.ids.long() * factor + other.ids)
        pairs = torch.stack([packed // factor, packed % factor])
        # A one-to-one mapping, with void only to void.
        if any(len(torch.unique(side)) != len(packed) for side in pairs) or (pairs[0] > 0).ne(pairs[1] > 0).any():
            return None
        rows = pairs[:, pairs[0] > 0] - 1
        is_equal = torch.equal(self.category[rows[0]], other.category[rows[1]]) and torch.equal(
            self._crowd_or_false()[rows[0]], other._crowd_or_false()[rows[1]]
        )
        return rows if is_equal else None

    def _crowd_or_false(self) -> Tensor:
        return torch.zeros_like(self.category, dtype=torch.bool) if self.crowd is None else self.crowd

    # Derived maps

    @classmethod
    def empty(cls, size: tuple[int, int], labels: LabelSpace | None = None) -> PanopticMap:
        """Return a map of ``size`` that is void everywhere."""
        return cls(torch.zeros(tuple(size), dtype=torch.int32), torch.zeros(0, dtype=torch.int64), labels=labels)

    @classmethod
    def from_ids(
        cls,
        ids: ArrayLike | Tensor,
        categories: Sequence[int | str] | Mapping[int, int | str] | ArrayLike | Tensor,
        *,
        labels: LabelSpace | None = None,
        scores: ArrayLike | Tensor | None = None,
        crowds: ArrayLike | Tensor | None = None,
    ) -> PanopticMap:
        """Build a map from an array of ids.

        For example::

            PanopticMap.from_ids(array, ["road", "car", "car"], labels=labels)  # ids 1, 2 and 3
            PanopticMap.from_ids(array, {26001: "car", 7: "road"}, labels=labels)  # any ids

        Args:
            ids: integers [H, W] of any integer type; 0 is void.
            categories: the category of each segment, as id or (with ``labels``) as name: a sequence for the ids 1 to
                S, or a mapping from the ids in the array.
            labels: the label space.
            scores: confidence of each segment in 0..1, in the order of ``categories``.
            crowds: whether each segment annotates a group of objects, in the order of ``categories``.

        Raises:
            InvalidMapError: an array has another type, shape or range; or an id has no category.
            UnknownNameError: no category has a given name; the closest names are suggested.
        """
        array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
        if array.dtype.kind not in "iu" or array.ndim != 2:
            raise InvalidMapError(
                f"expected ids as integers [H, W], got {array.dtype} {list(array.shape)}; "
                "for masks, use panscape.panoptic.stack_masks"
            )
        if isinstance(categories, Mapping):
            array = _rows_of_ids(array, list(categories))
            categories = list(categories.values())
        elif array.size and int(array.max()) >= 2**31:
            raise InvalidMapError(f"expected ids below {2**31}, got {array.max()}; map them to categories with a dict")
        return cls(
            torch.from_numpy(array.astype(np.int32)),
            torch.tensor([_category_id(c, labels) for c in categories], dtype=torch.int64),  # type: ignore[union-attr]
            None if scores is None else torch.as_tensor(scores, dtype=torch.float32),
            None if crowds is None else torch.as_tensor(crowds, dtype=torch.bool),
            labels,
        )

    @classmethod
    def from_arrays(cls, arrays: MapArrays) -> PanopticMap:
        """Return the map of these arrays, with which it shares memory."""
        score, crowd = (None if part is None else torch.from_numpy(part) for part in (arrays.score, arrays.crowd))
        return cls(
            torch.from_numpy(arrays.ids),
            torch.from_numpy(arrays.category),
            score,
            crowd,
            arrays.labels,
            provenance=arrays.provenance,
        )

    def arrays(self) -> MapArrays:
        """Return the map as arrays, which share memory with a map on the CPU."""
        ids, category, score, crowd = (
            None if part is None else part.detach().cpu().numpy()
            for part in (self.ids, self.category, self.score, self.crowd)
        )
        assert ids is not None  # noqa: S101 - for the type checker
        assert category is not None  # noqa: S101
        return MapArrays(ids, category, score, crowd, self.labels, self.provenance)

    def to(self, device: torch.device | str) -> PanopticMap:
        """Return the map on ``device``; itself if it is there."""
        if self.ids.device == torch.device(device):
            return self
        return PanopticMap(
            self.ids.to(device),
            self.category.to(device),
            None if self.score is None else self.score.to(device),
            None if self.crowd is None else self.crowd.to(device),
            self.labels,
            None if self.cut_off is None else self.cut_off.to(device),
            self.valid,
            self.provenance,
        )

    def select(self, keep: Tensor | ArrayLike) -> PanopticMap:
        """Return the map with only the selected segments; the pixels of the others become void.

        Args:
            keep: bool [S], whether to keep each segment; :meth:`for_category` selects by category.

        Raises:
            InvalidMapError: it is not one bool for each segment.
        """
        given = keep if isinstance(keep, Tensor) else np.asarray(keep)
        if tuple(given.shape) != (len(self),) or given.dtype not in (torch.bool, np.bool_):
            raise InvalidMapError(
                f"expected keep as bool [{len(self)}], one for each segment, got {given.dtype} {list(given.shape)}; "
                "map.for_category selects by category"
            )
        keep = torch.as_tensor(given, device=self.ids.device)
        table = torch.zeros(self.num_segments + 1, dtype=torch.int32, device=self.ids.device)
        table[1:][keep] = torch.arange(1, int(keep.sum()) + 1, dtype=torch.int32, device=self.ids.device)
        return PanopticMap(
            table[self.ids.long()],
            self.category[keep],
            None if self.score is None else self.score[keep],
            None if self.crowd is None else self.crowd[keep],
            self.labels,
            None if self.cut_off is None else self.cut_off[keep],
            self.valid,
            self.provenance,
        )

    def with_provenance(self, provenance: Mapping[str, Any] | None) -> PanopticMap:
        """Return the map with another :attr:`provenance`."""
        other = copy(self)  # its values are checked already
        object.__setattr__(other, "provenance", provenance)
        return other

    def compact(self) -> PanopticMap:
        """Return the map without segments that have no pixels."""
        present = self.areas() > 0
        return self if bool(present.all()) else self.select(present)


def _category_id(category: Any, labels: LabelSpace | None) -> int:
    if isinstance(category, str):
        if labels is None:
            raise InvalidMapError(f"expected category ids, as the map has no labels, got the name {category!r}")
        return labels.index(category)
    if isinstance(category, bool) or not hasattr(category, "__index__"):
        raise InvalidMapError(f"expected a category id or name, got {category!r}")
    number = int(category)
    if number < 0 or (labels is not None and number >= len(labels)):
        known = "0 or more" if labels is None else f"0..{len(labels) - 1} of {labels.name}"
        raise InvalidMapError(f"expected a category id, {known}, got {number}")
    return number


def _rows_of_ids(array: NDArray[Any], described: Sequence[int]) -> NDArray[np.int32]:
    """Replace each id by its position in ``described``, from 1 on."""
    values, index = np.unique(array, return_inverse=True)
    row_of = {int(number): row for row, number in enumerate(described, start=1)} | {0: 0}
    missing = [int(value) for value in values if int(value) not in row_of]
    if missing:
        raise InvalidMapError(f"expected a category for every id, none for {listed(missing)}; 0 is void")
    rows = np.array([row_of[int(value)] for value in values], np.int32)
    return rows[index].reshape(array.shape)


def _require(part: Tensor, name: str, dtype: torch.dtype, ndim: int, shape: str) -> None:
    if not isinstance(part, Tensor):
        raise InvalidMapError(f"expected {name} as a {dtype} tensor {shape}, got {type(part).__name__}")
    if part.dtype != dtype or part.ndim != ndim:
        raise InvalidMapError(f"expected {name} as {dtype} {shape}, got {part.dtype} {list(part.shape)}")


def stack_masks(masks: Tensor, category: Sequence[int] | Tensor, labels: LabelSpace | None = None) -> PanopticMap:
    """Build a map from masks; a later mask covers earlier ones.

    Args:
        masks: bool [S, H, W].
        category: category id of each mask.
        labels: the label space.

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
    return PanopticMap(ids, category, labels=labels)
