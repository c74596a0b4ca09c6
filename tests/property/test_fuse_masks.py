"""Fusion of masks follows the published rules in every pixel, also where scores tie and shares equal the limit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panscape import Category, LabelSpace
from panscape.ops.cropped_masks import CroppedMasks
from panscape.ops.fuse_masks import fuse_masks, fuse_masks_reference
from panscape.representations.fusion import FusionConfig, fuse_instances


def labels_of(is_thing):
    return LabelSpace("kinds", tuple(Category(f"c{i}", t, i, (i, i, i)) for i, t in enumerate(is_thing)))


def combined(masks, category, score, semantic, labels, fusion):
    """Merge by the published rules as written, with plain arrays, one segment after the other.

    Returns segments as (category, score, mask): those of things as they were accepted, and those of stuff.
    """
    painted = np.zeros(semantic.shape, dtype=bool)
    things, stuff = [], []
    for i in sorted(range(len(masks)), key=lambda i: -score[i]):  # stable
        if score[i] < fusion.min_score:
            continue
        area = int(masks[i].sum())
        if area == 0:
            continue
        intersection = int((masks[i] & painted).sum())
        if intersection / area > fusion.max_overlap:
            continue
        things.append((category[i], score[i], masks[i] & ~painted))
        painted = painted | masks[i]
    for c in range(len(labels)):
        if labels[c].is_thing:
            continue
        left = (semantic == c) & ~painted
        if left.sum() < fusion.stuff_area or left.mean() < fusion.stuff_share:
            continue
        stuff.append((c, 1.0, left))
    return things, stuff


@st.composite
def scenes(draw, max_objects=7):
    """Few pixels, few levels of scores and blocks of masks, so that areas, shares and scores often tie."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 11)), draw(st.integers(1, 13))
    kinds = draw(
        st.sampled_from([(False, True), (True,), (True, True, True), (False,), (False, False, True, False, True)])
    )
    labels = labels_of(kinds)
    num = draw(st.integers(0, max_objects)) if labels.thing_ids else 0
    masks = torch.rand(num, *size, generator=g) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    for i in range(num):
        form = draw(st.sampled_from(["noise", "block", "block", "copy", "none"]))
        if form == "block":
            top, left = (draw(st.integers(0, side - 1)) for side in size)
            masks[i] = False
            masks[i, top : top + draw(st.sampled_from([1, 2, 4])), left : left + draw(st.sampled_from([1, 2, 4]))] = (
                True
            )
        elif form == "copy" and i:
            masks[i] = masks[i - 1]
        elif form == "none":
            masks[i] = False
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    score = (torch.rand(num, generator=g) * levels).round() / levels
    things = torch.tensor(labels.thing_ids, dtype=torch.int64)
    category = things[torch.randint(len(things), (num,), generator=g)] if num else torch.zeros(0, dtype=torch.int64)
    rough = torch.randint(0, len(labels), (3, 3), generator=g)
    y, x = (torch.arange(side) * 3 // side for side in size)
    semantic = rough[y[:, None], x] if draw(st.booleans()) else torch.randint(0, len(labels), size, generator=g)
    semantic = semantic.to(draw(st.sampled_from([torch.int64, torch.int32, torch.uint8])))
    fusion = FusionConfig(
        min_score=draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        max_overlap=draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
        stuff_area=draw(st.sampled_from([0, 1, 4, 9, 16, 30, 1000])),
        stuff_share=draw(st.sampled_from([0.0, 0.0, 0.125, 0.5])),
    )
    return masks, category, score, semantic, labels, fusion


def with_margin(masks, margin):
    """Return windows that are not tight."""
    tight = CroppedMasks.from_masks(masks).boxes
    boxes = torch.stack([tight[:, 0] - margin, tight[:, 1] - margin, tight[:, 2] + margin, tight[:, 3] + margin], dim=1)
    height, width = masks.shape[1:]
    boxes = torch.minimum(boxes.clamp_min(0), torch.tensor([width, height, width, height], dtype=torch.int32))
    crops = [m[y0:y1, x0:x1] for m, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True)]
    return CroppedMasks.from_crops(crops, boxes)


@settings(max_examples=300)
@given(scenes(), st.sampled_from([0, 0, 1, 3]))
def test_the_map_is_that_of_the_rules(scene, margin):
    masks, category, score, semantic, labels, fusion = scene
    result = fuse_instances(with_margin(masks, margin), category, score, semantic, labels, fusion)
    arrays = (masks.numpy(), category.tolist(), score.tolist(), semantic.numpy())
    things, stuff = combined(*arrays, labels, fusion)
    expected = [segment for segment in [*stuff, *things] if segment[2].any()]
    assert result.category.tolist() == [c for c, _, _ in expected]
    assert result.score.tolist() == [s for _, s, _ in expected]
    ids = np.zeros(semantic.shape, dtype=np.int32)
    for row, (_, _, mask) in enumerate(expected, start=1):
        assert not ids[mask].any()
        ids[mask] = row
    assert np.array_equal(result.ids.numpy(), ids)


@settings(max_examples=200)
@given(scenes(max_objects=12), st.integers(0, 2**32 - 1))
def test_both_implementations_give_the_same(scene, seed):
    masks, _, _, semantic, labels, fusion = scene
    order = torch.randperm(len(masks), generator=torch.Generator().manual_seed(seed))
    order = order[: max(len(order) - seed % 3, 0)]
    windows = CroppedMasks.from_masks(masks)
    is_thing = torch.tensor([c.is_thing for c in labels])
    stuff_area = fusion.smallest_stuff(semantic.shape)
    arguments = (windows, order, semantic, is_thing, fusion.max_overlap, stuff_area)
    for fast, plain in zip(fuse_masks(*arguments), fuse_masks_reference(*arguments), strict=True):
        assert fast.dtype == plain.dtype
        assert torch.equal(fast, plain)


@settings(max_examples=60)
@given(scenes())
def test_windows_hold_their_masks_and_no_more(scene):
    masks = scene[0]
    windows = CroppedMasks.from_masks(masks)
    assert torch.equal(windows.to_masks(tuple(masks.shape[1:])), masks)
    spans = [mask.nonzero() for mask in masks]
    areas = [int((at.amax(0) - at.amin(0) + 1).prod()) if len(at) else 0 for at in spans]
    assert windows.pixels.numel() == sum(areas)
    assert torch.equal(with_margin(masks, 2).to_masks(tuple(masks.shape[1:])), masks)
