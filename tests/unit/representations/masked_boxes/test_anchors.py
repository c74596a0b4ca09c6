"""Anchors of a dataset against clusters made by hand and the conditions of a fixed point."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from panscape.errors import InvalidArgumentError
from panscape.ops.yolo_boxes import ANCHORS
from panscape.representations.masked_boxes.anchors import estimate_anchors, sides_iou


def random_sides(num: int = 400) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    size, ratio = (torch.randn(num, 1, generator=g) for _ in range(2))
    return torch.cat([2.8 + size + 0.45 * ratio, 2.8 + size - 0.45 * ratio], 1).exp().clamp(2, 600).round()


def mean_iou(sides: torch.Tensor, anchors: object) -> float:
    return float(sides_iou(sides, torch.tensor(anchors).view(-1, 2)).amax(1).mean())


def test_clusters_that_lie_apart_are_found() -> None:
    centers = torch.tensor([[10.0, 10], [10, 70], [60, 10], [100, 100], [100, 450], [400, 100]])
    sides = torch.cat([centers + d for d in (-1.0, 0.0, 0.0, 0.5)])
    found = estimate_anchors(sides, 3, 2)
    assert found == (((10, 10), (60, 10)), ((10, 70), (100, 100)), ((400, 100), (100, 450)))


def test_anchors_fit_their_data_better_than_those_of_coco_and_are_a_fixed_point() -> None:
    sides = random_sides()
    anchors = estimate_anchors(sides)
    assert [len(stride) for stride in anchors] == [3, 3, 3]
    flat = torch.tensor(anchors).view(9, 2)
    assert flat.prod(1).tolist() == sorted(flat.prod(1).tolist())
    assert mean_iou(sides, anchors) > mean_iou(sides, ANCHORS) + 0.05
    # Neither the means nor the medians of the sides nearest to each anchor fit better.
    nearest = sides_iou(sides, flat).argmax(1)
    for centers in (
        [sides[nearest == i].mean(0) for i in range(9)],
        [sides[nearest == i].quantile(0.5, 0) for i in range(9)],
    ):
        assert mean_iou(sides, torch.stack(centers).tolist()) <= mean_iou(sides, anchors) + 1e-4


def test_the_order_of_objects_does_not_matter_and_repeated_objects_count() -> None:
    sides = random_sides()
    order = torch.randperm(len(sides), generator=torch.Generator().manual_seed(1))
    assert estimate_anchors(sides[order]) == estimate_anchors(sides)
    assert estimate_anchors(sides.repeat(2, 1)) == estimate_anchors(sides)
    assert estimate_anchors(torch.cat([sides, sides[:40].repeat(20, 1)])) != estimate_anchors(sides)


def test_as_many_sizes_as_anchors_are_the_anchors() -> None:
    sides = torch.tensor([[i, 2 * i] for i in range(1, 10)]).float()
    assert torch.tensor(estimate_anchors(sides.repeat(3, 1))).view(9, 2).tolist() == sides.tolist()


def test_sides_are_compared_as_boxes_with_a_common_corner() -> None:
    a, b = random_sides(20), random_sides(30)[20:]
    corner = torch.zeros(1, 2)
    expected = box_iou(*(torch.cat([corner.expand(len(s), 2), s], 1) for s in (a, b)))
    torch.testing.assert_close(sides_iou(a, b), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (torch.ones(20, 2), "expected objects of at least 9 different sizes for 9 anchors, got 1;"),
        (torch.zeros(0, 2), "expected objects of at least 9 different sizes for 9 anchors, got 0;"),
        (
            torch.tensor([[3.0, 4], [5, 0], [0, 1]]),
            r"expected finite sides above 0, got 2 others, the first \[5.0, 0.0\]",
        ),
        (torch.full((9, 2), torch.nan), r"expected finite sides above 0, got 9 others, the first \[nan, nan\]"),
        (torch.ones(9, 4), r"expected sides as float \[N, 2\], got torch.float32 \[9, 4\]"),
    ],
)
def test_unusable_sides_are_an_error(sides: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        estimate_anchors(sides)
