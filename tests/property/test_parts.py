"""Rules about parts of things equal the same rules written with scipy, and both implementations each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from panscape import PanopticMap
from panscape.representations.parts import ThingParts, apply_parts, apply_parts_reference

EIGHT = np.ones((3, 3))


@st.composite
def decoded_maps(draw):
    """Maps of stuff and things, whose pixels have the segment's category, another one, or a number without meaning."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    is_thing = torch.tensor(draw(st.sampled_from([(False, True, True), (True,), (False,), (True, False, True, False)])))
    stuff, things = (~is_thing).nonzero()[:, 0], is_thing.nonzero()[:, 0]
    stuff = stuff[: draw(st.integers(0, len(stuff)))]
    num_things = draw(st.integers(0, 4)) if len(things) else 0
    objects = things[torch.randint(len(things), (num_things,), generator=g)] if num_things else things[:0]
    category = torch.cat([stuff, objects])
    coarse = torch.randint(0, len(category) + 1, (draw(st.integers(1, 9)), draw(st.integers(1, 12))), generator=g)
    y, x = (torch.arange(side) % n for side, n in zip(size, coarse.shape, strict=True))
    ids = coarse[y[:, None], x].int()
    semantic = torch.randint(0, len(is_thing), size, generator=g)
    semantic = torch.where(
        (torch.rand(size, generator=g) < 0.7) & (ids > 0),
        torch.cat([stuff[:0] + 0, category.new_zeros(1), category])[ids.long()],
        semantic,
    )
    if draw(st.booleans()):
        semantic[
            torch.isin(ids, (is_thing[category].nonzero()[:, 0] + 1).int()) & (torch.rand(size, generator=g) < 0.2)
        ] = 255
    present = torch.isin(torch.arange(1, len(category) + 1), ids)
    number = torch.cat([torch.zeros(1), present.cumsum(0)]).int()
    score = torch.rand(len(category), generator=g)
    panoptic = PanopticMap(number[ids.long()], category[present], score[present])
    parts = ThingParts(
        largest_part=draw(st.booleans()),
        leftover_area=draw(st.sampled_from([0, 1, 2, 5])),
        thing_area=draw(st.sampled_from([0, 2, 6])),
        leftover_score=0.25,
    )
    return panoptic, semantic, is_thing, parts


def by_scipy(panoptic, semantic, is_thing, parts):
    """Return the segments as (category, score, mask), one rule after the other."""
    ids, semantic = panoptic.ids.numpy(), semantic.numpy()
    segments = [
        [c, s, ids == i]
        for i, (c, s) in enumerate(zip(panoptic.category.tolist(), panoptic.score.tolist(), strict=True), 1)
    ]
    free = ids == 0
    left = np.zeros_like(free)
    if parts.largest_part:
        for segment in segments:
            c, _, mask = segment
            if is_thing[c]:
                label, num = ndimage.label(mask, EIGHT)
                areas = ndimage.sum_labels(mask, label, range(1, num + 1))
                segment[2] = label == 1 + int(areas.argmax())
                if segment[2].sum() < parts.thing_area:
                    segment[2] = np.zeros_like(mask)
                left |= mask & ~segment[2]
        for segment in segments:
            if not is_thing[segment[0]]:
                joined = left & (semantic == segment[0])
                segment[2], left = segment[2] | joined, left & ~joined
    free |= left
    segments = [segment for segment in segments if segment[2].any()]
    added = []
    if parts.leftover_area:
        for c in is_thing.nonzero()[:, 0].tolist():
            label, num = ndimage.label(free & (semantic == c), EIGHT)
            masks = [label == i for i in range(1, num + 1)]
            added += [(c, parts.leftover_score, mask) for mask in masks if mask.sum() >= parts.leftover_area]
    return segments + sorted(added, key=lambda one: one[2].ravel().argmax())


@settings(max_examples=400)
@given(decoded_maps())
def test_the_rules_are_those_of_scipy_in_both_implementations(case):
    panoptic, *rest = case
    expected = by_scipy(*case)
    for apply in (apply_parts_reference, apply_parts):
        result = apply(replace(panoptic, ids=panoptic.ids.clone()), *rest)
        assert result.category.tolist() == [c for c, _, _ in expected]
        torch.testing.assert_close(
            result.score, torch.tensor([s for _, s, _ in expected], dtype=torch.float32), rtol=0, atol=0
        )
        ids = np.zeros(panoptic.size, dtype=np.int32)
        for row, (_, _, mask) in enumerate(expected, start=1):
            ids[mask] = row
        assert np.array_equal(result.ids.numpy(), ids)
