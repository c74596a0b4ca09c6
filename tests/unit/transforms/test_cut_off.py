"""Which sides of objects a crop cuts off, through all transforms."""

import itertools
from dataclasses import replace

import pytest
import torch
from maps import a_map, generated_map

from panscape import PanopticMap
from panscape.ops.boxes import cut_off_sides
from panscape.transforms import Compose, CopyPaste, RandomCrop, RandomFlip, Rotation, ScaleJitter


def recorded(truth: PanopticMap) -> PanopticMap:
    return replace(truth, cut_off=torch.zeros(len(truth), 4, dtype=torch.bool))


def one_object(left: int, top: int, right: int, bottom: int) -> PanopticMap:
    """Return a map of 20 x 24 pixels with one object."""
    ids = torch.zeros(20, 24, dtype=torch.int32)
    ids[top:bottom, left:right] = 1
    return recorded(PanopticMap(ids, torch.tensor([2])))


@pytest.mark.parametrize("cut", list(itertools.product([False, True], repeat=4)))
def test_all_combinations(cut):
    left, top, right, bottom = cut
    whole = one_object(2 if left else 8, 1 if top else 7, 22 if right else 14, 18 if bottom else 12)
    window = whole.crop(5, 6, 10, 12)  # rows 5..14, columns 6..17
    assert window.cut_off.tolist() == [list(cut)]
    visible = whole.boxes() - torch.tensor([6.0, 5, 6, 5])
    assert torch.equal(window.cut_off, cut_off_sides(visible, window.boxes(), window.size))
    assert window.flip().cut_off.tolist() == [[right, top, left, bottom]]
    assert window.rot90(1).cut_off.tolist() == [[top, right, bottom, left]]
    assert window.pad(20, 24).cut_off.tolist() == [list(cut)]
    assert window.resize(20, 24).cut_off.tolist() == [list(cut)]
    for turns in range(4):  # the recorded sides turn with the pixels
        assert torch.equal(whole.rot90(turns).crop(*_turned_window(turns)).cut_off, window.rot90(turns).cut_off)


def _turned_window(turns):
    """Return the window of rows 5..14 and columns 6..17 of 20 x 24 pixels after quarter turns."""
    top, left, height, width, rows, columns = 5, 6, 10, 12, 20, 24
    for _ in range(turns):
        top, left = columns - left - width, top
        height, width, rows, columns = width, height, columns, rows
    return top, left, height, width


class TestExactly:
    def test_an_object_that_ends_at_the_window_is_whole(self):
        assert not one_object(6, 5, 18, 15).crop(5, 6, 10, 12).cut_off.any()

    def test_one_pixel_beyond_is_enough(self):
        assert one_object(5, 5, 18, 15).crop(5, 6, 10, 12).cut_off.tolist() == [[True, False, False, False]]

    def test_the_border_of_the_image_cuts_nothing_off(self):
        assert one_object(0, 0, 24, 20).crop(0, 0, 20, 24).cut_off.tolist() == [[False] * 4]
        assert one_object(0, 0, 24, 20).crop(0, 0, 20, 12).cut_off.tolist() == [[False, False, True, False]]

    def test_a_second_crop_keeps_what_the_first_one_cut_off(self):
        once = one_object(2, 7, 22, 12).crop(5, 6, 10, 12)
        assert once.crop(0, 0, 10, 6).cut_off.tolist() == [[True, False, True, False]]
        assert once.crop(0, 1, 10, 11).cut_off.tolist() == [[True, False, True, False]]

    def test_only_a_part_that_touches_the_side(self):
        truth = recorded(a_map("AA....\nAABBAA\n..BB..", {"A": 2, "B": 3}))
        # A continues to the left, but its visible part ends before the window's side: B is in front of it.
        assert truth.crop(1, 2, 2, 4).cut_off.tolist() == [[False, True, False, False], [False] * 4]


class TestTransforms:
    def test_maps_without_a_record_stay_without(self):
        truth = generated_map(0)
        image = torch.zeros(3, *truth.size, dtype=torch.uint8)
        _, crop = RandomCrop((40, 40))(image, truth, torch.Generator().manual_seed(0))
        assert crop.cut_off is None

    @pytest.mark.parametrize("seed", range(12))
    def test_the_record_is_that_of_the_boxes(self, seed):
        """Objects are followed through resize, crop and flip by painting them alone, without any crop."""
        truth = recorded(generated_map(seed))
        image = torch.zeros(3, *truth.size, dtype=torch.uint8)
        transform = Compose((ScaleJitter(0.8, 1.6), RandomCrop((48, 56)), RandomFlip(0.5)))
        _, crop = transform(image, truth, torch.Generator().manual_seed(seed))
        edges = torch.tensor([0, 0, 56, 48])
        touches = torch.cat([crop.boxes()[:, :2] <= edges[:2], crop.boxes()[:, 2:] >= edges[2:]], dim=1)
        assert (touches | ~crop.cut_off).float().mean() > 0.99  # a resize may take the outermost pixel
        assert crop.cut_off.any()
        # Nothing in the crop is cut off if the crop is the whole image.
        _, everything = Compose((ScaleJitter(0.8, 1.6), RandomCrop((300, 300))))(
            image, truth, torch.Generator().manual_seed(seed)
        )
        assert not everything.cut_off.any()

    def test_turned_by_any_angle_nothing_is_recorded_as_cut_off(self):
        window = one_object(2, 1, 22, 18).crop(5, 6, 10, 12)
        image = torch.zeros(3, 10, 12, dtype=torch.uint8)
        _, turned = Rotation("any")(image, window, torch.Generator().manual_seed(0))
        assert turned.cut_off.tolist() == [[False] * 4]

    def test_pasted_objects_bring_their_own(self):
        below = recorded(a_map("SSSSSS\nSSSSSS\nSSSSSS", {"S": 0})).crop(0, 0, 3, 5)
        other = recorded(a_map("..AAAA\n..AAAA\n......", {"A": 2})).crop(0, 0, 3, 5)
        image = torch.zeros(3, 3, 5, dtype=torch.uint8)
        paste = CopyPaste({2}, min_area=1, flip=0.0, shift=0.0)
        _, both = paste(image, below, image, other, torch.Generator().manual_seed(0))
        assert both.category.tolist() == [0, 2]
        assert both.cut_off.tolist() == [[False, False, True, False], [False, False, True, False]]

    def test_shifting_an_object_out_of_the_map_cuts_it_off(self):
        below = one_object(0, 0, 1, 1)
        assert below.paste(one_object(3, 3, 9, 9), -5, 0).cut_off.tolist() == [[False] * 4, [False, True, False, False]]
        assert below.paste(generated_map(0), 0, 0).cut_off is None
