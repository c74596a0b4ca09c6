"""The loss of boxes without anchors against a second implementation, cell by cell and object by object."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import complete_box_iou

from panscape.errors import InvalidArgumentError
from panscape.models.yolo_panoptic_light import LIGHT
from panscape.ops.yolo_boxes import decode_cells
from panscape.representations.masked_boxes import MaskedBoxRepresentation, MaskSampling
from panscape.representations.masked_boxes.aligned_loss import CellTargets, aligned_detector_loss, assign_cells
from panscape.representations.masked_boxes.detector_loss import DetectorLoss
from panscape.representations.masked_boxes.mask_targets import sample_mask_cells
from panscape.representations.regions import RegionTargets

SIZE = (64, 96)
CELLS = LIGHT.cells(SIZE)
NUM = 8 * 12 + 4 * 6 + 2 * 3
Boxes = list[tuple[list[float], int]]
OBJECTS: Boxes = [
    ([3, 5, 14, 19], 1),
    ([20, 10, 82, 60], 2),
    ([40, 30, 73, 54], 1),  # in front of the one before, with the same centre at two strides
    ([90, 61, 93, 64], 1),  # below one cell
]


def of(*images: Boxes, ignored: bool = False) -> RegionTargets:
    """Make targets of boxes with a category, 1 or 2, of which the last is in front, and perhaps a crowd at the top."""
    num = max(map(len, images))
    box, category = torch.zeros(len(images), num, 4), torch.zeros(len(images), num, dtype=torch.int64)
    segment = torch.zeros(len(images), *SIZE, dtype=torch.int32)
    for b, objects in enumerate(images):
        for i, (sides, thing) in enumerate(objects):
            box[b, i], category[b, i] = torch.tensor(sides), thing
            x0, y0, x1, y1 = map(int, sides)
            segment[b, y0:y1, x0:x1] = i + 1
    if ignored:
        segment[:, :24][segment[:, :24] == 0] = -1
    valid = torch.tensor([[0.0, 0.0, SIZE[1], SIZE[0]]]).expand(len(images), -1)
    return RegionTargets(torch.ones_like(segment).long(), segment, box, category, torch.zeros_like(box).bool(), valid)


def bce(logit: Tensor, target: float) -> float:
    prob = 1 / (1 + math.exp(-logit.item()))
    return -(target * math.log(prob) + (1 - target) * math.log(1 - prob))


def random_logits(batch: int = 1, seed: int = 0) -> Tensor:
    return (0.5 * torch.randn(batch, NUM, 7, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def loss_of(logits: Tensor, targets: RegionTargets, num: int = 10) -> DetectorLoss:
    return aligned_detector_loss(logits, CELLS, targets, 2, cells_per_object=num, smallest_share=0.001, max_crowd=0.7)


def assigned(logits: Tensor, targets: RegionTargets, num: int = 10) -> list[CellTargets]:
    return assign_cells(logits, CELLS, targets, cells_per_object=num, smallest_share=0.001)


def iou(a: list[float], b: list[float]) -> float:
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in range(2)]
    common = sides[0] * sides[1]
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (area - common)


def by_hand(logits: Tensor, objects: Boxes, segment: Tensor, num: int) -> dict[int, tuple[int, float]]:
    """Return object and quality of each trained cell of one image."""
    logits = logits.detach()
    overlap, chosen = {}, {}
    for i, (box, thing) in enumerate(objects):
        alignments = []
        for n in range(NUM):
            column, row, stride, width, height = CELLS[n].tolist()
            center = [(0.5 * (box[axis] + box[axis + 2])) // stride for axis in (0, 1)]
            at = segment[int((row + 0.5) * stride)][int((column + 0.5) * stride)]
            if at != i + 1 and center != [column, row]:
                continue
            x, y = ((float(logits[n, k]) + 0.5 + (column, row)[k]) * stride for k in range(2))
            w, h = width * math.exp(float(logits[n, 2])), height * math.exp(float(logits[n, 3]))
            overlap[n, i] = iou([x - w / 2, y - h / 2, x + w / 2, y + h / 2], box)
            score = float(logits[n, 4].sigmoid() * logits[n, 4 + thing].sigmoid())
            alignments.append((math.sqrt(score) * overlap[n, i] ** 6, n))
        for alignment, n in sorted(alignments, reverse=True)[:num]:
            chosen[n, i] = alignment
    best = {n: max((overlap[m, i], i) for m, i in chosen if m == n)[1] for n, _ in chosen}
    found = {}
    for n, i in best.items():
        mine = [m for m in best if best[m] == i]
        found[n] = (i, chosen[n, i] / max(chosen[m, i] for m in mine) * max(overlap[m, i] for m in mine))
    return found


@pytest.mark.parametrize("num", [3, 10])
def test_it_equals_a_second_implementation(num: int) -> None:
    logits, images = random_logits(2), (OBJECTS, OBJECTS[:1])
    targets = of(*images)
    expected = [by_hand(logits[b], images[b], targets.segment[b], num) for b in range(2)]
    assert len({i for i, _ in expected[0].values()}) == len(OBJECTS)
    assert max(sum(i == j for j, _ in expected[0].values()) for i in range(4)) == num
    for one, by_cell in zip(assigned(logits, targets, num), expected, strict=True):
        assert one.cell.tolist() == sorted(by_cell)
        assert one.object.tolist() == [by_cell[n][0] for n in sorted(by_cell)]
        assert one.quality.tolist() == pytest.approx([by_cell[n][1] for n in sorted(by_cell)], rel=1e-4)
    predicted = decode_cells(logits.detach(), CELLS, centers_in_cells=False).boxes
    box = objectness = category = 0.0
    for b, by_cell in enumerate(expected):
        for n in range(NUM):
            i, quality = by_cell.get(n, (-1, 0.0))
            objectness += bce(logits[b, n, 4], quality)
            if i < 0:
                continue
            sides, thing = images[b][i]
            box += quality * float(1 - complete_box_iou(predicted[b, n, None], torch.tensor([sides])))
            category += quality * sum(bce(logits[b, n, 4 + t], float(t == thing)) for t in (1, 2))
    total = sum(quality for by_cell in expected for _, quality in by_cell.values())
    assert total > 1
    found = torch.stack(loss_of(logits, targets, num)).tolist()
    assert found == pytest.approx([part / total for part in (box, objectness, category)], rel=1e-4)


def test_a_box_may_lie_anywhere() -> None:
    logits = torch.zeros(NUM, 7)
    logits[0, :4] = torch.tensor([2.0, -1.0, math.log(0.5), math.log(2.0)])
    box = decode_cells(logits, CELLS, centers_in_cells=False).boxes[0]
    torch.testing.assert_close(box, torch.tensor([20.0 - 8, -4.0 - 32, 20.0 + 8, -4.0 + 32]))


def test_an_image_without_objects_trains_the_objectness_alone() -> None:
    logits = random_logits()
    found = loss_of(logits, of([]))
    assert found.box == 0
    assert found.category == 0
    assert found.objectness.item() == pytest.approx(sum(bce(one, 0.0) for one in logits[0, :, 4]), rel=1e-4)
    gradients = [torch.autograd.grad(part, logits, retain_graph=True)[0] for part in found]
    assert [bool(g.any()) for g in gradients] == [False, True, False]


def test_one_object_and_300_objects() -> None:
    logits = random_logits()
    (one,) = assigned(logits, of(OBJECTS[1:2]))
    assert len(one.cell) == 10
    assert 0 < one.quality.max().item() <= 1
    many: Boxes = [([x, y, x + 4.0, y + 4.0], 1 + x % 2) for x in range(0, 96, 5) for y in range(0, 60, 4)]
    assert len(many) == 300
    targets = of(many)
    (found,) = assigned(logits, targets)
    assert len(set(found.cell.tolist())) == len(found.cell) > 90
    assert all(torch.isfinite(part) for part in loss_of(logits, targets))


def test_boxes_on_crowds_are_no_background() -> None:
    logits, objects = random_logits(), OBJECTS[:1]
    with_crowd, without = (loss_of(logits, of(objects, ignored=ignored)).objectness for ignored in (True, False))
    predicted = decode_cells(logits.detach(), CELLS, centers_in_cells=False).boxes[0]
    assert with_crowd.item() < without.item()
    (gradient,) = torch.autograd.grad(with_crowd, logits)
    untrained = torch.ones(NUM, dtype=torch.bool)
    untrained[assigned(logits, of(objects))[0].cell] = False
    inside = (predicted[:, 1] >= 0) & (predicted[:, 3] <= 24) & (predicted[:, 0] > 16) & (predicted[:, 2] <= 96)
    assert (inside & untrained).any()
    assert not gradient[0, inside & untrained].any()


def test_masks_are_trained_at_the_cells_of_objects() -> None:
    targets = of(OBJECTS, [])
    cells = assigned(random_logits(2), targets)
    torch.manual_seed(0)
    boxes, row = sample_mask_cells(cells, targets, MaskSampling(200, jitter=0.05))
    assert not boxes.boxes[1].any()
    num = len(cells[0].cell)
    assert sorted(row[0, :num].tolist()) == cells[0].cell.tolist()
    assert not boxes.boxes[0, num:].any()
    for box, thing, cell in zip(boxes.boxes[0, :num].tolist(), boxes.category[0, :num].tolist(), row[0], strict=False):
        sides, category = OBJECTS[int(cells[0].object[cells[0].cell == cell])]
        assert thing == category - 1
        limit = [0.05 * (sides[i % 2 + 2] - sides[i % 2]) for i in range(4)]
        assert all(abs(a - b) <= most + 1e-4 for a, b, most in zip(box, sides, limit, strict=True))


def test_every_object_trains_a_mask_before_another_trains_two() -> None:
    targets = of(OBJECTS)
    cells = assigned(random_logits(2)[:1], targets)
    num = len(OBJECTS)
    assert torch.bincount(cells[0].object).max() > 2
    for seed in range(5):
        torch.manual_seed(seed)
        _, row = sample_mask_cells(cells, targets, MaskSampling(num))
        place = (cells[0].cell[:, None] == row[0]).int().argmax(dim=0)
        assert sorted(cells[0].object[place].tolist()) == list(range(num))


def test_several_anchors_are_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match='one anchor for each stride with assignment "aligned", got 3'):
        MaskedBoxRepresentation(assignment="aligned")
