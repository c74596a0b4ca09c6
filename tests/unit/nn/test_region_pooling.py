"""Features of regions against torchvision's RoIAlign."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign, roi_align

from panscape.nn.region_pooling import pool_regions, region_levels


def test_levels_change_at_112_224_and_448_pixels():
    sides = torch.tensor([1.0, 111.9, 112, 223.9, 224, 447.9, 448, 3000])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides * 2, sides / 2], dim=1)
    assert region_levels(boxes, (4, 8, 16, 32)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert region_levels(boxes, (8, 16, 32)).tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert region_levels(torch.tensor([[5.0, 5, 5, 9]]), (4, 8)).tolist() == [0]


@pytest.fixture
def pyramid():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 256 // s, 512 // s, generator=generator) for s in (4, 8, 16, 32)]


def boxes_in(height, width, num, seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(num, 2, 2, generator=generator) * torch.tensor([float(width), float(height)])
    low, high = corners.amin(1), corners.amax(1)
    return torch.cat([low, torch.maximum(high, low + 40)], 1).clamp(min=0).minimum(torch.tensor([width, height] * 2))


def test_seamsegs_pooling_is_a_shifted_roi_align_inside_the_image(pyramid):
    boxes, image = boxes_in(256, 512, 60, seed=1), torch.arange(60) % 2
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= 32).all(1)]
    image = image[: len(boxes)]
    pooled = pool_regions(pyramid, (4, 8, 16, 32), boxes, image, 14, "seamseg")
    level = region_levels(boxes, (4, 8, 16, 32))
    assert len(set(level.tolist())) > 1
    for row in range(len(boxes)):
        stride = 4 * 2 ** int(level[row])
        roi = torch.cat([image[row : row + 1].float(), boxes[row] - 0.5])[None]
        expected = roi_align(pyramid[level[row]], roi, 14, 1 / stride, sampling_ratio=1, aligned=False)
        assert (pooled[row] - expected[0]).abs().max() < 2e-4


def test_seamsegs_pooling_continues_the_border_and_takes_boxes_below_a_pixel(pyramid):
    """Values and gradients of a grid sample of one image and level at a time."""
    boxes = torch.tensor([[-30.0, -9, 20, 300], [500, 250, 700, 300], [3, 3, 3.5, 3.2], [0, 0, 900, 600]])
    image, sides = torch.tensor([0, 1, 1, 0]), torch.tensor([[512.0, 256]])
    pyramid = [level.requires_grad_() for level in pyramid]
    pooled = pool_regions(pyramid, (4, 8, 16, 32), boxes, image, 14, "seamseg")
    steps = (torch.arange(14) + 0.5) / 14
    levels, alone = region_levels(boxes, (4, 8, 16, 32)), []
    assert levels.tolist() == [1, 0, 0, 3]
    for box, b, level in zip(boxes, image, levels, strict=True):
        shift = 0.5 * 4 * 2**level  # half a cell of the level, in pixels
        x, y = ((box[:2] + (box[2:] - box[:2]) * steps[:, None] - 0.5 + shift) / sides * 2 - 1).T
        grid = torch.stack([x.expand(14, 14), y[:, None].expand(14, 14)], dim=2)[None]
        alone.append(F.grid_sample(pyramid[level][b, None], grid, padding_mode="border", align_corners=False))
    expected = torch.cat(alone)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
    found, known = (torch.autograd.grad(r.square().sum(), pyramid, allow_unused=True) for r in (pooled, expected))
    for one, other in zip(found, known, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, atol=1e-3, rtol=1e-4)


def test_detectron2s_pooling_is_torchvisions(pyramid):
    boxes, image = boxes_in(256, 512, 40, seed=2), torch.arange(40) % 2
    pooled = pool_regions(pyramid, (4, 8, 16, 32), boxes, image, 7, "detectron2")
    level = region_levels(boxes, (4, 8, 16, 32))
    for row in range(len(boxes)):
        roi = torch.cat([image[row : row + 1].float(), boxes[row]])[None]
        expected = roi_align(pyramid[level[row]], roi, 7, 1 / (4 * 2 ** int(level[row])), -1, aligned=True)
        assert torch.allclose(pooled[row], expected[0], atol=1e-6)


def test_levels_are_those_of_torchvisions_pooler(pyramid):
    boxes = boxes_in(256, 512, 40, seed=3)
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    pooler({str(i): level[:1] for i, level in enumerate(pyramid)}, [boxes], [(256, 512)])
    assert torch.equal(region_levels(boxes, (4, 8, 16, 32)), pooler.map_levels([boxes]))


@pytest.mark.parametrize("compat", ["seamseg", "detectron2"])
def test_no_box(pyramid, compat):
    nothing = torch.zeros(0, dtype=torch.int64)
    assert pool_regions(pyramid, (4, 8, 16, 32), torch.zeros(0, 4), nothing, 7, compat).shape == (0, 3, 7, 7)
