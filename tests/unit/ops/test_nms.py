"""NMS keeps the same boxes as torchvision's, in the same order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision import ops

from panscape.ops.nms import nms


@pytest.mark.parametrize("max_overlap", [0.0, 0.25, 0.5, 0.6, 0.97, 1.0])
@pytest.mark.parametrize("levels", [0, 5, 20])  # few levels: overlaps and scores tie, boxes have no area
def test_it_keeps_what_torchvision_keeps(max_overlap, levels):
    dropped = 0
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        num = [0, 1, 7, 60, 200][seed % 5]
        corners = torch.rand(num, 2, 2, generator=g)
        score = torch.rand(num, generator=g)
        if levels:
            corners, score = ((part * levels).round() / levels for part in (corners, score))
        box = torch.cat([corners.amin(1), corners.amax(1)], dim=1) * 100
        found = nms(box, score, max_overlap)
        assert torch.equal(found, ops.nms(box, score, max_overlap))
        dropped += num - len(found)
    assert (dropped > 0) == (max_overlap < 0.9 or (levels > 0 and max_overlap < 1))


def test_boxes_of_different_groups_do_not_drop_each_other():
    g = torch.Generator().manual_seed(0)
    corner, group = 50 * torch.rand(200, 2, generator=g), torch.randint(0, 5, (200,), generator=g)
    box = torch.cat([corner, corner + 5 + 40 * torch.rand(200, 2, generator=g)], dim=1)
    score = torch.rand(200, generator=g)
    kept = nms(box, score, 0.4, group)
    assert kept.tolist() == ops.batched_nms(box, score, group, 0.4).tolist()
    assert len(nms(box, score, 0.4)) < len(kept) < 200


def test_a_graph_keeps_any_number_of_boxes() -> None:
    class Suppress(torch.nn.Module):
        def forward(self, box: Tensor, score: Tensor) -> Tensor:
            rows = (score > 0.5).nonzero()[:, 0]
            return rows[nms(box[rows], score[rows], 0.5, rows % 2)]

    box = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [1, 0, 9, 9], [30, 0, 40, 9]])
    graph = torch.export.export(Suppress(), (box, torch.ones(4))).module()
    for score in ([0.6, 0.9, 0.8, 0.7], [0, 0.9, 0, 0], [0.0] * 4):
        assert graph(box, torch.tensor(score)).tolist() == Suppress()(box, torch.tensor(score)).tolist()
