from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.ops.interpolate import upsample
from panscape.representations.dense_boxes.locations import (
    Pyramid,
    argmax_level,
    dense_boxes,
    distance2box,
    fcos_locations,
    grid_points,
    level_sizes,
    location_levels,
)


def random_box(seed: int, padded: tuple[int, int], stride: int, levels: int, batch: int = 2) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 4, fcos_locations(Pyramid(padded, stride, levels)).shape[1], generator=g) * 300


def test_the_published_input_has_43648_locations():
    sizes = level_sizes(Pyramid((1024, 2048), 8, 5))
    assert sizes == ((128, 256), (64, 128), (32, 64), (16, 32), (8, 16))
    points = fcos_locations(Pyramid((1024, 2048), 8, 5))
    assert points.shape == (2, 43648)
    assert points[:, 0].tolist() == [4, 4]
    assert points[:, 257].tolist() == [12, 12]  # second row, second cell, (y, x)
    assert points[:, -1].tolist() == [7 * 128 + 64, 15 * 128 + 64]
    assert torch.bincount(location_levels(Pyramid((1024, 2048), 8, 5))).tolist() == [32768, 8192, 2048, 512, 128]


def test_odd_levels_are_rounded_up():
    assert level_sizes(Pyramid((72, 40), 8, 5)) == ((9, 5), (5, 3), (3, 2), (2, 1), (1, 1))
    assert level_sizes(Pyramid((12, 4), 4, 2)) == ((3, 1), (2, 1))


def test_the_dense_grid_looks_at_4x_plus_2():
    points = grid_points((2, 3), 4)
    assert points[0].tolist() == [[2, 2, 2], [6, 6, 6]]
    assert points[1].tolist() == [[2, 6, 10], [2, 6, 10]]


@pytest.mark.parametrize(
    ("size", "stride", "levels"), [((30, 32), 8, 5), ((32, 32), 7, 5), ((0, 32), 8, 5), ((8, 8), 8, 0)]
)
def test_sizes_that_do_not_fit_are_refused(size, stride, levels):
    with pytest.raises(InvalidArgumentError):
        level_sizes(Pyramid(size, stride, levels))


def test_boxes_by_hand():
    box = distance2box(torch.tensor([[10.0], [20.0]]), torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    assert box[:, 0].tolist() == [19, 8, 23, 14]


@pytest.mark.parametrize(
    ("padded", "stride", "levels"), [((64, 96), 8, 5), ((40, 72), 8, 3), ((4, 12), 4, 2), ((8, 8), 8, 1)]
)
def test_each_cell_takes_the_box_of_its_level_enlarged(padded, stride, levels):
    box = random_box(1, padded, stride, levels)
    sizes = level_sizes(Pyramid(padded, stride, levels))
    grid = (2 * sizes[0][0], 2 * sizes[0][1])
    level = torch.randint(-1, levels, (2, *grid), generator=torch.Generator().manual_seed(2))
    found = dense_boxes(box, level, Pyramid(padded, stride, levels))
    every = dense_boxes(box, None, Pyramid(padded, stride, levels))
    assert found.shape == (2, 1, 4, *grid)
    assert every.shape == (2, levels, 4, *grid)
    points = grid_points(grid, stride // 2)
    of_level = location_levels(Pyramid(padded, stride, levels))
    for i, size in enumerate(sizes):
        plane = box[:, :, of_level == i].reshape(2, 4, *size)
        expected = distance2box(points, upsample(plane, grid, grid, align_corners=False))
        assert torch.equal(every[:, i], expected)
        chosen = (level == i)[:, None].expand_as(expected)
        assert torch.equal(found[:, 0][chosen], expected[chosen])
        peer = distance2box(points, F.interpolate(plane, size=grid, mode="bilinear", align_corners=False))
        torch.testing.assert_close(expected, peer, rtol=1e-5, atol=1e-3)
    none = (level < 0)[:, None].expand(-1, 2, -1, -1)
    centers = points.flip(0)[None].expand(2, -1, -1, -1)[none]
    assert torch.equal(found[:, 0, :2][none], centers)
    assert torch.equal(found[:, 0, 2:][none], centers)


def test_a_box_that_all_locations_agree_on_is_the_same_everywhere_inside():
    padded, stride, levels = (128, 128), 8, 2
    points = fcos_locations(Pyramid(padded, stride, levels))
    y, x = points
    distances = torch.stack([x - 5, y - 9, 120 - x, 110 - y])[None]
    found = dense_boxes(distances, None, Pyramid(padded, stride, levels))[0]
    inside = found[..., 2:-2, 2:-2]
    torch.testing.assert_close(
        inside, torch.tensor([5.0, 9, 120, 110])[:, None, None].expand_as(inside), rtol=0, atol=1e-4
    )
    assert float((found[0] - found[0, :, 16:17, 16:17]).abs().max()) == pytest.approx(2, abs=1e-4)  # at the border


def test_gradients_reach_the_chosen_level_alone():
    padded, stride, levels = (32, 32), 8, 3
    box = random_box(3, padded, stride, levels, batch=1).requires_grad_()
    dense_boxes(box, torch.ones(1, 8, 8, dtype=torch.int64), Pyramid(padded, stride, levels))[
        ..., 2:, :, :
    ].sum().backward()
    of_level = location_levels(Pyramid(padded, stride, levels))
    assert (box.grad[0][2:, of_level == 1] > 0).all()
    assert (box.grad[0][:, of_level != 1] == 0).all()


def test_levels_with_and_without_background():
    logits = torch.tensor([[9.0, 1, 1, 0], [0, 1, 2, 2]]).T[None, :, None]
    assert argmax_level(logits, with_background=False).tolist() == [[[0, 1]]]
    assert argmax_level(logits, with_background=True).tolist() == [[[-1, 1]]]


def test_shapes_that_do_not_go_together_are_refused():
    with pytest.raises(InvalidArgumentError, match="expected box as"):
        dense_boxes(torch.zeros(1, 4, 7), None, Pyramid((32, 32), 8, 3))
    with pytest.raises(InvalidArgumentError, match="expected level as"):
        dense_boxes(random_box(0, (32, 32), 8, 3), torch.zeros(2, 4, 4, dtype=torch.int64), Pyramid((32, 32), 8, 3))
