"""Proposals and detections against torchvision's Faster R-CNN."""

from dataclasses import replace

import pytest
import torch
from maps import SHAPES, a_map
from torchvision.ops import batched_nms, remove_small_boxes

from panscape.errors import InvalidArgumentError
from panscape.ops.boxes import clip_boxes
from panscape.representations.regions.encode import encode_regions
from panscape.representations.regions.propose import (
    DetectionSelection,
    ProposalSelection,
    select_detections,
    select_proposals,
)

WINDOW = torch.tensor([0.0, 0, 120, 90])


def random_boxes(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * torch.tensor([130.0, 100.0]) - 10
    return torch.cat([corner, corner + 1 + 30 * torch.rand(*shape, 2, generator=generator)], -1)


class TestProposals:
    sizes = (400, 100, 25)

    @pytest.mark.parametrize("per_level", [False, True])
    def test_against_torchvisions_nms(self, per_level):
        boxes = clip_boxes(random_boxes(525, seed=5), WINDOW)
        score = torch.rand(525, generator=torch.Generator().manual_seed(6))
        selection = ProposalSelection(before_nms=150, after_nms=60, max_overlap=0.3, per_level=per_level)
        level = torch.repeat_interleave(torch.arange(3), torch.tensor(self.sizes)) if per_level else torch.zeros(525)
        top = torch.cat(
            [
                rows[score[rows].topk(min(150, len(rows))).indices]
                for rows in (torch.where(level == n)[0] for n in level.unique())
            ]
        )
        top = top[remove_small_boxes(boxes[top], 1e-9)]
        expected = top[batched_nms(boxes[top], score[top], level[top], 0.3)[:60]]
        found = select_proposals(score, boxes, self.sizes, selection)
        assert torch.equal(found, boxes[expected])

    def test_training_has_its_own_numbers(self):
        selection = ProposalSelection(after_nms=5, after_nms_in_training=9, max_overlap=1.0)
        boxes, score = random_boxes(40, seed=7), torch.rand(40)
        assert len(select_proposals(score, boxes, [40], selection)) == 5
        assert len(select_proposals(score, boxes, [40], selection, training=True)) == 9

    def test_boxes_without_area_are_none(self):
        boxes = torch.tensor([[0.0, 0, 0, 9], [3, 3, 9, 9]])
        assert select_proposals(torch.ones(2), boxes, [2], ProposalSelection()).tolist() == [[3, 3, 9, 9]]
        assert select_proposals(torch.ones(1), boxes[:1], [1], ProposalSelection()).shape == (0, 4)


class TestDetections:
    def test_against_torchvisions_postprocessing(self):
        generator = torch.Generator().manual_seed(8)
        prob = (2 * torch.randn(80, 5, generator=generator)).softmax(1)
        boxes = clip_boxes(random_boxes(80, 4, seed=9), WINDOW)
        found = select_detections(prob, boxes, DetectionSelection(0.1, 0.4, 30))
        flat, score = boxes.flatten(0, 1), prob[:, 1:].flatten()
        label = torch.arange(4).repeat(80)
        keep = torch.where(score > 0.1)[0]
        keep = keep[remove_small_boxes(flat[keep], 1e-9)]
        expected = keep[batched_nms(flat[keep], score[keep], label[keep], 0.4)[:30]]
        assert len(found.boxes) == 30
        assert torch.equal(found.boxes, flat[expected])
        assert torch.equal(found.category, label[expected])
        assert torch.equal(found.score, score[expected])

    def test_nothing(self):
        found = select_detections(torch.tensor([[1.0, 0, 0]]), torch.ones(1, 2, 4), DetectionSelection())
        assert [tuple(part.shape) for part in found] == [(0, 4), (0,), (0,)]


class TestTargets:
    # Of SHAPES: sky 0, ground 1, disc 2, box 3.
    truth = a_map("SSAAB\nSSAAB\nCC..B", {"S": 0, "A": 2, "B": 3, "C": 2}, crowd="C")

    def test_objects_stuff_crowd_and_void(self):
        targets = encode_regions(self.truth, SHAPES, (4, 8), max_objects=3)
        assert targets.semantic.tolist()[2] == [3, 3, 0, 0, 4, 0, 0, 0]
        assert targets.segment.tolist() == [
            [0, 0, 1, 1, 2, 0, 0, 0],
            [0, 0, 1, 1, 2, 0, 0, 0],
            [-1, -1, 0, 0, 2, 0, 0, 0],
            [0] * 8,
        ]
        assert targets.box.tolist() == [[2, 0, 4, 2], [4, 0, 5, 3], [0, 0, 0, 0]]
        assert targets.category.tolist() == [1, 2, 0]
        assert not targets.cut_off.any()

    def test_of_too_many_objects_the_largest_are_kept(self):
        targets = encode_regions(self.truth, SHAPES, (3, 5), max_objects=1)
        assert targets.category.tolist() == [1]
        assert targets.segment.tolist() == [[0, 0, 1, 1, -1], [0, 0, 1, 1, -1], [-1, -1, 0, 0, -1]]

    def test_a_cut_off_side_counts_where_pixels_touch_it(self):
        recorded = replace(self.truth, cut_off=torch.ones(len(self.truth), 4, dtype=torch.bool))
        targets = encode_regions(recorded, SHAPES, (4, 8), max_objects=2)
        assert targets.cut_off.tolist() == [[False, True, False, False], [False, True, True, True]]

    def test_errors(self):
        with pytest.raises(InvalidArgumentError, match="at most 2x5 pixels, got 3x5"):
            encode_regions(self.truth, SHAPES, (2, 5), max_objects=1)
