"""Grouping by centres on the device equals the reference on the processor."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from panscape.geometry import ImageGeometry
from panscape.representations.centers.decode import (
    CenterDecoding,
    group_centers,
    group_centers_batched,
    group_centers_reference,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def outputs(seed: int, batch: int, levels: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)

    def smooth(channels: int, scale: float) -> torch.Tensor:
        coarse = F.interpolate(torch.randn(batch, channels, 8, 12, generator=g), (48, 72), mode="bilinear")
        values = scale * (coarse + 0.05 * torch.randn(coarse.shape, generator=g))
        return (values * levels).round() / levels if levels else values

    return smooth(7, 3), smooth(1, 0.5)[:, 0], smooth(2, 25)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("top_k", [3, 200])
@pytest.mark.parametrize("beyond", ["panoptic_swiftnet", "panoptic_deeplab"])
@pytest.mark.parametrize(
    "more", [{}, {"thing_area": 400, "one_category": True}, {"largest_part": True, "leftover_area": 100}]
)
def test_the_device_equals_the_reference(align_corners, levels, top_k, beyond, more):
    logits, center, offset = outputs(seed=top_k, batch=3, levels=levels)
    decoding = CenterDecoding(stuff_area=300, top_k=top_k, align_corners=align_corners, compat=beyond, **more)
    sizes = [(192, 288), (100, 288), (191, 13)]
    device = [part.cuda() for part in (logits, center, offset)]
    geometries = [ImageGeometry.of(size, padded_size=(192, 288)) for size in sizes]
    together = group_centers_batched(*device, geometries, (1, 4, 5), decoding)
    for b, geometry in enumerate(geometries):
        one = (logits[b], center[b], offset[b])
        expected = group_centers_reference(*one, geometry, (1, 4, 5), decoding)
        alone = group_centers(*(part.cuda() for part in one), geometry, (1, 4, 5), decoding)
        for result in (together[b], alone):
            assert result.ids.is_cuda
            assert torch.equal(result.ids.cpu(), expected.ids)
            assert torch.equal(result.category.cpu(), expected.category)
            assert torch.equal(result.score.cpu(), expected.score)
