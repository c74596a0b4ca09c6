from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.ops.argmax import argmax_at_image_size, argmax_over_planes, upsampled_argmax
from panscape.ops.interpolate import upsample


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("num_categories", [1, 2, 19])
@pytest.mark.parametrize(
    ("small", "padded", "size"), [((8, 12), (64, 96), (61, 90)), ((1, 1), (8, 8), (8, 3)), ((5, 7), (5, 7), (5, 7))]
)
def test_it_is_the_largest_of_the_enlarged_logits(num_categories, small, padded, size, align_corners):
    g = torch.Generator().manual_seed(num_categories)
    for logits in (
        torch.randn(num_categories, *small, generator=g) * 3,
        torch.randint(0, 3, (num_categories, *small), generator=g),
    ):
        found = upsampled_argmax(logits, padded, size, align_corners=align_corners)
        expected = argmax_over_planes(logits.float(), lambda plane: upsample(plane, padded, size, align_corners))
        assert torch.equal(found.long(), expected)
        peer = F.interpolate(logits.float()[None], padded, mode="bilinear", align_corners=align_corners)[
            0, :, : size[0], : size[1]
        ]
        best = peer.amax(0)
        chosen = peer.gather(0, found.long()[None])[0]
        torch.testing.assert_close(chosen, best, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_images_of_other_sizes_take_the_largest_of_twice_resized_logits(align_corners):
    logits = torch.randn(3, 5, 8, 12, generator=torch.Generator().manual_seed(0))
    padded, sizes = (64, 96), [(61, 90), (200, 130), (20, 31)]
    geometries = [ImageGeometry.of(size, (61, 90), padded) for size in sizes]
    found = argmax_at_image_size(logits, geometries, align_corners=align_corners)
    assert [tuple(one.shape) for one in found] == sizes
    for planes, size, one in zip(logits, sizes, found, strict=True):
        seen = upsample(planes, padded, (61, 90), align_corners)
        plain = seen if size == (61, 90) else upsample(seen, size, size, align_corners=False)
        assert torch.equal(one.long(), plain.argmax(0))
        # detectron2's procedure with torch's own resize: equal except for ties within rounding.
        seen = F.interpolate(planes[None], padded, mode="bilinear", align_corners=align_corners)[..., :61, :90]
        peer = F.interpolate(seen, size, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(peer.gather(0, one.long()[None])[0], peer.amax(0), rtol=1e-5, atol=1e-5)


def test_each_image_needs_its_sizes():
    with pytest.raises(InvalidArgumentError, match="one size for each of the 2 images, got 1"):
        argmax_at_image_size(torch.zeros(2, 3, 4, 4), [ImageGeometry.of((16, 16))], align_corners=False)
