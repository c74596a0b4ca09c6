"""Boxes against torchvision, and which of their sides a crop cuts off."""

import itertools

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import clip_boxes_to_image

from panscape.ops.boxes import clip_boxes, cut_off_sides, decode_boxes, encode_boxes, has_area, touching_sides

SIZE = (90, 120)


def random_boxes(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * torch.tensor([130.0, 100.0]) - 10
    return torch.cat([corner, corner + 1 + 30 * torch.rand(*shape, 2, generator=generator)], -1)


class TestOffsets:
    @pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
    def test_offsets_are_torchvisions(self, weights):
        anchors = random_boxes(200, seed=0)
        offsets = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)) * 3
        expected = BoxCoder(weights).decode_single(offsets, anchors)
        assert torch.allclose(decode_boxes(offsets, anchors, weights), expected, rtol=1e-5, atol=1e-3)

    def test_decoding_inverts_encoding(self):
        boxes, anchors = random_boxes(200, seed=2).double(), random_boxes(200, seed=3).double()
        for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)):
            assert torch.allclose(decode_boxes(encode_boxes(boxes, anchors, weights), anchors, weights), boxes)

    def test_clipping_is_torchvisions(self):
        boxes = random_boxes(50, seed=4)
        image = torch.tensor([0.0, 0, SIZE[1], SIZE[0]])
        assert torch.equal(clip_boxes(boxes, image), clip_boxes_to_image(boxes, SIZE))


class TestCutOffSides:
    def test_all_combinations(self):
        for sides in itertools.product([False, True], repeat=4):
            left, top, right, bottom = sides
            boxes = torch.tensor([[-3.0 if left else 5, -3 if top else 5, 40 if right else 20, 30 if bottom else 15]])
            visible = torch.tensor(
                [[max(0.0, boxes[0, 0]), max(0, boxes[0, 1]), min(32, boxes[0, 2]), min(24, boxes[0, 3])]]
            )
            assert cut_off_sides(boxes, visible, (24, 32)).tolist() == [list(sides)]

    def test_a_box_that_ends_at_the_crop_is_whole(self):
        whole = torch.tensor([[0.0, 0.0, 32.0, 24.0]])
        assert not cut_off_sides(whole, whole, (24, 32)).any()

    def test_an_object_hidden_before_the_side_of_the_crop_is_whole_there(self):
        boxes, visible = torch.tensor([[-9.0, 2, 50, 9]]), torch.tensor([[4.0, 2, 32, 9]])
        assert cut_off_sides(boxes, visible, (24, 32)).tolist() == [[False, False, True, False]]


def test_boxes_without_area_touch_nothing():
    boxes = torch.tensor([[0.0, 0, 120, 90], [0, 0, 0, 90], [5, 90, 9, 3]])
    assert has_area(boxes).tolist() == [True, False, False]
    assert touching_sides(boxes, SIZE).tolist() == [[True] * 4, [False] * 4, [False] * 4]
