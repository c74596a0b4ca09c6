from __future__ import annotations

from math import hypot, inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.nn.pisr_instances import CenterInstanceMaps, center_instance_maps
from panscape.representations.centers import CenterRepresentation

SIZE = (6, 9)
IS_THING = torch.tensor([False, True, True])


def inputs(seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    prob = torch.randn(batch, 3, *SIZE, generator=g, dtype=torch.float64).softmax(1)
    center = torch.randn(batch, 1, *SIZE, generator=g, dtype=torch.float64)
    return prob, center, 2 * torch.randn(batch, 2, *SIZE, generator=g, dtype=torch.float64)


def maps_of(
    prob: Tensor, center: Tensor, offset: Tensor, num: int, valid: Tensor | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    return center_instance_maps(prob, center, offset, IS_THING, valid, num, CenterInstanceMaps(**options))


def by_hand(
    prob: np.ndarray, center: np.ndarray, offset: np.ndarray, num: int, *, radius: float, kernel: int, soft: bool
) -> list[np.ndarray]:
    """One heatmap for each centre that is found, number by number."""
    height, width = center.shape
    reach, peaks = kernel // 2, []
    for y in range(height):
        for x in range(width):
            window = center[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
            if center[y, x] >= window.max():
                peaks.append((center[y, x], y, x))
    result = []
    for _, y, x in sorted(peaks, reverse=True)[:num]:
        heat = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                distance = sqrt((i + offset[0, i, j] - y) ** 2 + (j + offset[1, i, j] - x) ** 2)
                thing = prob[1, i, j] + prob[2, i, j] if soft else float(prob[:, i, j].argmax() > 0)
                heat[i, j] = max(1 - distance / (radius * hypot(height, width)), 0) * thing
        result.append(heat)
    return result


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_maps_equal_the_formula_number_by_number(kernel: int, soft: bool, padded: bool) -> None:
    batch = inputs()
    height, width = (4, 7) if padded else SIZE
    valid = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    valid[..., :height, :width] = True
    maps, is_used = maps_of(*batch, 6, valid if padded else None, radius=0.3, nms_kernel=kernel, soft_things=soft)
    assert maps.shape == (2, 6, *SIZE)
    for i in range(2):
        prob, center, offset = (x[i, :, :height, :width].numpy() for x in batch)
        expected = by_hand(prob, center[0], offset, 6, radius=0.3, kernel=kernel, soft=soft)
        assert is_used[i].tolist() == [True] * len(expected) + [False] * (6 - len(expected))
        for k in range(6):
            heat = np.zeros(SIZE)
            if k < len(expected):
                heat[:height, :width] = expected[k]
            np.testing.assert_allclose(maps[i, k].numpy(), heat, atol=1e-6)


def test_padding_has_no_influence() -> None:
    valid = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    valid[..., :4, :5] = True
    clean, garbage = inputs(0), inputs(1)
    garbage[0][0], garbage[1][0, 0, 5, 8], garbage[2][1] = nan, inf, 1e9
    expected = maps_of(*clean, 5, valid)
    found = maps_of(*(torch.where(valid, a, b) for a, b in zip(clean, garbage, strict=True)), 5, valid)
    cut = maps_of(*(x[..., :4, :5] for x in clean), 5)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(cut[0], expected[0][..., :4, :5], atol=1e-6, rtol=0)
    assert torch.equal(cut[1], expected[1])
    assert (expected[0][..., 4:, :] == 0).all()
    assert (expected[0][..., 5:] == 0).all()


def test_fewer_centres_than_maps() -> None:
    prob, center, offset = inputs()
    center = -(torch.arange(54, dtype=torch.float64).view(1, 1, *SIZE)).expand(2, -1, -1, -1)  # falls from one corner
    maps, is_used = maps_of(prob, center, offset, 70)
    assert maps.shape == (2, 70, *SIZE)
    assert is_used.sum(1).tolist() == [1, 1]
    assert is_used[:, 0].all()
    assert (maps[:, 1:] == 0).all()
    many, used = maps_of(prob, center, offset, 60, nms_kernel=1)  # every cell, and six more
    assert used.sum(1).tolist() == [54, 54]
    assert (many[:, 54:] == 0).all()
    # No threshold: the scores are all negative or zero. Highest first.
    assert torch.equal(maps[:, 0], many[:, 0])


def test_true_offsets_give_one_on_each_object_and_less_elsewhere() -> None:
    truth = generated_map(3)
    targets = CenterRepresentation().encode(truth, SHAPES)
    is_thing = torch.tensor([c.is_thing for c in SHAPES])
    prob = torch.nn.functional.one_hot((targets.semantic - 1).clamp_min(0), len(SHAPES)).movedim(-1, 0)[None].float()
    objects = [i for i in range(truth.num_segments) if is_thing[truth.category[i]]]
    maps, is_used = center_instance_maps(
        prob, targets.center[None, None], targets.offset[None], is_thing, None, len(objects), CenterInstanceMaps()
    )
    assert is_used.all()
    assert len(objects) > 2
    for segment in objects:
        inside = truth.ids == segment + 1
        mine = maps[0][:, inside].mean(1).argmax()
        # A target's centre is a rounded mean, and offsets lead to the mean itself: up to half a pixel from it.
        assert maps[0, mine][inside].min() > 1 - 0.71 / (0.1 * hypot(*truth.size))
    # Near it in the metric of the offsets, far in the image: no pixel of stuff has any heat.
    stuff = ~is_thing[(targets.semantic - 1).clamp_min(0)]
    assert (maps[0][:, stuff] == 0).all()


def test_gradients_reach_offsets_and_not_centres() -> None:
    prob, center, offset = (x.requires_grad_() for x in inputs())
    maps, _ = maps_of(prob, center, offset, 4)
    (slope,) = torch.autograd.grad(maps.sum(), offset, retain_graph=True)
    assert (slope != 0).any()
    assert torch.autograd.grad(maps.sum(), [prob, center], allow_unused=True) == (None, None)
    soft, _ = maps_of(prob, center, offset, 4, soft_things=True)
    slopes = torch.autograd.grad(soft.sum(), [prob, center], allow_unused=True)
    assert (slopes[0][:, 1:] != 0).any()
    assert (slopes[0][:, 0] == 0).all()
    assert slopes[1] is None


def test_gradients_are_finite_where_an_offset_leads_to_the_very_centre() -> None:
    prob, center, _ = inputs()
    offset = torch.zeros(2, 2, *SIZE, requires_grad=True)
    maps, _ = maps_of(prob, center, offset, 60)
    maps.sum().backward()
    assert offset.grad is not None
    assert torch.isfinite(offset.grad).all()
    assert maps.dtype == torch.float32
    assert ((maps >= 0) & (maps <= 1)).all()


def test_a_batch_of_two_equals_two_of_one() -> None:
    batch = inputs()
    maps, is_used = maps_of(*batch, 5)
    for i in range(2):
        alone, used = maps_of(*(x[i : i + 1] for x in batch), 5)
        assert torch.equal(alone[0], maps[i])
        assert torch.equal(used[0], is_used[i])


def test_without_things_there_is_no_heat() -> None:
    prob, center, offset = inputs()
    maps, _ = center_instance_maps(
        prob, center, offset, torch.zeros(3, dtype=torch.bool), None, 4, CenterInstanceMaps()
    )
    assert (maps == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "expected radius above 0, got 0.0"),
        ({"radius": nan}, "expected radius above 0, got nan"),
        ({"nms_kernel": 4}, "expected nms_kernel as an odd number of 1 or more, got 4"),
        ({"nms_kernel": 0}, "expected nms_kernel as an odd number of 1 or more, got 0"),
    ],
)
def test_values_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        CenterInstanceMaps(**options)
