"""Anchors and the assignment of boxes, against torchvision and detectron2's rules."""

import math

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from panscape.errors import InvalidArgumentError
from panscape.models.panoptic_fpn import PUBLISHED as PANOPTIC_FPN
from panscape.representations.regions import RegionRepresentation
from panscape.representations.regions.anchors import Anchors
from panscape.representations.regions.match import match_boxes, sample_boxes


class TestAnchors:
    def test_they_are_torchvisions_before_rounding(self):
        anchors = Anchors(strides=(8, 16), scale=8, ratios=(0.5, 1.0, 2.0), center=0.0)
        generator = AnchorGenerator(((64,), (128,)), ((0.5, 1.0, 2.0),) * 2)
        features = [torch.zeros(1, 1, 6, 8), torch.zeros(1, 1, 3, 4)]
        (expected,) = generator(ImageList(torch.zeros(1, 3, 48, 64), [(48, 64)]), features)
        boxes = anchors.boxes((48, 64))
        assert boxes.shape == expected.shape == (6 * 8 * 3 + 3 * 4 * 3, 4)
        assert (boxes - expected).abs().max() < 0.5

    def test_areas_centers_and_order(self):
        anchors = Anchors(strides=(4, 8), scale=2, ratios=(0.2, 5))
        boxes = anchors.boxes((8, 12))
        assert anchors.num_per_level((8, 12)) == [2 * 3 * 2, 1 * 2 * 2]
        sides = boxes[:, 2:] - boxes[:, :2]
        assert sides.prod(1).tolist() == pytest.approx([64.0] * 12 + [256.0] * 4)
        assert (sides[:, 1] / sides[:, 0]).tolist() == pytest.approx([0.2, 5] * 8)
        centers = (boxes[:, 2:] + boxes[:, :2]) / 2
        assert centers[::2].tolist() == [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6], [4, 4], [12, 4]]

    def test_published_base_sides(self):
        for anchors, sides in (
            (Anchors(strides=(4, 8, 16, 32, 64, 128), scale=2), [8, 16, 32, 64, 128, 256]),
            (Anchors(), [32, 64, 128, 256, 512]),
        ):
            boxes = anchors.boxes((128, 128))
            starts = torch.tensor([0, *anchors.num_per_level((128, 128))[:-1]]).cumsum(0)
            square = boxes[starts + 1]  # the second ratio is 1
            assert (square[:, 2] - square[:, 0]).tolist() == pytest.approx(sides)

    def test_strides_must_ascend(self):
        with pytest.raises(InvalidArgumentError, match="ascending strides"):
            Anchors(strides=(8, 4))


def boxes_of(num, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num, 2, generator=generator) * 80
    return torch.cat([corner, corner + 1 + torch.rand(num, 2, generator=generator) * 50], 1)


class TestMatch:
    @pytest.mark.parametrize("best_of_each", [None, "all"])
    @pytest.mark.parametrize("seed", range(5))
    def test_labels_are_torchvisions(self, seed, best_of_each):
        boxes, objects = boxes_of(300, seed), boxes_of(12, seed + 100)
        expected = Matcher(0.6, 0.3, allow_low_quality_matches=best_of_each == "all")(box_iou(objects, boxes))
        matches = match_boxes(boxes, objects, positive=0.6, negative=0.3, best_of_each=best_of_each)
        label = torch.where(expected == Matcher.BELOW_LOW_THRESHOLD, 0, torch.where(expected >= 0, 1, -1))
        assert torch.equal(matches.label, label)
        if best_of_each is None:
            assert torch.equal(matches.object[label == 1], expected[label == 1])

    @pytest.mark.parametrize("seed", range(5))
    def test_one_best_box_is_that_of_a_loop_over_objects(self, seed):
        boxes, objects = boxes_of(300, seed).round(), boxes_of(30, seed + 100).round()
        objects[::3, 2:] = objects[::3, :2] + 2  # inside of many boxes
        iou = box_iou(boxes, objects)
        best_iou, best = iou.max(dim=1)
        label = torch.where(best_iou >= 0.6, 1, torch.where(best_iou < 0.3, 0, -1))
        for number in range(len(objects)):
            if iou[:, number].max() > 0:
                box = (iou[:, number] == iou[:, number].max()).nonzero()[0, 0]
                label[box], best[box] = 1, number
        matches = match_boxes(boxes, objects, positive=0.6, negative=0.3, best_of_each="one")
        assert torch.equal(matches.label, label)
        assert torch.equal(matches.object, best)

    @pytest.mark.parametrize(("published", "fewest", "most"), [(RegionRepresentation(), 1, 1), (PANOPTIC_FPN, 40, 144)])
    def test_anchors_of_a_small_object(self, published, fewest, most):
        # 64 + 40 + 40 anchors of three ratios contain an object of 4 x 4 pixels; their areas are equal up to rounding.
        objects = torch.tensor([[200.0, 200, 204, 204]])
        anchors = published.anchors.boxes((512, 512))
        matches = match_boxes(anchors, objects, positive=0.7, negative=0.3, best_of_each=published.best_anchors)
        assert fewest <= (matches.label == 1).sum() <= most

    @pytest.mark.parametrize("best_of_each", ["one", "all"])
    def test_the_best_box_of_an_object_is_its_own(self, best_of_each):
        objects = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [90, 90, 99, 99]])
        boxes = torch.tensor([[0.0, 0, 10, 11], [50, 50, 60, 60]])
        matches = match_boxes(boxes, objects, positive=0.95, negative=0.3, best_of_each=best_of_each)
        assert matches.object[0] == 1  # both objects overlap this box most; the last one has it
        assert matches.label.tolist() == [1, 0]  # no box overlaps the third object

    def test_without_objects_everything_is_negative(self):
        matches = match_boxes(boxes_of(5, 0), torch.zeros(0, 4), positive=0.5, negative=0.5, best_of_each="one")
        assert matches.label.tolist() == [0] * 5

    @pytest.mark.parametrize("best_of_each", ["one", "all"])
    def test_chunks_change_nothing(self, monkeypatch, best_of_each):
        boxes, objects = boxes_of(50, 3).round(), boxes_of(7, 4)
        objects[::2, 2:] = objects[::2, :2] + 2  # inside of many boxes
        expected = match_boxes(boxes, objects, positive=0.5, negative=0.3, best_of_each=best_of_each)
        monkeypatch.setattr("panscape.representations.regions.match._CHUNK", 21)
        chunked = match_boxes(boxes, objects, positive=0.5, negative=0.3, best_of_each=best_of_each)
        assert torch.equal(chunked.object, expected.object)
        assert torch.equal(chunked.label, expected.label)


class TestSample:
    label = torch.tensor([1] * 40 + [0] * 100 + [-1] * 10)

    def test_positives_are_limited_and_negatives_fill(self):
        torch.manual_seed(0)
        sample = sample_boxes(self.label, 64, 0.25)
        assert self.label[sample].tolist() == [1] * 16 + [0] * 48
        assert len(set(sample.tolist())) == 64

    def test_few_boxes(self):
        assert sorted(sample_boxes(self.label, 400, 0.5).tolist()) == list(range(140))
        assert len(sample_boxes(self.label[140:], 64, 0.5)) == 0

    def test_it_is_uniform(self):
        torch.manual_seed(0)
        counts = torch.zeros(150)
        for _ in range(400):
            counts[sample_boxes(self.label, 32, 0.5)] += 1
        for part, share in ((slice(0, 40), 16 / 40), (slice(40, 140), 16 / 100)):
            deviation = (counts[part] / 400 - share).abs().max()
            assert deviation < 5 * math.sqrt(share * (1 - share) / 400)
