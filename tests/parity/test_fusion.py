"""Pasting against the published combination as it is done on files: run-length masks, by pycocotools' own operations.

``panopticapi``, which has it, is not on PyPI; its steps are written down here, its areas, intersections and unions are
those of the library it uses.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map
from pycocotools import mask as coco_mask

from panscape.representations.fusion import CroppedMasks, FusionConfig, fuse_instances


def combined(masks, category, score, semantic, min_score, max_overlap, stuff_area):
    """Return ids of the steps' own, and the category of each; 0 is void."""
    encoded = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    ids, categories = np.zeros(semantic.shape, dtype=np.int64), {}
    used = None
    for i in sorted(range(len(encoded)), key=lambda i: score[i], reverse=True):  # stable also in reverse
        if score[i] < min_score or coco_mask.area(encoded[i]) == 0:
            continue
        shared = 0 if used is None else coco_mask.area(coco_mask.merge([used, encoded[i]], intersect=True))
        if shared / coco_mask.area(encoded[i]) > max_overlap:
            continue
        used = encoded[i] if used is None else coco_mask.merge([used, encoded[i]], intersect=False)
        categories[len(categories) + 1] = category[i]
        ids[(coco_mask.decode(encoded[i]) == 1) & (ids == 0)] = len(categories)
    for c in SHAPES.stuff_ids:
        left = (semantic == c) & (ids == 0)
        if left.sum() >= stuff_area:
            categories[len(categories) + 1] = c
            ids[left] = len(categories)
    return ids, categories


@pytest.mark.parametrize("seed", range(12))
def test_maps_are_those_of_the_published_steps(seed):
    g = torch.Generator().manual_seed(seed)
    truths = [generated_map(100 * seed + i, objects=8) for i in range(3)]
    masks, category = [], []
    for truth in truths:
        is_object = torch.isin(truth.category, torch.tensor(SHAPES.thing_ids))
        masks.append(truth.masks()[is_object])
        category.append(truth.category[is_object])
    masks, category = torch.cat(masks), torch.cat(category)
    score = (torch.rand(len(masks), generator=g) * 10).round() / 10
    semantic = generated_map(100 * seed + 50, void=False).semantic(void=0)
    fusion = FusionConfig(min_score=0.25, max_overlap=(0.2, 0.5, 0.8)[seed % 3], stuff_area=300 * (seed % 4))
    result = fuse_instances(CroppedMasks.from_masks(masks), category, score, semantic, SHAPES, fusion)

    arrays = (masks.numpy(), category.tolist(), score.tolist(), semantic.numpy())
    ids, categories = combined(*arrays, fusion.min_score, fusion.max_overlap, fusion.stuff_area)
    assert np.array_equal(result.ids.numpy() == 0, ids == 0)
    pairs = set(zip(result.ids.flatten().tolist(), ids.flatten().tolist(), strict=True)) - {(0, 0)}
    present = {i for i in categories if (ids == i).any()}
    assert len(pairs) == len(present) == result.num_segments  # one partner each
    assert all(int(result.category[ours - 1]) == categories[theirs] for ours, theirs in pairs)
    assert len(present) > 4
