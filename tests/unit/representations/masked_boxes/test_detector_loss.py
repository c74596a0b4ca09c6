"""The detector's loss against a second implementation, object by object, and against Darknet's gradients."""

from __future__ import annotations

import math

import pytest
import torch
from maps import SHAPES
from torch import Tensor
from torchvision.ops import box_iou

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.ops.yolo_boxes import ANCHORS, STRIDES, decode_cells
from panscape.representations.masked_boxes import MaskedBoxRepresentation
from panscape.representations.masked_boxes.detector_loss import DetectorLoss, assign_anchors, detector_loss
from panscape.representations.regions import RegionTargets
from panscape.representations.regions.losses import Objects

SIZE = (64, 96)
CELLS = MaskedBoxRepresentation().cells(SIZE)
NUM = 3 * (8 * 12 + 4 * 6 + 2 * 3)


def targets_of(*images: list[tuple[list[float], int]], segment: Tensor | None = None) -> RegionTargets:
    """Make targets from boxes with a category, 1 disc or 2 box."""
    box, category = torch.zeros(len(images), 6, 4), torch.zeros(len(images), 6, dtype=torch.int64)
    for b, objects in enumerate(images):
        for i, (sides, thing) in enumerate(objects):
            box[b, i], category[b, i] = torch.tensor(sides), thing
    plane = torch.zeros(len(images), *SIZE, dtype=torch.int64)
    segment = plane.int() if segment is None else segment
    valid = torch.tensor([[0.0, 0.0, SIZE[1], SIZE[0]]]).expand(len(images), -1)
    return RegionTargets(plane + 1, segment, box, category, torch.zeros(len(images), 6, 4).bool(), valid)


def loss_of(logits: Tensor, targets: RegionTargets, *, ignore_iou: float = 0.7) -> DetectorLoss:
    return detector_loss(logits, CELLS, targets, 2, ignore_iou=ignore_iou, smallest_share=0.001, max_crowd=0.7)


def random_logits(batch: int = 1, seed: int = 0) -> Tensor:
    return (0.5 * torch.randn(batch, NUM, 7, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def bce(logit: Tensor, target: float) -> float:
    prob = 1 / (1 + math.exp(-float(logit)))
    return -(target * math.log(prob) + (1 - target) * math.log(1 - prob))


def index_of(stride: int, row: int, column: int, anchor: int) -> int:
    start = {8: 0, 16: 3 * 96, 32: 3 * (96 + 24)}[stride]
    return start + (row * (SIZE[1] // stride) + column) * 3 + anchor


def darknet_loss(logits: Tensor, objects: list[tuple[list[float], int]], ignore_iou: float) -> tuple[float, ...]:
    """Return the three losses of one image by Darknet's rules, one object after the other."""
    slots: dict[int, tuple[float, float, float, float, float]] = {}
    things: dict[int, set[int]] = {}
    for (x0, y0, x1, y1), thing in objects:
        w, h, cx, cy = x1 - x0, y1 - y0, (x0 + x1) / 2, (y0 + y1) / 2
        best, where = -1.0, (0, 0)
        for level in range(3):
            for a, (aw, ah) in enumerate(ANCHORS[level]):
                common = min(w, aw) * min(h, ah)
                iou = common / (w * h + aw * ah - common)
                if iou > best:
                    best, where = iou, (level, a)
        stride, (aw, ah) = STRIDES[where[0]], ANCHORS[where[0]][where[1]]
        column, row = int(cx // stride), int(cy // stride)
        slot = index_of(stride, row, column, where[1])
        weight = 2 - (w / SIZE[1]) * (h / SIZE[0])
        slots[slot] = (cx / stride - column, cy / stride - row, math.log(w / aw), math.log(h / ah), weight)
        things.setdefault(slot, set()).add(thing)
    predicted = decode_cells(logits, CELLS).boxes
    box = objectness = category = 0.0
    overlap = box_iou(predicted, torch.tensor([o for o, _ in objects])).amax(1)
    for n in range(NUM):
        if n in slots:
            x, y, w, h, weight = slots[n]
            box += weight * (bce(logits[n, 0], x) + bce(logits[n, 1], y))
            box += weight * ((float(logits[n, 2]) - w) ** 2 + (float(logits[n, 3]) - h) ** 2) / 2
            objectness += bce(logits[n, 4], 1)
            category += sum(bce(logits[n, 4 + t], float(t in things[n])) for t in (1, 2))
        elif overlap[n] <= ignore_iou:
            objectness += bce(logits[n, 4], 0)
    return box, objectness, category


OBJECTS: list[tuple[list[float], int]] = [
    ([3, 5, 14, 19], 1),
    ([20, 10, 82, 60], 2),
    ([40, 30, 73, 54], 1),
    ([41, 31, 72, 53], 2),  # the anchor and the cell of the one before
    ([90, 60, 96, 64], 1),  # in the last cell
]


@pytest.mark.parametrize("ignore_iou", [0.3, 0.45])
def test_it_equals_a_second_implementation(ignore_iou: float) -> None:
    logits = random_logits(2)
    found = loss_of(logits, targets_of(OBJECTS, OBJECTS[:1]), ignore_iou=ignore_iou)
    both = [darknet_loss(one.detach(), o, ignore_iou) for one, o in zip(logits, (OBJECTS, OBJECTS[:1]), strict=True)]
    for value, expected in zip(torch.stack(found).tolist(), zip(*both, strict=True), strict=True):
        assert value == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_some_predictions_are_ignored_in_that_comparison() -> None:
    predicted = decode_cells(random_logits(2).detach(), CELLS).boxes[0]
    overlap = box_iou(predicted, torch.tensor([o for o, _ in OBJECTS])).amax(1)
    assert int((overlap > 0.3).sum()) > 20
    assert int((overlap > 0.45).sum()) > 1


def test_gradients_are_those_of_darknet() -> None:
    logits = random_logits()
    found = loss_of(logits, targets_of(OBJECTS[:1]))
    (gradient,) = torch.autograd.grad(sum(found), logits)
    # 11x14 pixels with the centre (8.5, 12): of all anchors 10x13 fits best, in the second column and row of stride 8.
    row = index_of(8, 1, 1, 0)
    weight = 2 - 11 * 14 / (64 * 96)
    x = logits.detach()[0, row]
    expected = [
        weight * (x[0].sigmoid() - 0.0625),
        weight * (x[1].sigmoid() - 0.5),
        weight * (x[2] - math.log(11 / 10)),
        weight * (x[3] - math.log(14 / 13)),
        x[4].sigmoid() - 1,
        x[5].sigmoid() - 1,
        x[6].sigmoid(),
    ]
    torch.testing.assert_close(gradient[0, row], torch.stack(expected), atol=1e-5, rtol=1e-5)
    others = torch.arange(NUM) != row
    assert bool((gradient[0, others][:, [0, 1, 2, 3, 5, 6]] == 0).all())
    untrained, prob = gradient[0, others, 4], logits.detach()[0, others, 4].sigmoid()
    is_ignored = untrained == 0
    torch.testing.assert_close(untrained[~is_ignored], prob[~is_ignored], atol=1e-6, rtol=1e-5)
    assert int(is_ignored.sum()) < 5


@pytest.mark.parametrize(
    ("box", "stride", "row", "column", "anchor"),
    [
        ([0, 0, 10, 13], 8, 0, 0, 0),
        ([0, 0, 16, 30], 8, 1, 1, 1),
        ([63, 41, 96, 64], 8, 6, 9, 2),
        ([0, 0, 62, 45], 16, 1, 1, 1),
        ([0, 0, 96, 64], 32, 1, 1, 0),
        ([86, 51, 96, 64], 8, 7, 11, 0),
    ],
)
def test_anchors_and_cells_by_hand(box: list[float], stride: int, row: int, column: int, anchor: int) -> None:
    objects = Objects(torch.tensor([box]).float(), torch.tensor([2]), torch.zeros(1, 4).bool())
    found = assign_anchors(objects, CELLS, SIZE[1], 2)
    assert found.anchor.tolist() == [index_of(stride, row, column, anchor)]
    assert CELLS[found.anchor[0]].tolist() == [column, row, stride, *ANCHORS[STRIDES.index(stride)][anchor]]
    assert found.category.tolist() == [[0, 1]]


def test_of_two_objects_with_one_anchor_the_later_gives_the_box_and_both_the_category() -> None:
    boxes = torch.tensor([o for o, _ in OBJECTS]).float()
    found = assign_anchors(Objects(boxes, torch.tensor([1, 2, 1, 2, 1]), boxes > 1e9), CELLS, SIZE[1], 2)
    assert len(found.anchor) == 4
    assert sorted(found.object.tolist()) == [0, 1, 3, 4]
    assert found.category[found.object.tolist().index(3)].tolist() == [1, 1]


def test_images_without_objects_train_objectness_only() -> None:
    logits = random_logits(2)
    found = loss_of(logits, targets_of([], []))
    box, objectness, category = torch.stack(found).tolist()
    expected = torch.nn.functional.softplus(logits.detach()[..., 4]).sum() / 2
    assert objectness == pytest.approx(float(expected), rel=1e-5)
    assert box == category == 0
    found.box.backward(retain_graph=True)  # there is a path
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())


def test_objects_below_a_thousandth_of_a_side_are_left_out() -> None:
    logits = random_logits().detach()
    thin = loss_of(logits, targets_of([([10, 10, 10.05, 40], 1)]))
    assert [float(v) for v in thin] == [float(v) for v in loss_of(logits, targets_of([]))]
    assert float(loss_of(logits, targets_of([([10, 10, 10.2, 40], 1)])).box) > 0


def test_predictions_on_crowds_are_no_background() -> None:
    logits = torch.zeros(1, NUM, 7)
    segment = torch.zeros(1, *SIZE, dtype=torch.int32)
    segment[:, :, 48:] = -1
    without, found = (float(loss_of(logits, targets_of([], segment=s)).objectness) for s in (segment * 0, segment))
    predicted = decode_cells(logits, CELLS).boxes[0]
    covered = (predicted[:, 2].round().clamp(48, 96) - predicted[:, 0].round().clamp(48, 96)) * (
        predicted[:, 3].round().clamp(0, 64) - predicted[:, 1].round().clamp(0, 64)
    )
    num = int((covered >= 0.7 * (predicted[:, 2:] - predicted[:, :2]).prod(1)).sum())
    assert 50 < num < NUM / 2
    assert without - found == pytest.approx(num * math.log(2), rel=1e-4)


def test_a_detector_of_other_categories_is_an_error() -> None:
    message = r"expected detector logits \[1, 378, 7\] for 2 things, got \[1, 378, 85\]"
    with pytest.raises(InvalidArgumentError, match=message):
        loss_of(torch.zeros(1, NUM, 85), targets_of([]))


def test_perfect_logits_cost_the_entropy_of_places_only() -> None:
    truth = PanopticMap(torch.ones(SIZE, dtype=torch.int32), torch.tensor([2]))
    truth.ids[:, :40] = 0
    targets = RegionTargets(*(t[None] for t in MaskedBoxRepresentation().encode(truth, SHAPES, SIZE)))
    logits = torch.full((1, NUM, 7), -30.0)
    # 56x64 pixels, centre (68, 32): 62x45 fits best, at stride 16 in column 4, row 2.
    row = index_of(16, 2, 4, 1)
    logits[0, row] = torch.tensor([math.log(0.25 / 0.75), -30, math.log(56 / 62), math.log(64 / 45), 30, 30, -30])
    found = loss_of(logits, targets)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert float(found.box) == pytest.approx(entropy * (2 - 56 / 96), rel=1e-4)
    assert float(found.objectness) + float(found.category) < 1e-6
