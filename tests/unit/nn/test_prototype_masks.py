"""Masks from prototypes against one combination for each box."""

from __future__ import annotations

import torch

from panscape.nn.prototype_masks import prototype_masks
from panscape.nn.region_pooling import align_regions


def test_each_box_has_its_own_combination_of_its_image() -> None:
    g = torch.Generator().manual_seed(0)
    prototypes, semantic = torch.randn(2, 3, 8, 12, generator=g), torch.randn(2, 5, 8, 12, generator=g)
    coefficients = torch.randn(2, 4, 4, generator=g)
    boxes = torch.tensor([[0.0, 0, 48, 32], [4, 4, 20, 30], [40, 1, 47, 9], [3, 8, 9, 11]]).repeat(2, 1, 1)
    category = torch.randint(5, (2, 4), generator=g)
    found = prototype_masks(prototypes, semantic, coefficients, boxes, category, stride=4, num_cells=6)
    assert found.shape == (2, 4, 6, 6)
    prob = semantic.softmax(dim=1)
    for b in range(2):
        for d in range(4):
            plane = (coefficients[b, d, :3, None, None] * prototypes[b]).sum(dim=0)
            plane += coefficients[b, d, 3] * (2 * prob[b, category[b, d]] - 1)
            expected = align_regions(plane[None, None], 4, boxes[b, d, None], torch.zeros(1), 6, 2)[0, 0]
            torch.testing.assert_close(found[b, d], expected, atol=1e-5, rtol=1e-5)
