"""The rules about connected parts of things, compiled; :mod:`panscape.representations.parts` is their definition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.map_arrays import MapArrays
from panscape.ops.components_cpu import Flags, Ints, Longs, find_components, paint_components
from panscape.ops.jit import jit


@dataclass(frozen=True, slots=True)
class ThingParts:
    """The rules of :mod:`panscape.representations.parts`.

    Attributes:
        largest_part: keep only the largest connected part of each thing segment.
        leftover_area: minimum number of connected thing pixels without a segment that become one; 0 for none.
        thing_area: minimum number of pixels of a largest part.
        leftover_score: score of segments of leftover pixels, 0..1.
    """

    largest_part: bool = False
    leftover_area: int = 0
    thing_area: int = 0
    leftover_score: float = 0.0

    @property
    def is_active(self) -> bool:
        """Whether any rule applies."""
        return self.largest_part or self.leftover_area > 0


def apply_parts_cpu(decoded: MapArrays, semantic: NDArray[Any], is_thing: Flags, parts: ThingParts) -> MapArrays:
    """Apply the rules to a decoded map.

    Args:
        decoded: map with scores, the stuff before the things; its ids are changed in place.
        semantic: category of every pixel, any integers [H, W].
        is_thing: whether each category is a thing, bool [C].
        parts: the rules.
    """
    if not parts.is_active:
        return decoded
    ids, categories = np.ascontiguousarray(decoded.ids), np.ascontiguousarray(semantic, np.int32)
    of_segment = np.concatenate([[-1], decoded.category])  # the category of each id; void has none
    thing_segment = np.append(is_thing, False)[of_segment]
    remains = np.ones(len(of_segment), dtype=bool)
    if parts.largest_part:
        remains = _keep_largest(ids, categories, of_segment, thing_segment, parts.thing_area)
    added = np.zeros(0, dtype=np.int64)
    if parts.leftover_area:
        added = _add_leftover(ids, categories, is_thing, int(remains[1:].sum()), parts)
    rows = remains[1:]
    score = np.ones(len(rows), np.float32) if decoded.score is None else decoded.score
    return replace(
        decoded,
        ids=ids,
        category=np.concatenate([decoded.category[rows], added]),
        score=np.concatenate([score[rows], np.full(len(added), parts.leftover_score, np.float32)]),
    )


def _keep_largest(ids: Ints, categories: Ints, of_segment: Longs, is_thing: Flags, thing_area: int) -> Flags:
    """Apply the first rule, and number the segments again; return which ids remain, bool [1 + S]."""
    found = find_components(ids, is_thing)
    by_area = np.argsort(-found.area, kind="stable")
    largest = by_area[np.unique(found.value[by_area], return_index=True)[1]]
    largest = largest[found.area[largest] >= max(thing_area, 1)]
    remains = ~is_thing
    remains[found.value[largest]] = True
    number = np.zeros(len(found.value), dtype=np.int32)
    number[largest] = (remains.cumsum() - 1)[found.value[largest]]
    paint_components(ids, found, number)
    stuff = np.flatnonzero(~is_thing)[1:]
    stuff_segment = np.zeros(1 + of_segment.max(initial=0), dtype=np.int32)
    stuff_segment[of_segment[stuff]] = stuff
    _join_stuff(ids, categories, found.row, found.start, found.stop, number[found.component] == 0, stuff_segment)
    return remains


def _add_leftover(ids: Ints, categories: Ints, is_thing_category: Flags, num_segments: int, parts: ThingParts) -> Longs:
    """Write the segments of leftover pixels, numbered from ``num_segments`` + 1; return their categories, int64."""
    found = find_components(_leftover(ids, categories, is_thing_category), np.arange(len(is_thing_category) + 1) > 0)
    is_kept = found.area >= parts.leftover_area
    number = np.where(is_kept, num_segments + is_kept.cumsum(), 0).astype(np.int32)
    paint_components(ids, found, number)
    return found.value[is_kept].astype(np.int64) - 1


@jit
def _join_stuff(
    ids: Ints, categories: Ints, row: Ints, start: Ints, stop: Ints, has_left: Flags, stuff_segment: Ints
) -> None:
    """Give the pixels of some runs the stuff segment of their category, 0 if there is none."""
    for i in range(len(row)):
        if has_left[i]:
            for x in range(start[i], stop[i]):
                c = categories[row[i], x]  # under an object it may be any number
                ids[row[i], x] = stuff_segment[c] if 0 <= c < len(stuff_segment) else 0


@jit
def _leftover(ids: Ints, categories: Ints, is_thing_category: Flags) -> Ints:
    """Return 1 plus the category of each void pixel of a thing category, else 0, int32 [H, W]."""
    left = np.zeros(ids.shape, dtype=np.int32)
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            c = categories[y, x]
            if ids[y, x] == 0 and 0 <= c < len(is_thing_category) and is_thing_category[c]:
                left[y, x] = c + 1
    return left
