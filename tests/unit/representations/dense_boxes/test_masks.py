"""Masks from dense boxes: the probabilities by hand and against torchvision, and errors."""

from __future__ import annotations

import pytest
import torch
from torchvision import ops

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.representations.dense_boxes.decode import (
    MaskInputs,
    dense_masks,
    dense_masks_reference,
    location_mask_prob,
)


def test_the_two_probabilities_by_hand():
    # 10 x 10 and 10 x 10, half of each shared: I = 50, U = 150, and 10 x 15 around both.
    query, boxes = torch.tensor([0.0, 0, 10, 10]), torch.tensor([[0.0, 5, 10, 15], [100.0, 0, 110, 10]]).T
    assert location_mask_prob(query, boxes, "paper").tolist() == pytest.approx([1 / 3, 0])
    # Far away: (0 + 1) / (200 + 1) less the part of 110 x 10 that is neither.
    assert location_mask_prob(query, boxes, "released").tolist() == pytest.approx([51 / 151, 1 / 201 - 900 / 1100])


def test_the_probabilities_against_torchvision():
    g = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 4, generator=g) * 200
    query, boxes = torch.cat(
        [corners[..., :2].minimum(corners[..., 2:]), corners[..., :2].maximum(corners[..., 2:])], 2
    )
    iou, giou = ops.box_iou(query, boxes), ops.generalized_box_iou(query, boxes)
    found = torch.stack([location_mask_prob(q, boxes.T, "paper") for q in query])
    torch.testing.assert_close(found, iou, rtol=1e-5, atol=1e-6)
    published = torch.stack([location_mask_prob(q, boxes.T, "released") for q in query])
    areas = ops.box_area(query)[:, None] + ops.box_area(boxes)
    union = areas / (1 + iou)
    expected = giou - iou + (areas - union + 1) / (union + 1)
    torch.testing.assert_close(published, expected, rtol=1e-4, atol=1e-5)


def test_the_threshold_is_reached_in_the_code_and_exceeded_in_the_paper():
    query = torch.tensor([[0.0, 0, 8, 8]])
    dense = query.T.reshape(1, 4, 1, 1).expand(-1, -1, 2, 2).contiguous()
    prob, category = torch.tensor([[[0.5, 0.5], [0.5, 0.25]]]), torch.zeros(1, dtype=torch.int64)
    inputs = MaskInputs(query, category, dense, prob, ImageGeometry.of((2, 2)))
    for make in (lambda *a, **k: dense_masks(*a, **k).to_masks((2, 2)), dense_masks_reference):
        assert make(inputs, threshold=0.5, compat="paper").sum() == 0
        assert make(inputs, threshold=0.25, compat="paper").tolist() == [[[True, True], [True, False]]]
        # The published one has G = 64 + 1e-7, which is 64 in float32, so that the probability is 1 just as well.
        assert make(inputs, threshold=0.5, compat="released").tolist() == [[[True, True], [True, False]]]


def test_windows_hold_little_more_than_the_objects():
    query = torch.tensor([[8.0, 8, 24, 24], [40.0, 8, 56, 24]])
    dense = torch.zeros(1, 4, 16, 16)
    dense[0, :, 2:6, 2:6], dense[0, :, 2:6, 10:14] = query[0][:, None, None], query[1][:, None, None]
    category, prob = torch.zeros(2, dtype=torch.int64), torch.ones(1, 16, 16)
    inputs = MaskInputs(query, category, dense, prob, ImageGeometry.of((64, 64)))
    found = dense_masks(inputs, threshold=0.4, compat="released")
    assert found.boxes.tolist() == [[6, 6, 26, 26], [38, 6, 58, 26]]  # half a cell more on each side
    assert found.pixels.numel() == 800


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(1, 5)}, "expected query"),
        ({"category": torch.zeros(2, dtype=torch.int64)}, "a category for each"),
        ({"category": torch.ones(1, dtype=torch.int64)}, "expected categories in 0..0"),
        ({"dense": torch.zeros(1, 4, 2, 3)}, "expected dense"),
        ({"dense": torch.zeros(0, 4, 2, 2)}, "expected dense"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change, message):
    inputs = MaskInputs(
        torch.zeros(1, 4),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 4, 2, 2),
        torch.zeros(1, 2, 2),
        ImageGeometry.of((8, 8)),
    )
    dense_masks(inputs, threshold=0.4, compat="paper")
    with pytest.raises(InvalidArgumentError, match=message):
        dense_masks(inputs._replace(**change), threshold=0.4, compat="paper")
    with pytest.raises(InvalidArgumentError, match="expected compat"):
        dense_masks(inputs, threshold=0.4, compat="other")
