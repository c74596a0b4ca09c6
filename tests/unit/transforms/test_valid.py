"""Which part of a map is not padding, through all transforms."""

import pytest
import torch
from maps import a_map, generated_map

from panscape import PanopticMap
from panscape.errors import InvalidMapError
from panscape.transforms import Compose, RandomCrop, RandomFlip, Rotation, ScaleJitter


def painted(truth: PanopticMap) -> tuple[int, int, int, int]:
    """Return the box of all segments: the valid part of maps without void."""
    rows, columns = truth.ids.amax(1).nonzero()[:, 0], truth.ids.amax(0).nonzero()[:, 0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_only_padding_records_it():
    whole = a_map("SSS\nSSS", {"S": 0})
    assert whole.crop(0, 1, 2, 2).flip().resize(4, 4).rot90(1).valid is None
    padded = whole.pad(4, 5)
    assert padded.valid == padded.pad(7, 7).valid == (0, 0, 3, 2)
    assert padded.select([True]).valid == (0, 0, 3, 2)
    assert PanopticMap.empty((4, 5)).paste(padded, 0, 0).valid is None
    assert padded.paste(whole, 2, 2).valid == (0, 0, 3, 2)


@pytest.mark.parametrize("turns", range(-1, 4))
def test_it_moves_with_the_pixels(turns):
    padded = PanopticMap(torch.ones(20, 30, dtype=torch.int32), torch.tensor([0])).pad(40, 36)
    for moved in (padded, padded.flip()):
        for window in (moved, moved.crop(3, 2, 20, 31), moved.crop(10, 0, 30, 36)):
            for sized in (window, window.resize(50, 17), window.resize(9, 9)):
                turned = sized.rot90(turns)
                assert turned.valid == painted(turned)


@pytest.mark.parametrize("seed", range(12))
def test_crops_of_small_images(seed):
    truth = generated_map(seed, void=False)
    image = torch.zeros(3, *truth.size, dtype=torch.uint8)
    transform = Compose((ScaleJitter(0.5, 1.0), RandomCrop((200, 200)), RandomFlip(0.5), Rotation("right_angles")))
    _, crop = transform(image, truth, torch.Generator().manual_seed(seed))
    assert crop.valid == painted(crop)
    # A resize alone follows the pixels as well.
    _, resized = ScaleJitter(0.5, 2.0)(torch.zeros(3, 200, 200, dtype=torch.uint8), crop, torch.Generator())
    assert resized.valid == painted(resized)


def test_windows_of_padding_have_no_valid_part():
    left, top, right, bottom = a_map("SS", {"S": 0}).pad(6, 6).crop(3, 3, 2, 2).valid
    assert left == right
    assert top == bottom


def test_turned_by_any_angle_it_is_not_known():
    image = torch.zeros(3, 6, 6, dtype=torch.uint8)
    _, turned = Rotation("any")(image, a_map("SS", {"S": 0}).pad(6, 6), torch.Generator().manual_seed(0))
    assert turned.valid is None


@pytest.mark.parametrize("valid", [(0, 0, 3, 3), (-1, 0, 2, 2), (2, 0, 1, 2)])
def test_it_lies_inside_of_the_map(valid):
    with pytest.raises(InvalidMapError, match=r"expected valid as left, top, right, bottom inside of 2x3 pixels"):
        PanopticMap(torch.zeros(2, 3, dtype=torch.int32), torch.zeros(0, dtype=torch.int64), valid=valid)
