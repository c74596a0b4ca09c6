"""Recovery from dense boxes on the device equals that on the processor."""

from __future__ import annotations

import pytest
import torch

from panscape.kernels.dense_masks import dense_masks, dense_masks_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("variant", ["published", "paper"])
@pytest.mark.parametrize("num_boxes", [1, 5])
@pytest.mark.parametrize("size", [(256, 384), (249, 371)])
def test_masks(variant, num_boxes, size):
    g = torch.Generator().manual_seed(num_boxes)
    corners = torch.rand(40, 2, 2, generator=g) * torch.tensor([384, 256])
    query = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    owner = torch.randint(0, 40, (num_boxes, 8, 12), generator=g).repeat_interleave(8, 1).repeat_interleave(8, 2)
    dense = query[owner].permute(0, 3, 1, 2)
    dense = dense + 2 * torch.randn(dense[:, :2].shape, generator=g).repeat(1, 2, 1, 1)  # shifted as a whole
    prob = torch.rand(8, 64, 96, generator=g) ** 0.2
    category = torch.randint(0, 8, (40,), generator=g)
    arguments = (query, category, dense.contiguous(), prob)
    expected = dense_masks_reference(*arguments, (256, 384), size, threshold=0.4, variant=variant)
    found = dense_masks(*(part.cuda() for part in arguments), (256, 384), size, threshold=0.4, variant=variant)
    assert found.bits.is_cuda
    assert int(expected.sum()) > 10000
    assert torch.equal(found.to_masks(size).cpu(), expected)


def test_nothing_to_find():
    empty = torch.zeros(0, 4, device="cuda"), torch.zeros(0, dtype=torch.int64, device="cuda")
    maps = torch.zeros(1, 4, 8, 8, device="cuda"), torch.zeros(2, 8, 8, device="cuda")
    found = dense_masks(*empty, *maps, (32, 32), (30, 31), threshold=0.4, variant="published")
    assert len(found) == 0
