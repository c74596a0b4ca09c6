"""Pasted masks: two implementations against each other and against grid_sample, as detectron2 pastes them."""

import pytest
import torch
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.ops.cropped_masks import CroppedMasks
from panscape.ops.paste_masks import paste_masks, paste_masks_reference

SIZE = (60, 90)


def random_masks(num, cells, seed):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(num, 1, 5, 5, generator=generator)
    probs = F.interpolate(probs, size=(cells, cells), mode="bilinear")[:, 0] * 1.4 - 0.2
    corner = torch.rand(num, 2, generator=generator) * torch.tensor([100.0, 70.0]) - 10
    sides = torch.exp(torch.rand(num, 2, generator=generator) * 5 - 0.5)
    return probs.clamp(0, 1), torch.cat([corner, corner + sides], 1)


def sampled(probs, boxes):
    """Return probabilities at every pixel, [P, H, W], as detectron2 pastes masks."""
    x0, y0, x1, y1 = (boxes[:, i, None] for i in range(4))
    y = (torch.arange(SIZE[0]) + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(SIZE[1]) + 0.5 - x0) / (x1 - x0) * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, SIZE[0], -1), y[:, :, None].expand(-1, -1, SIZE[1])], dim=3)
    return F.grid_sample(probs[:, None], grid, align_corners=False)[:, 0]


@pytest.mark.parametrize("cells", [1, 7, 28])
def test_against_grid_sample(cells):
    probs, boxes = random_masks(120, cells, seed=cells)
    expected = sampled(probs, boxes)
    masks = paste_masks(probs, boxes, SIZE).to_masks(SIZE)
    difference = masks != (expected >= 0.5)
    assert difference.sum() < 20  # of 648,000 pixels, ties up to rounding
    assert ((expected[difference] - 0.5).abs() < 1e-5).all()
    assert masks.any(2).any(1).sum() > 30


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_both_implementations_agree_in_every_pixel(threshold):
    probs, boxes = random_masks(150, 28, seed=0)
    fast, plain = (paste(probs, boxes, SIZE, threshold) for paste in (paste_masks, paste_masks_reference))
    assert torch.equal(fast.boxes, plain.boxes)
    assert torch.equal(fast.pixels, plain.pixels)
    assert 0.1 < fast.pixels.float().mean() < 0.9


def test_a_full_mask_covers_the_pixels_whose_centers_are_in_its_box():
    masks = paste_masks(torch.ones(2, 28, 28), torch.tensor([[2.4, 3.0, 6.4, 5.0], [2.6, 3.5, 6.6, 5.6]]), SIZE)
    columns, rows = masks.to_masks(SIZE)[0].any(0), masks.to_masks(SIZE)[0].any(1)
    assert columns.nonzero()[:, 0].tolist() == [2, 3, 4, 5]
    assert rows.nonzero()[:, 0].tolist() == [3, 4]
    columns, rows = masks.to_masks(SIZE)[1].any(0), masks.to_masks(SIZE)[1].any(1)
    assert columns.nonzero()[:, 0].tolist() == [3, 4, 5, 6]
    assert rows.nonzero()[:, 0].tolist() == [3, 4, 5]


def test_boxes_outside_empty_and_broken_are_empty_masks():
    boxes = torch.tensor([[-9.0, 0, -2, 9], [5, 5, 5, 9], [8, 9, 4, 2], [torch.nan, 0, 3, 3], [0, 0, torch.inf, 5]])
    for paste in (paste_masks, paste_masks_reference):
        assert not paste(torch.ones(5, 4, 4), boxes, SIZE).pixels.any()
        assert isinstance(paste(torch.ones(0, 4, 4), boxes[:0], SIZE), CroppedMasks)


@pytest.mark.parametrize(
    ("probs", "boxes", "threshold", "message"),
    [
        (torch.ones(2, 4, 5), torch.ones(2, 4), 0.5, r"\[P, M, M\] and boxes \[P, 4\], got \[2, 4, 5\]"),
        (torch.ones(2, 4, 4), torch.ones(3, 4), 0.5, r"got \[2, 4, 4\] and \[3, 4\]"),
        (torch.ones(2, 4, 4), torch.ones(2, 4), 0.3, r"a threshold in 0\.5\.\.1, got 0\.3"),
    ],
)
def test_bad_arguments(probs, boxes, threshold, message):
    with pytest.raises(InvalidArgumentError, match=message):
        paste_masks(probs, boxes, SIZE, threshold)
