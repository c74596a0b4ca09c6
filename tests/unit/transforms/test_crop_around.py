"""Crops that show given segments, and the sides at which they cut segments off."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from maps import a_map, generated_map

from panscape import PanopticMap
from panscape.geometry import Size
from panscape.transforms import crop_around
from panscape.transforms.checks import MEAN_COLOR
from panscape.transforms.resize import resize

FIRST = torch.tensor([True])


def recorded(truth: PanopticMap) -> PanopticMap:
    return replace(truth, cut_off=torch.zeros(len(truth), 4, dtype=torch.bool))


def an_object(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> PanopticMap:
    ids = torch.zeros(size, dtype=torch.int32)
    ids[top:bottom, left:right] = 1
    return recorded(PanopticMap(ids, torch.tensor([2])))


def image_of(truth: PanopticMap) -> torch.Tensor:
    """Return an image whose first channel has the row and whose second the column of each pixel."""
    image = torch.zeros(3, *truth.size, dtype=torch.uint8)
    image[0], image[1] = torch.arange(truth.size.height)[:, None], torch.arange(truth.size.width)
    return image


def crops(truth: PanopticMap, rows: torch.Tensor, window: tuple[int, int], count: int, factor: float = 1.0):
    size = Size(*(round(length * factor) for length in truth.size))
    generator = torch.Generator().manual_seed(0)
    return [crop_around(image_of(truth), truth, size, rows, window, generator) for _ in range(count)]


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("seed", range(3))
def test_the_segment_is_always_visible(seed: int, factor: float):
    truth = generated_map(seed, (60, 80), smallest=4)
    for row in range(len(truth)):
        rows = torch.arange(len(truth)) == row
        for image, crop in crops(truth, rows, (16, 20), 5, factor):
            assert crop.size == (16, 20)
            assert image.shape == (3, 16, 20)
            assert int(truth.category[row]) in crop.category.tolist()


def test_pixels_are_uniform_and_so_are_the_windows_around_them():
    """Of a line of 40 pixels, each window of 5 that lies in the image shows its pixels as often as it has some."""
    truth = an_object((1, 44), 0, 2, 1, 42)
    lefts = Counter(int(image[1, 0, 0]) for image, _ in crops(truth, FIRST, (1, 5), 400))
    assert lefts.keys() == set(range(40))
    middle = [lefts[left] for left in range(8, 32)]
    assert sum(middle) / len(middle) == pytest.approx(10, abs=1.5)
    assert min(middle) > 2


def test_image_and_map_stay_together_and_the_rest_is_padding():
    truth = generated_map(3, (20, 30), smallest=4)
    ((image, crop),) = crops(truth, truth.category == truth.category[0], (48, 50), 1, 2.0)
    assert (image[:, 40:] == torch.tensor(MEAN_COLOR, dtype=torch.uint8)[:, None, None]).all()
    assert not crop.ids[40:].any()
    source = truth.ids[image[0, :40].long(), image[1, :40].long()]
    same = crop.ids[:40] > 0
    assert torch.equal(same, source > 0)


def test_where_a_line_vanishes_at_a_small_scale_another_place_is_searched_for():
    drawing = ["A" * (9 if y == 3 else 8) + ("B" if y < 9 else "A") + "A" * 8 for y in range(16)]
    truth = a_map("\n".join(row[:16] for row in drawing))
    line = torch.tensor([False, True])
    assert resize(image_of(truth), truth, Size(8, 8))[1].areas().tolist()[1:] == [1]  # of nine pixels
    for _, crop in crops(truth, line, (4, 4), 20, 0.5):
        assert 1 in crop.category.tolist()
    gone = a_map("AAAA\nAABA\nAAAA\nAAAA")
    assert crops(gone, line, (2, 2), 1, 0.5)[0][1].category.tolist() == [0]  # nothing is left of it anywhere


def test_without_a_pixel_the_place_is_uniform():
    truth = PanopticMap(torch.zeros(12, 16, dtype=torch.int32), torch.tensor([2]))
    corners = {(int(i[0, 0, 0]), int(i[1, 0, 0])) for i, _ in crops(truth, FIRST, (8, 8), 400)}
    assert corners == {(y, x) for y in range(5) for x in range(9)}


OBJECTS = [an_object((60, 60), 20, 20, 20 + h, 20 + w) for h in (6, 12, 30) for w in (6, 12, 30)]


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.5])
def test_every_combination_of_sides(factor: float):
    """A side is cut off if and only if pixels of the object lie beyond it; checked by the pixels' own coordinates."""
    seen = set()
    for truth in OBJECTS:
        x0, y0, x1, y1 = truth.boxes()[0].tolist()
        window = round(12 * factor)
        for image, crop in crops(truth, FIRST, (window, window), 24, factor):
            cut = crop.cut_off[0].tolist()
            seen.add(tuple(cut))
            left, top, right, bottom = crop.boxes()[0].tolist()
            touches = [left == 0, top == 0, right == window, bottom == window]
            assert all(touch or not side for touch, side in zip(touches, cut, strict=True))
            if factor == 1:
                first, last = image[:2, 0, 0].tolist(), image[:2, -1, -1].tolist()
                assert cut == [x0 < first[1], y0 < first[0], x1 - 1 > last[1], y1 - 1 > last[0]]
            if not (cut[0] or cut[2]):
                assert right - left == pytest.approx((x1 - x0) * factor, abs=1)
            elif touches[0] != touches[2]:
                assert right - left < (x1 - x0) * factor
            assert crop.flip().cut_off[0].tolist() == [cut[2], cut[1], cut[0], cut[3]]
            assert crop.pad(70, 80).cut_off[0].tolist() == cut
    assert len(seen) == 16


def test_the_border_of_the_image_and_an_exact_touch_cut_nothing_off():
    whole = an_object((10, 12), 0, 0, 10, 12)
    for window in ((10, 12), (16, 20)):  # the second is padded at the right and at the bottom
        for _, crop in crops(whole, FIRST, window, 5):
            assert not crop.cut_off.any()
    exact = [crop for _, crop in crops(an_object((10, 30), 2, 9, 8, 21), FIRST, (10, 12), 80)]
    for crop in exact:
        left, _, right, _ = crop.boxes()[0].tolist()
        assert crop.cut_off[0].any() == (right - left < 12)
    assert any(not crop.cut_off.any() for crop in exact)
