"""Class-uniform and instance-scale-uniform sampling."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map

from panscape import LabelSpace
from panscape.datasets.segment_index import SEGMENT
from panscape.datasets.segment_sampling import SegmentSampler, sample_side
from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.nn.region_pooling import region_levels

SKY, GROUND, DISC, BOX = range(4)
STRIDES = (4, 8, 16, 32)


def table(*rows: tuple[int, int, int, int, int, bool]) -> np.ndarray:
    """Return segments from (image, position, width, height, category, crowd)."""
    return np.array(list(rows), SEGMENT)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_categories_and_then_their_images_are_uniform():
    sky = [(image, 0, 100, 50, SKY, False) for image in range(20)]
    discs = [(3, position, 5, 5, DISC, False) for position in range(1, 9)] + [(7, 1, 5, 5, DISC, False)]
    sampler = SegmentSampler(table(*sky, *discs, (7, 2, 9, 9, BOX, False)), SHAPES, by_scale=False)
    assert sampler.categories == [SKY, DISC, BOX]  # no segment shows the ground
    generator = seeded()
    found = [sampler.sample(generator) for _ in range(6000)]
    times = Counter(choice.category for choice in found)
    assert [times[c] for c in (SKY, DISC, BOX)] == pytest.approx([2000] * 3, abs=120)  # the deviation is 37
    images = Counter(choice.image for choice in found if choice.category == DISC)
    assert images[3] == pytest.approx(times[DISC] / 2, abs=80)  # not by its eight discs
    assert images.keys() == {3, 7}
    assert {choice.image for choice in found if choice.category == SKY} == set(range(20))
    assert all(choice.position is None for choice in found)


def test_instances_are_uniform_in_their_image():
    rows = [(0, position, position + 1, 4, DISC, False) for position in range(4)]
    sampler = SegmentSampler(table(*rows, (1, 0, 50, 60, SKY, False)), SHAPES, by_scale=True)
    generator = seeded()
    found = [sampler.sample(generator) for _ in range(4000)]
    positions = Counter(choice.position for choice in found)
    assert [positions[p] for p in range(4)] == pytest.approx([500] * 4, abs=80)
    assert positions[None] == pytest.approx(2000, abs=130)  # stuff has no instance
    assert {round(choice.side**2) for choice in found if choice.position is not None} == {4, 8, 12, 16}


def test_levels_are_uniform_without_a_clamp():
    """The rule of the network assigns each object to the level that was drawn, so that all get the same share."""
    sides = np.exp(np.random.default_rng(0).uniform(np.log(4), np.log(2000), (500, 2))).astype(int)
    rows = [(0, position, w, h, DISC, False) for position, (w, h) in enumerate(sides.tolist())]
    sampler = SegmentSampler(table(*rows), SHAPES, by_scale=True, shortest_side=700, thing_scale=(1e-6, 1e6))
    generator, boxes = seeded(), []
    for _ in range(8000):
        choice = sampler.sample(generator)
        scale = sampler.sample_scale(choice, Size(1400, 2100), generator)
        assert scale.is_clamped is False
        boxes.append([0.0, 0.0, *(sides[choice.position] * scale.factor)])
    levels = region_levels(torch.tensor(boxes), STRIDES).bincount(minlength=4) / len(boxes)
    assert levels.tolist() == pytest.approx([0.25] * 4, abs=0.01)


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("level_side", [112.0, 32.0])
def test_a_drawn_side_belongs_to_its_level(level_side: float, level: int):
    generator = seeded(level)
    sides = torch.tensor([sample_side(level, generator, level_side) for _ in range(1000)])
    boxes = torch.stack([torch.zeros(1000), torch.zeros(1000), sides, sides], dim=1)
    assert (region_levels(boxes, STRIDES, level_side) == level).all()
    middle = level_side * 2 ** (level - 0.5)  # half of a log-uniform draw
    assert float((sides < middle).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_scales_beyond_the_range_are_clamped_and_say_so():
    sampler = SegmentSampler(table((0, 0, 100, 100, DISC, False)), SHAPES, by_scale=True, thing_scale=(0.8, 3.0))
    generator = seeded()
    choice = sampler.sample(generator)
    scales = [sampler.sample_scale(choice, Size(200, 300), generator) for _ in range(2000)]
    assert {scale.is_clamped for scale in scales} == {True, False}
    assert all(scale.is_clamped == (scale.factor in (0.8, 3.0)) for scale in scales)
    assert all(0.8 <= scale.factor <= 3.0 for scale in scales)
    # Of the four octaves from 56 pixels on, log2(80 / 56) are below the range and log2(896 / 300) above.
    rate = (np.log2(80 / 56) + np.log2(896 / 300)) / 4
    assert np.mean([scale.is_clamped for scale in scales]) == pytest.approx(rate, abs=0.04)


def test_the_range_is_relative_to_the_shortest_side():
    sampler = SegmentSampler(
        table((0, 0, 100, 100, DISC, False), (0, 1, 9, 9, SKY, False)),
        SHAPES,
        by_scale=True,
        shortest_side=50,
        scale=(0.5, 2.0),
        thing_scale=(1.0, 1.0),
    )
    generator, factors = seeded(), {DISC: set(), SKY: set()}
    for _ in range(200):
        choice = sampler.sample(generator)
        scale = sampler.sample_scale(choice, Size(200, 300), generator)
        factors[choice.category].add(scale.factor)
        assert scale.is_clamped is (None if choice.category == SKY else True)
    assert factors[DISC] == {0.25}
    assert 0.125 <= min(factors[SKY]) < 0.15
    assert 0.47 < max(factors[SKY]) <= 0.5


def test_crowds_stand_for_a_category_only_if_it_has_nothing_else():
    rows = table((0, 0, 9, 9, DISC, True), (1, 0, 9, 9, DISC, False), (2, 0, 9, 9, BOX, True))
    sampler = SegmentSampler(rows, SHAPES, by_scale=True)
    generator = seeded()
    found = {sampler.sample(generator)[:3] for _ in range(100)}
    assert found == {(1, DISC, 0), (2, BOX, None)}  # the scale of a group is not that of an object


def test_rows_are_the_segments_to_show():
    truth = a_map("AABBCC", {"A": DISC, "B": DISC, "C": BOX}, crowd="B")
    sampler = SegmentSampler(table((0, 0, 2, 1, DISC, False)), SHAPES, by_scale=False)
    assert sampler.sample(seeded()).rows(truth).tolist() == [True, False, False]
    only_crowd = a_map("AABBCC", {"A": SKY, "B": DISC, "C": BOX}, crowd="B")
    assert sampler.sample(seeded()).rows(only_crowd).tolist() == [False, True, False]
    by_scale = SegmentSampler(table((0, 2, 2, 1, BOX, False)), SHAPES, by_scale=True)
    assert by_scale.sample(seeded()).rows(truth).tolist() == [False, False, True]


@pytest.mark.parametrize("is_thing", [True, False])
def test_label_spaces_of_things_or_stuff_only(is_thing: bool):
    labels = LabelSpace("one", tuple(c for c in SHAPES if c.is_thing == is_thing))
    sampler = SegmentSampler(table((4, 2, 9, 4, 1, False)), labels, by_scale=True)
    assert sampler.sample(seeded()) == (4, 1, *((2, 6.0) if is_thing else (None, pytest.approx(np.nan, nan_ok=True))))


def test_without_segments_there_is_nothing_to_sample():
    with pytest.raises(InvalidArgumentError, match=r'found none; set sampling\.kind to "images"'):
        SegmentSampler(table(), SHAPES, by_scale=False)
