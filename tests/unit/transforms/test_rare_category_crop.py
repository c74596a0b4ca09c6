"""Crops at rare categories; the common behaviour of crops is tested in test_transforms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from maps import a_map
from torch import Generator, Tensor

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.transforms import Compose, RandomCrop, RareCategoryCrop, Resize, ScaleJitter, Transform

WIDE = a_map("A" * 90 + "B" + "A" * 4 + "C" + "A" * 4)
"""A row of 100 pixels with B at 90 and C at 95."""


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def black(truth: PanopticMap) -> Tensor:
    return torch.zeros(3, *truth.size, dtype=torch.uint8)


def share_with(category: int, transform: RareCategoryCrop, truth: PanopticMap, number: int = 200) -> float:
    """Return the fraction of crops that contain a category."""
    crops = (transform(black(truth), truth, seeded(seed))[1] for seed in range(number))
    return sum(category in crop.category.tolist() for crop in crops) / number


def test_a_rare_category_is_always_hit_if_it_is_always_aimed_at() -> None:
    assert share_with(1, RareCategoryCrop((1, 10), (1, 2, 1), probability=1, attempts=1000), WIDE) == 1
    # Without aim: of 91 positions, ten show column 90.
    assert share_with(1, RareCategoryCrop((1, 10), (1, 2, 1), probability=0), WIDE) == pytest.approx(10 / 91, abs=0.07)
    # Half the crops at random, the others aimed.
    half = share_with(1, RareCategoryCrop((1, 10), (1, 2, 1), attempts=1000), WIDE)
    assert half == pytest.approx((1 + 10 / 91) / 2, abs=0.1)


def test_aimed_positions_are_uniform_among_those_that_overlap() -> None:
    row = PanopticMap(torch.arange(1, 21, dtype=torch.int32)[None], torch.arange(20))
    rarity = tuple(5.0 if category == 10 else 1.0 for category in range(20))
    transform = RareCategoryCrop((1, 4), rarity, probability=1, attempts=1000)
    firsts = [int(transform(black(row), row, seeded(seed))[1].category[0]) for seed in range(400)]
    assert sorted(set(firsts)) == [7, 8, 9, 10]
    assert all(firsts.count(first) / 400 == pytest.approx(0.25, abs=0.06) for first in (7, 8, 9, 10))


def test_attempts_are_limited() -> None:
    # The chance of a miss is (81 / 91) to the power of the number of attempts.
    for attempts in (1, 5):
        share = share_with(1, RareCategoryCrop((1, 10), (1, 2, 1), probability=1, attempts=attempts), WIDE, 300)
        assert share == pytest.approx(1 - (81 / 91) ** attempts, abs=0.08)


def test_categories_are_drawn_by_rarity_and_their_segments_uniformly() -> None:
    drawn = a_map("ABCDEA")
    rarity = (1, 3, 2)
    # B, C and D are of one category; the score identifies the segment.
    truth = PanopticMap(drawn.ids, torch.tensor([0, 1, 1, 1, 2]), torch.arange(5) / 4)
    transform = RareCategoryCrop((1, 1), rarity, probability=1, attempts=10000)
    counts = torch.zeros(5)
    for seed in range(400):
        crop = transform(black(truth), truth, seeded(seed))[1]
        assert crop.score is not None
        counts[int(4 * crop.score[0])] += 1
    torch.testing.assert_close(counts / 400, torch.tensor([0, 0.2, 0.2, 0.2, 0.4]), atol=0.06, rtol=0)


def test_segments_without_pixels_are_not_aimed_at() -> None:
    truth = PanopticMap(WIDE.ids, torch.tensor([0, 1, 0, 2, 1, 2]))
    transform = RareCategoryCrop((1, 10), (1, 2, 50), probability=1, attempts=1000)
    assert share_with(1, transform, truth, 100) == 1
    gone = PanopticMap(torch.ones(1, 20, dtype=torch.int32), torch.tensor([0, 1]))
    assert share_with(0, transform, gone, 10) == 1


def test_without_rare_categories_it_is_a_plain_crop() -> None:
    for truth in (WIDE, PanopticMap.empty((1, 100))):
        transform = RareCategoryCrop((1, 10), (1, 1, 1), probability=1)
        for seed in range(10):
            generator = seeded(seed)
            torch.rand((), generator=generator, dtype=torch.float64)  # whether to aim
            expected = RandomCrop((1, 10))(black(truth), truth, generator)[1]
            assert torch.equal(transform(black(truth), truth, seeded(seed))[1].ids, expected.ids)


@pytest.mark.parametrize("before", [Resize((60, 600)), Resize((15, 150)), ScaleJitter(0.5, 3)], ids=repr)
def test_after_a_resizing_boxes_are_resized(before: Resize | ScaleJitter) -> None:
    ids = torch.ones(30, 300, dtype=torch.int32)
    ids[20:26, 250:280] = 2
    truth = PanopticMap(ids, torch.tensor([0, 1]))

    def seen(crop: Transform) -> int:
        crops = [Compose((before, crop))(black(truth), truth, seeded(seed))[1] for seed in range(100)]
        assert all(crop.size == (9, 16) for crop in crops)
        return sum(1 in crop.category.tolist() for crop in crops)

    # Some crops meet the box by less than the middle of a pixel.
    assert seen(RareCategoryCrop((9, 16), (1, 9), probability=1, attempts=10000)) >= 80
    assert seen(RandomCrop((9, 16))) <= 30


def test_an_image_smaller_than_the_window_is_extended() -> None:
    truth = a_map("AB\nAA")
    _, crop = RareCategoryCrop((3, 4), (1, 2), probability=1)(black(truth), truth, seeded(0))
    assert crop.ids.tolist() == [[1, 2, 0, 0], [1, 1, 0, 0], [0] * 4]


def test_a_category_without_rarity() -> None:
    with pytest.raises(InvalidArgumentError, match="a rarity for each category, got 2 and category 2"):
        RareCategoryCrop((1, 10), (1, 2), probability=1)(black(WIDE), WIDE, seeded(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RareCategoryCrop((0, 3), (1,)), r"size\[0\] of 1 or more, got 0"),
        (lambda: RareCategoryCrop((3, 3), (1, 0.5)), r"rarity\[1\] of 1 or more"),
        (lambda: RareCategoryCrop((3, 3), (1, float("nan"))), r"rarity\[1\] of 1 or more"),
        (lambda: RareCategoryCrop((3, 3), (1,), probability=2), "probability"),
        (lambda: RareCategoryCrop((3, 3), (1,), attempts=0), "attempts of 1 or more, got 0"),
        (lambda: RareCategoryCrop((3, 3), (1,), fill=(0, 0, 300)), r"0..255"),
    ],
)
def test_settings_that_make_no_sense(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        build()
