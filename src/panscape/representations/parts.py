"""Rules about the connected parts of thing segments, which decoding applies last. Ours, and off by default.

In published decoding, objects may consist of several parts far from each other, and thing pixels that no object takes
are void. Diagonal neighbours are connected. In this order:

1. ``largest_part``: of each thing segment only the largest connected part remains; of equal ones the first in raster
   order. Segments that then have less than ``thing_area`` pixels are dropped. Pixels that have left a segment join the
   stuff segment of their category, if the map has one.
2. ``leftover_area``: connected void pixels of one thing category become a segment, if there are at least as many. These
   segments come last, in the order of their first pixels.

Other pixels are void. Two implementations agree in every pixel: :func:`apply_parts_reference` is the definition and
runs on any device; :func:`apply_parts` runs compiled kernels on the CPU, also for maps on a device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from panscape.ops.components import Flags, Ints, Longs, components_reference, find_components, paint_components
from panscape.ops.jit import jit
from panscape.panoptic import PanopticMap

__all__ = ["ThingParts", "apply_parts", "apply_parts_reference"]


@dataclass(frozen=True, slots=True)
class ThingParts:
    """The rules at the top of this module.

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


def apply_parts(panoptic: PanopticMap, semantic: Tensor, is_thing: Tensor, parts: ThingParts) -> PanopticMap:
    """Apply the rules to a decoded map.

    Args:
        panoptic: map with scores, the stuff before the things; its ids are changed in place if they are on the CPU.
        semantic: category of every pixel, any integers [H, W].
        is_thing: whether each category is a thing, bool [C].
        parts: the rules.
    """
    if not parts.is_active:
        return panoptic
    if panoptic.ids.device.type != "cpu":
        return apply_parts(panoptic.to("cpu"), semantic.int(), is_thing, parts).to(panoptic.ids.device)
    ids, categories = panoptic.ids.contiguous().numpy(), semantic.to("cpu", torch.int32).contiguous().numpy()
    of_segment = np.concatenate([[-1], panoptic.category.numpy()])  # the category of each id; void has none
    thing_category = is_thing.cpu().numpy()
    thing_segment = np.append(thing_category, False)[of_segment]
    remains = np.ones(len(of_segment), dtype=bool)
    if parts.largest_part:
        remains = _keep_largest(ids, categories, of_segment, thing_segment, parts.thing_area)
    added = np.zeros(0, dtype=np.int64)
    if parts.leftover_area:
        added = _add_leftover(ids, categories, thing_category, int(remains[1:].sum()), parts)
    rows = torch.from_numpy(remains[1:])
    return _with_segments(panoptic, torch.from_numpy(ids), rows, torch.from_numpy(added), parts)


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


def _with_segments(panoptic: PanopticMap, ids: Tensor, rows: Tensor, added: Tensor, parts: ThingParts) -> PanopticMap:
    """Return the map with new ids, some of its segments, and added ones of some categories, int64 [N]."""
    score = (torch.ones(panoptic.num_segments, device=ids.device) if panoptic.score is None else panoptic.score)[rows]
    return replace(
        panoptic,
        ids=ids,
        category=torch.cat([panoptic.category[rows], added]),
        score=torch.cat([score, score.new_full((len(added),), parts.leftover_score)]),
    )


def apply_parts_reference(panoptic: PanopticMap, semantic: Tensor, is_thing: Tensor, parts: ThingParts) -> PanopticMap:
    """Apply the rules in plain torch, one segment after the other: the definition. See :func:`apply_parts`."""
    if not parts.is_active:
        return panoptic
    ids, thing_ids = torch.zeros_like(panoptic.ids), is_thing.nonzero()[:, 0].tolist()
    rows: list[int] = []
    left = torch.zeros_like(ids, dtype=torch.bool)
    label = components_reference(panoptic.ids)
    for s, c in enumerate(panoptic.category.tolist()):
        whole = mask = panoptic.ids == s + 1
        if c in thing_ids and parts.largest_part:
            places, counts = torch.unique(label[whole], return_counts=True)
            mask = whole & (label == places[counts.argmax()])
            if mask.sum() < parts.thing_area:
                mask = torch.zeros_like(mask)
            left |= whole & ~mask
        if mask.any():
            rows.append(s)
            ids[mask] = len(rows)
    for row, s in enumerate(rows, start=1):
        if panoptic.category[s] not in thing_ids:
            ids[left & (semantic == panoptic.category[s])] = row
    is_left = (ids == 0) & torch.isin(semantic, torch.tensor(thing_ids, device=ids.device))
    label = components_reference(torch.where(is_left, semantic + 1, 0))
    added = []
    if parts.leftover_area:
        places, counts = torch.unique(label[is_left], return_counts=True)
        for place in places[counts >= parts.leftover_area].tolist():  # ascending
            added.append(int(semantic.flatten()[place - 1]))
            ids[label == place] = len(rows) + len(added)
    kept, new = (torch.tensor(numbers, dtype=torch.int64, device=ids.device) for numbers in (rows, added))
    return _with_segments(panoptic, ids, kept, new, parts)


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
