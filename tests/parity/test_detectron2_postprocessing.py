"""Maps from plain tensors against the steps of detectron2's post-processing, which cannot be installed from an index.

The steps are written down here as published, pixel by pixel and mask by mask, without detectron2's types.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from center_scenes import center_scene
from maps import SHAPES, generated_map
from torch.nn import functional as F

from panscape import Category, LabelSpace
from panscape.formats import encode_label_divisor
from panscape.postprocess import map_from_centers, map_from_detections

THINGS = (2, 3, 5)
SIX = LabelSpace("six", tuple(Category(f"c{i}", i in THINGS, i, (i, 0, 0)) for i in range(6)))


def panoptic_segmentation(semantic, heat, offset, thing_ids, divisor, stuff_area, void, threshold, kernel, top_k):
    """Follow ``get_panoptic_segmentation`` of its Panoptic-DeepLab; semantic and heat are [1, H, W]."""
    heat = F.threshold(heat, threshold, -1)
    heat[heat != F.max_pool2d(heat[None], kernel, 1, kernel // 2)[0]] = -1
    last = heat.flatten().topk(top_k).values[-1].clamp(min=0)
    points = (heat[0] > last).nonzero()
    result = torch.full_like(semantic[0], void)
    is_thing = torch.isin(semantic[0], torch.tensor(thing_ids))
    instance = torch.zeros_like(result)
    if len(points):
        y, x = torch.meshgrid(*(torch.arange(n) for n in result.shape), indexing="ij")
        place = torch.stack([y, x]) + offset
        distance = (points[:, :, None, None] - place).norm(dim=1)
        instance = (distance.argmin(0) + 1) * is_thing
    count = Counter()
    for number in instance.unique().tolist():
        mask = (instance == number) & (number > 0)
        if mask.any():
            category = int(semantic[0][mask].mode().values)
            count[category] += 1
            result[mask] = category * divisor + count[category]
    for category in semantic.unique().tolist():
        mask = (semantic[0] == category) & (instance == 0)
        if category not in thing_ids and mask.sum() >= stuff_area:
            result[mask] = category * divisor
    return result


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_deeplab(seed):
    logits, center, offset = center_scene(7, seed)
    r, c, o = (F.interpolate(p[None], scale_factor=4, mode="bilinear")[0] for p in (logits, center[None], offset))
    height, width = r.shape[1:]
    expected = panoptic_segmentation(r.argmax(0, keepdim=True), c.clone(), o, THINGS, 1000, 300, -1, 0.1, 7, 200)
    result = map_from_centers(r, c, o, (height, width), labels=SIX, compat="panoptic_deeplab", stuff_area=300)
    assert len(result) > 5
    labelled = torch.from_numpy(encode_label_divisor(result, SIX))
    assert int((labelled != expected).sum()) <= 2  # distances differ by rounding
    heads = map_from_centers(
        logits, center[None], offset, (height, width), labels=SIX, compat="panoptic_deeplab", stuff_area=300
    )
    assert int((heads.ids != result.ids).sum()) <= 2


def combined(masks, classes, scores, semantic, overlap_threshold, stuff_area, score_threshold):
    """Follow ``combine_semantic_and_instance_outputs``: semantic is 0 for all things and then the stuff."""
    ids, segments = torch.zeros_like(semantic, dtype=torch.int32), []
    for i in torch.argsort(-scores, stable=True).tolist():
        if scores[i] < score_threshold:
            break
        mask = masks[i]
        shared = mask & (ids > 0)
        if not mask.any() or shared.sum() / mask.sum() > overlap_threshold:
            continue
        segments.append(("thing", int(classes[i])))
        ids[mask & (ids == 0)] = len(segments)
    for label in semantic.unique().tolist():
        mask = (semantic == label) & (ids == 0)
        if label != 0 and mask.sum() >= stuff_area:
            segments.append(("stuff", label))
            ids[mask] = len(segments)
    return ids, segments


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_fpn(seed):
    g = torch.Generator().manual_seed(seed)
    truths = [generated_map(10 * seed + i, objects=6) for i in range(2)]
    objects = [torch.isin(truth.category, torch.tensor(SHAPES.thing_ids)) for truth in truths]
    masks = torch.cat([truth.masks()[kept] for truth, kept in zip(truths, objects, strict=True)])
    classes = torch.cat([truth.category[kept] for truth, kept in zip(truths, objects, strict=True)]) - 2
    scores = torch.rand(len(masks), generator=g)
    sem_seg = F.interpolate(torch.randn(1, 3, 6, 8, generator=g), masks.shape[1:], mode="bilinear")[0]
    expected, segments = combined(masks, classes, scores, sem_seg.argmax(0), 0.5, 400, 0.3)

    category = torch.tensor(SHAPES.thing_ids)[classes]
    semantic = torch.tensor((SHAPES.thing_ids[0], *SHAPES.stuff_ids))[sem_seg.argmax(0)]
    options = {"labels": SHAPES, "stuff_area": 400, "min_score": 0.3}
    result = map_from_detections(masks, category, scores, semantic, truths[0].size, **options)
    assert (result.ids == 0).equal(expected == 0)
    pairs = set(zip(result.ids.flatten().tolist(), expected.flatten().tolist(), strict=True)) - {(0, 0)}
    assert len(pairs) == len(result) == len({theirs for _, theirs in pairs})
    for ours, theirs in pairs:
        kind, number = segments[theirs - 1]
        assert int(result.category[ours - 1]) == (number + 2 if kind == "thing" else number - 1)
    logits = map_from_detections(masks, category, scores, sem_seg, truths[0].size, **options)
    assert logits == result
