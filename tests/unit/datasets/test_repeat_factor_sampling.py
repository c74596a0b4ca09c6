"""Repeat factors against counts by hand, and epoch orders against their expected means."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from panscape.datasets.repeat_factor_sampling import (
    category_repeat_factors,
    epoch_order,
    repeat_factors,
    stochastic_round,
)
from panscape.errors import InvalidArgumentError

# Ten images: category 0 in all, 1 in four, 2 in one, 4 in two. With a threshold of 0.4 the factors are
# 1, sqrt(0.4 / 0.4) = 1, sqrt(0.4 / 0.1) = 2 and sqrt(0.4 / 0.2) = sqrt(2).
IMAGES = [{0, 1, 2}, {0, 1}, {0, 1, 4}, {0, 1}, {0, 4}, {0}, {0}, {0}, {0}, {0}]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_image_is_repeated_for_its_rarest_category():
    expected = [2, 1, sqrt(2), 1, sqrt(2), 1, 1, 1, 1, 1]
    torch.testing.assert_close(repeat_factors(IMAGES, 0.4), torch.tensor(expected, dtype=torch.float64))


def test_a_category_counts_once_an_image_and_in_any_collection():
    assert torch.equal(repeat_factors([[2, 2, 0], (0,), [0]], 1.0), torch.tensor([sqrt(3), 1, 1], dtype=torch.float64))


def test_rarity_of_categories():
    expected = torch.tensor([1, 1, 2, 1, sqrt(2), 1], dtype=torch.float64)  # 3 and 5 occur nowhere
    torch.testing.assert_close(category_repeat_factors(IMAGES, 0.4, 6), expected)


def test_nothing_is_rare_at_threshold_0_and_no_image_is_no_problem():
    assert repeat_factors(IMAGES, 0).tolist() == [1] * 10
    assert category_repeat_factors(IMAGES, 0, 5).tolist() == [1] * 5
    assert repeat_factors([], 0.5).shape == (0,)
    assert category_repeat_factors([], 0.5, 2).tolist() == [1, 1]
    assert repeat_factors([set(), {3}], 0.8).tolist() == [1, sqrt(0.8 / 0.5)]


def test_an_order_without_factors_has_every_image_once():
    order = epoch_order(None, 50, generator())
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != list(range(50))
    assert torch.equal(order, epoch_order(None, 50, generator()))
    assert not torch.equal(order, epoch_order(None, 50, generator(1)))


def test_whole_factors_are_met_in_every_epoch():
    repeats = torch.tensor([1, 3, 2], dtype=torch.float64)
    orders = [epoch_order(repeats, 3, generator(seed)) for seed in range(20)]
    assert all(torch.bincount(order).tolist() == [1, 3, 2] for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) > 10


def test_other_factors_are_met_on_average():
    repeats = torch.tensor([1, 1.25, 2.5, 3.9], dtype=torch.float64)
    source, epochs = generator(), 4000
    counts = torch.stack([torch.bincount(epoch_order(repeats, 4, source), minlength=4) for _ in range(epochs)])
    assert counts.min(0).values.tolist() == [1, 1, 2, 3]
    assert counts.max(0).values.tolist() == [1, 2, 3, 4]
    # The standard error of a mean of 4000 coin tosses is at most 0.008.
    torch.testing.assert_close(counts.double().mean(0), repeats, atol=0.04, rtol=0)


def test_rounding_gives_the_length_of_an_order():
    repeats = 1 + torch.rand(30, generator=generator(), dtype=torch.float64)
    for seed in range(10):
        counts = stochastic_round(repeats, generator(seed))
        assert torch.equal(torch.bincount(epoch_order(repeats, 30, generator(seed))), counts)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(InvalidArgumentError, match=r"expected a threshold as a fraction of the images in 0\.\.1, got"):
        repeat_factors(IMAGES, threshold)


def test_a_category_outside_of_the_label_space():
    with pytest.raises(InvalidArgumentError, match=r"expected category ids in 0\.\.3, got 0\.\.4; the images were"):
        category_repeat_factors(IMAGES, 0.4, 4)


@pytest.mark.parametrize("bad", [0.5, float("nan"), float("inf")])
def test_factors_below_1_or_not_finite(bad):
    with pytest.raises(InvalidArgumentError, match="expected finite repeat factors of at least 1, got"):
        stochastic_round(torch.tensor([2, bad]), generator())


def test_a_factor_for_each_image():
    with pytest.raises(InvalidArgumentError, match=r"expected a repeat factor for each of 3 images, got \[2\]"):
        epoch_order(torch.ones(2), 3, generator())
