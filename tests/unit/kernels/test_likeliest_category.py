from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from panscape.kernels.bilinear import enlarge
from panscape.kernels.center_decoding import first_largest
from panscape.kernels.likeliest_category import likeliest_category


@pytest.mark.parametrize("num_categories", [1, 2, 19])
@pytest.mark.parametrize(
    ("small", "padded", "size"), [((8, 12), (64, 96), (61, 90)), ((1, 1), (8, 8), (8, 3)), ((5, 7), (5, 7), (5, 7))]
)
def test_it_is_the_largest_of_the_enlarged_logits(num_categories, small, padded, size):
    g = torch.Generator().manual_seed(num_categories)
    for logits in (
        torch.randn(num_categories, *small, generator=g) * 3,
        torch.randint(0, 3, (num_categories, *small), generator=g),
    ):
        found = likeliest_category(logits, padded, size)
        expected = first_largest(logits.float(), lambda plane: enlarge(plane, padded, size, align_corners=False))
        assert torch.equal(found.long(), expected)
        peer = F.interpolate(logits.float()[None], padded, mode="bilinear", align_corners=False)[
            0, :, : size[0], : size[1]
        ]
        best = peer.amax(0)
        chosen = peer.gather(0, found.long()[None])[0]
        torch.testing.assert_close(chosen, best, rtol=1e-5, atol=1e-5)
