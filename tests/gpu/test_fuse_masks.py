"""Fusion of masks on the device equals that on the processor."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map

from panscape.representations.fusion import CroppedMasks, FusionConfig, fuse_instances

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("num", [0, 1, 24])
@pytest.mark.parametrize("max_overlap", [0.0, 1 / 3, 0.5, 1.0])
def test_the_device_equals_the_cpu(num, max_overlap):
    g = torch.Generator().manual_seed(num)
    masks = torch.cat([generated_map(seed, objects=8).masks()[2:] for seed in range(4)])[:num]
    category = torch.randint(2, 4, (len(masks),), generator=g)
    score = (torch.rand(len(masks), generator=g) * 5).round() / 5
    semantic = generated_map(9, void=False).semantic(void=0)
    fusion = FusionConfig(min_score=0.3, max_overlap=max_overlap, stuff_area=500)
    windows = CroppedMasks.from_masks(masks)
    expected = fuse_instances(windows, category, score, semantic, SHAPES, fusion)
    parts = (windows.to("cuda"), category.cuda(), score.cuda(), semantic.cuda())
    result = fuse_instances(*parts, SHAPES, fusion)
    assert result.ids.is_cuda
    assert torch.equal(result.ids.cpu(), expected.ids)
    assert torch.equal(result.category.cpu(), expected.category)
    assert torch.equal(result.score.cpu(), expected.score)
    assert torch.equal(CroppedMasks.from_masks(masks.cuda()).bits.cpu(), windows.pixels)
