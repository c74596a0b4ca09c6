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

from dataclasses import replace

import torch
from torch import Tensor

from panscape.ops.components import components_reference
from panscape.panoptic import PanopticMap
from panscape.representations.parts_cpu import ThingParts, apply_parts_cpu

__all__ = ["ThingParts", "apply_parts", "apply_parts_reference"]


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
    found = apply_parts_cpu(panoptic.arrays(), semantic.cpu().numpy(), is_thing.cpu().numpy(), parts)
    return PanopticMap.from_arrays(found).to(panoptic.ids.device)


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


def _with_segments(panoptic: PanopticMap, ids: Tensor, rows: Tensor, added: Tensor, parts: ThingParts) -> PanopticMap:
    """Return the map with new ids, some of its segments, and added ones of some categories, int64 [N]."""
    score = (torch.ones(panoptic.num_segments, device=ids.device) if panoptic.score is None else panoptic.score)[rows]
    return replace(
        panoptic,
        ids=ids,
        category=torch.cat([panoptic.category[rows], added]),
        score=torch.cat([score, score.new_full((len(added),), parts.leftover_score)]),
    )
