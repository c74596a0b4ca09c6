"""Boxes on which masks are trained, and their loss, against counts by hand."""

from __future__ import annotations

import math

import pytest
import torch
from maps import SHAPES, a_map
from torchvision.ops import box_iou

from panscape.errors import InvalidArgumentError
from panscape.representations.masked_boxes import MaskBoxes, MaskedBoxRepresentation, MaskSampling
from panscape.representations.masked_boxes.mask_targets import match_masks, sample_mask_boxes, sum_of_mask_loss
from panscape.representations.regions import RegionTargets
from panscape.representations.regions.losses import objects_of

# Two discs and a box on the ground; void at the bottom right.
TRUTH = a_map(
    "\n".join(
        ["GGGGGGGGGGGGGGGG"] * 2 + ["GAAAAGGBBBBBBGGG"] * 4 + ["GAAAACCCCCCCCC.."] * 4 + ["GGGGGGGGGGGGGG.."] * 2
    ),
    {"A": 2, "B": 2, "C": 3, "G": 1},
)
DISC, BOX = 0, 1


def targets_of(batch: int = 1) -> RegionTargets:
    targets = MaskedBoxRepresentation(max_objects=5).encode(TRUTH, SHAPES, (12, 16))
    return RegionTargets(*(t.expand(batch, *t.shape).clone() for t in targets))


NONE = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)


def test_objects_are_matched_within_their_category() -> None:
    (objects,) = objects_of(targets_of())
    assert objects.box.tolist() == [[1, 2, 5, 10], [7, 2, 13, 6], [5, 6, 14, 10]]
    boxes = torch.tensor([[1.0, 2, 5, 10], [1, 2, 5, 10], [1, 2, 5, 6], [1, 2, 5, 5.9], [5, 6, 14, 9], [0, 0, 0, 0]])
    category = torch.tensor([DISC, BOX, DISC, DISC, BOX, DISC])
    assert match_masks(boxes, category, objects, 0.5).tolist() == [0, -1, 0, -1, 2, -1]
    assert match_masks(*NONE, objects, 0.5).tolist() == []


def test_all_objects_and_matched_detections_train() -> None:
    torch.manual_seed(0)
    detected = torch.tensor([[1.0, 2, 5, 9], [1, 2, 5, 9], [9, 0, 12, 1], [-3, 2, 5, 10]])
    found = sample_mask_boxes(
        [detected], [torch.tensor([DISC, BOX, DISC, DISC])], targets_of(), MaskSampling(jitter=0.0)
    )
    rows = sorted(
        (*box, category) for box, category in zip(found.boxes[0].tolist(), found.category[0].tolist(), strict=True)
    )
    # The second has the wrong category, the third meets nothing, and the fourth is clipped to the image.
    assert rows[-5:] == [(0, 2, 5, 10, 0), (1, 2, 5, 9, 0), (1, 2, 5, 10, 0), (5, 6, 14, 10, 1), (7, 2, 13, 6, 0)]
    assert rows[:-5] == [(0, 0, 0, 0, 0)] * 27


def test_jittered_boxes_still_belong_to_their_object() -> None:
    torch.manual_seed(0)
    targets = targets_of(200)
    found = sample_mask_boxes([NONE[0]] * 200, [NONE[1]] * 200, targets, MaskSampling(num=3))
    shifts = []
    for b, objects in enumerate(objects_of(targets)):
        iou = box_iou(found.boxes[b], objects.box)
        assert sorted(iou.argmax(1).tolist()) == [0, 1, 2]
        assert float(iou.amax(1).min()) > 0.64  # (1 - 2 * 0.1)^2
        own = objects.box[iou.argmax(1)]
        shifts.append((found.boxes[b] - own) / (own[:, 2:] - own[:, :2]).repeat(1, 2))
    moved = torch.stack(shifts)
    assert float(moved.abs().max()) == pytest.approx(0.1, abs=0.002)
    assert float(moved.mean().abs()) < 0.01
    assert torch.equal(found.category.sort().values, torch.tensor([[DISC, DISC, BOX]]).expand(200, 3))


def test_a_missed_object_trains_whatever_the_number_of_detections_and_the_jitter() -> None:
    torch.manual_seed(0)
    detected = torch.tensor([[1.0, 2, 5, 10]]).expand(100, 4)
    targets = targets_of(50)
    found = sample_mask_boxes(
        [detected] * 50, [torch.zeros(100, dtype=torch.int64)] * 50, targets, MaskSampling(num=8, jitter=0.9)
    )
    for b, objects in enumerate(objects_of(targets)):
        matched = match_masks(found.boxes[b], found.category[b], objects, 0.5).tolist()
        assert sorted(matched) == [0] * 6 + [1, 2]


def test_samples_have_a_fixed_size_and_follow_the_seed() -> None:
    detected = torch.tensor([[1.0, 2, 5, 10]]).expand(300, 4)
    images = [detected, NONE[0]], [torch.zeros(300, dtype=torch.int64), NONE[1]]
    samples = []
    for _ in range(2):
        torch.manual_seed(3)
        samples.append(sample_mask_boxes(*images, targets_of(2), MaskSampling(num=8)))
    assert torch.equal(samples[0].boxes, samples[1].boxes)
    assert samples[0].boxes.shape == (2, 8, 4)
    assert ((samples[0].boxes[..., 2] > 0).sum(1)).tolist() == [8, 3]


def test_images_without_objects_have_no_masks() -> None:
    targets = targets_of()
    targets = targets._replace(category=targets.category * 0, box=targets.box * 0, segment=targets.segment * 0)
    found = sample_mask_boxes([torch.tensor([[1.0, 2, 5, 10]])], [torch.tensor([DISC])], targets, MaskSampling(num=4))
    assert not found.boxes.any()
    logits = torch.ones(1, 4, 6, 6, requires_grad=True)
    total, num = sum_of_mask_loss(logits, found, targets, 0.5)
    assert (total.item(), num.item()) == (0, 0)
    total.backward()
    assert logits.grad is not None


def test_the_loss_counts_cells_on_known_pixels() -> None:
    # The box of the third object and two more columns: 36 cells on it, 4 on void to the right of it, 4 on ground.
    boxes = MaskBoxes(
        torch.tensor([[[5.0, 6, 16, 17], [1, 2, 5, 10], [0, 0, 0, 0]]]), torch.tensor([[BOX, DISC, DISC]])
    )
    logits = torch.full((1, 3, 11, 11), math.log(3.0))
    total, num = sum_of_mask_loss(
        logits[:, :1], MaskBoxes(boxes.boxes[:, :1], boxes.category[:, :1]), targets_of(), 0.25
    )
    # Rows 6 to 11 of the image are inside: 6 rows of 11 cells, of which 4 x 9 are the object, 2 x 9 ground, 6 x 2 void.
    assert num.item() == 36 + 18
    assert total.item() == pytest.approx(36 * math.log(4 / 3) + 18 * math.log(4), rel=1e-5)
    # Masks that match nothing do not count: at 0.5 the first, and always the empty one.
    total, num = sum_of_mask_loss(logits, boxes, targets_of(), 0.5)
    assert num.item() == 121
    assert total.item() == pytest.approx(121 * math.log(4 / 3), rel=1e-5)


@pytest.mark.parametrize("options", [{"num": 0}, {"min_iou": 0.0}, {"jitter": 1.0}])
def test_unusable_options_are_an_error(options: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected {next(iter(options))}"):
        MaskSampling(**options)
