"""Masks stored as crops within windows."""

from __future__ import annotations

import pytest
import torch

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.ops.cropped_masks import CroppedMasks


def drawn(*drawings):
    return torch.stack([torch.tensor([[c == "#" for c in row] for row in d.split()]) for d in drawings])


MASKS = drawn("..... .##.. .#...", "..... ..... .....", "....# ..... #....")


def test_masks_are_cut_to_tight_windows():
    windows = CroppedMasks.from_masks(MASKS)
    assert windows.boxes.tolist() == [[1, 1, 3, 3], [0, 0, 0, 0], [0, 0, 5, 3]]
    assert windows.starts.tolist() == [0, 4, 4, 19]
    assert windows.pixels[:4].tolist() == [True, True, True, False]
    assert len(windows) == 3
    assert torch.equal(windows.to_masks((3, 5)), MASKS)


@pytest.mark.parametrize(
    ("max_pixels", "calls"), [(45, [3]), (44, [2, 1]), (30, [2, 1]), (29, [1, 1, 1]), (0, [1, 1, 1])]
)
def test_masks_may_be_made_a_few_at_a_time(max_pixels, calls):
    made = []

    def make(some):
        made.append(len(MASKS[some]))
        return MASKS[some]

    found, whole = CroppedMasks.from_parts(make, 3, (3, 5), max_pixels), CroppedMasks.from_masks(MASKS)
    assert made == calls
    for part in ("boxes", "pixels", "starts"):
        assert torch.equal(getattr(found, part), getattr(whole, part))


def test_windows_come_with_their_rows_and_columns():
    rows, columns, window = next(iter(CroppedMasks.from_masks(MASKS)))
    assert (rows, columns) == (slice(1, 3), slice(1, 3))
    assert window.tolist() == [[True, True], [True, False]]


def test_windows_may_be_put_into_a_larger_image():
    masks = CroppedMasks.from_masks(MASKS).to_masks((4, 7))
    assert torch.equal(masks[:, :3, :5], MASKS)
    assert masks.sum() == MASKS.sum()


@pytest.mark.parametrize("size", [(3, 5), (0, 5), (3, 0)])
def test_no_masks(size):
    windows = CroppedMasks.from_masks(torch.zeros(0, *size, dtype=torch.bool))
    assert (len(windows), windows.boxes.shape, windows.pixels.shape) == (0, (0, 4), (0,))
    assert windows.starts.tolist() == [0]
    assert windows.to_masks(size).shape == (0, *size)
    parts = CroppedMasks.from_parts(lambda some: torch.zeros(3, *size, dtype=torch.bool)[:0][some], 0, size, 100)
    assert (len(parts), parts.pixels.shape, parts.starts.tolist()) == (0, (0,), [0])


def test_crops_with_boxes():
    crops = [torch.tensor([[True, False, True]]), torch.zeros(0, 2, dtype=torch.bool)]
    windows = CroppedMasks.from_crops(crops, torch.tensor([[2, 1, 5, 2], [1, 1, 3, 1]]))
    assert torch.equal(windows.to_masks((3, 5)), drawn("..... ..#.# .....", "..... ..... ....."))
    assert windows.boxes.dtype == torch.int32


BOXES = torch.tensor([[1, 0, 3, 2]], dtype=torch.int32)
BITS = torch.ones(4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("boxes", "pixels", "starts", "message"),
    [
        (BOXES.long(), BITS, [0, 4], r"expected boxes as torch.int32 \[1, 4\], got torch.int64 \[1, 4\]"),
        (BOXES[:, :3], BITS, [0, 4], r"expected boxes as torch.int32 \[1, 4\], got torch.int32 \[1, 3\]"),
        (BOXES, BITS.byte(), [0, 4], r"expected pixels as torch.bool \[4\], got torch.uint8 \[4\]"),
        (BOXES, BITS[None], [0, 4], r"expected pixels as torch.bool \[4\], got torch.bool \[1, 4\]"),
        (BOXES, BITS, [0], r"expected starts as torch.int64 \[2\], got torch.int64 \[1\]"),
        (BOXES, BITS, [0, 3], "windows with 4 pixels in total"),
        (BOXES, BITS, [1, 4], "windows with 4 pixels in total"),
        (BOXES, BITS[:3], [0, 4], "to 3 pixels, got windows with 4 pixels in total"),
        (BOXES[:, [2, 1, 0, 3]], BITS, [0, 4], "expected windows inside the image"),
        (BOXES - 1, BITS, [0, 4], "expected windows inside the image"),
    ],
)
def test_contradictions_are_refused(boxes, pixels, starts, message):
    with pytest.raises(InvalidArgumentError, match=message):
        CroppedMasks(boxes, pixels, torch.tensor(starts))


def test_windows_that_leave_the_image_are_refused():
    windows = CroppedMasks.from_masks(MASKS)
    for size in ((2, 5), (3, 4)):
        with pytest.raises(InvalidArgumentError, match="windows up to row 3 and column 5"):
            windows.to_masks(size)


def test_masks_and_crops_of_other_types_or_shapes_are_refused():
    with pytest.raises(InvalidArgumentError, match=r"expected masks as bool \[P, H, W\], got torch.float32 \[2, 3\]"):
        CroppedMasks.from_masks(torch.zeros(2, 3))
    crop = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(InvalidArgumentError, match=r"expected a crop as bool \[2, 3\], got torch.bool \[2, 2\]"):
        CroppedMasks.from_crops([crop], torch.tensor([[0, 0, 3, 2]]))
    with pytest.raises(InvalidArgumentError, match=r"expected a crop as bool \[2, 2\], got torch.float32 \[2, 2\]"):
        CroppedMasks.from_crops([crop.float()], torch.tensor([[0, 0, 2, 2]]))
    with pytest.raises(InvalidArgumentError, match=r"expected integer boxes as \[1, 4\] for 1 crops"):
        CroppedMasks.from_crops([crop], torch.tensor([[0.0, 0, 2, 2]]))


@pytest.mark.parametrize("new_size", [(3, 5), (6, 10), (2, 3), (7, 4), (1, 1)])
def test_masks_are_resized_as_maps_are(new_size):
    resized = CroppedMasks.from_masks(MASKS).resize((3, 5), new_size)
    maps = [PanopticMap(mask.int(), torch.tensor([0])).resize(*new_size).ids > 0 for mask in MASKS]
    assert torch.equal(resized.to_masks(new_size), torch.stack(maps))


def test_masks_that_leave_the_image_are_not_resized():
    with pytest.raises(InvalidArgumentError, match="windows inside the image of 2x5"):
        CroppedMasks.from_masks(MASKS).resize((2, 5), (4, 10))
    with pytest.raises(InvalidArgumentError, match="a size of at least 1x1, got 0x3"):
        CroppedMasks.from_masks(MASKS).resize((3, 5), (0, 3))
