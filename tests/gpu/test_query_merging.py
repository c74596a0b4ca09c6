"""Merging of queries on the device equals that on the processor, and waits for it a fixed number of times."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional as F

from panscape.geometry import ImageGeometry
from panscape.representations.queries import merge_queries
from panscape.representations.queries.assign import assign_pixels_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def logits(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(num)
    masks = F.interpolate(torch.randn(1, num, 4, 6, generator=g) * 9 - 3, (40, 60), mode="bicubic")[0]
    return torch.randn(num, 6, generator=g) * 9, masks


@pytest.mark.parametrize("rule", ["maskformer", "eomt", "detr"])
@pytest.mark.parametrize("num", [1, 30])
@pytest.mark.parametrize("size", [(150, 230), (97, 301)])
def test_the_device_equals_the_cpu(rule, num, size):
    category, masks = logits(num)
    options = {"rule": rule, "things": [0, 3], "score_threshold": 0.3, "overlap_threshold": 0.2}
    options |= {"inference_size": (150, 230), "padded_size": (160, 240)}
    expected = merge_queries(category, masks, size, **options)
    result = merge_queries(category.cuda(), masks.cuda(), size, **options)
    assert result.ids.is_cuda
    assert torch.equal(result.query.cpu(), expected.query)
    assert torch.equal(result.category.cpu(), expected.category)
    assert (result.ids.cpu() != expected.ids).float().mean() < 1e-4  # scores differ by rounding


def test_bands_do_not_wait_for_the_device():
    category, masks = logits(30)
    score = torch.rand(30, generator=torch.Generator().manual_seed(0)) + 0.1
    geometry = ImageGeometry.of((97, 301), (150, 230), (160, 240))
    expected = assign_pixels_reference(masks, score, geometry)
    result = assign_pixels_reference(masks.cuda(), score.cuda(), geometry, 30 * 301 * 8)
    for one, other in zip(expected, result, strict=True):
        assert torch.equal(one, other.cpu())  # bit for bit
    waits = []
    for num in (3, 30):
        category, masks = (part.cuda() for part in logits(num))
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                merge_queries(category, masks, (160, 240), rule="eomt", things=[0], score_threshold=0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(len(caught))
    assert waits[0] == waits[1]
